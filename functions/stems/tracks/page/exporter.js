// The current mix as a WAV, made here: a button, its progress, and the file.

import { render } from "./audio/render.js";
import { el, icon, setText, showProblem, toast } from "./dom.js";
import { clock, songName } from "./words.js";

/** `gains()`: of the mix now; `region()`: [start, end] in samples that are looped now, or null for the whole song. */
export class Exporter {
  constructor(track, sources, gains, region) {
    Object.assign(this, { track, sources, gains, region });
    this.label = el("span", { text: "Mix as WAV" });
    this.bar = el("progress", { max: 1, value: 0, hidden: true, "aria-label": "Progress of the mix" });
    this.element = el(
      "button",
      { type: "button", class: "button export", onclick: () => this.click() },
      icon("download"),
      this.label,
      this.bar,
    );
    this.addresses = [];
  }

  /** Say what would be rendered. */
  showRegion(loop) {
    this.usual = loop ? "Loop as WAV" : "Mix as WAV";
    this.element.title = loop ? `The mix from ${clock(loop[0])} to ${clock(loop[1])}` : "The song as it is mixed now";
    if (!this.running) setText(this.label, this.usual);
  }

  async click() {
    if (this.running) {
      this.running.abort();
      return;
    }
    this.running = new AbortController();
    this.bar.hidden = false;
    setText(this.label, "Cancel");
    try {
      const length = Math.max(...[...this.sources.values()].map((source) => source.length));
      const [start, end] = this.region() ?? [0, length];
      const progress = (share) => (this.bar.value = share);
      const { blob, clipped } = await render(this.sources, this.gains(), start, end, {
        signal: this.running.signal,
        progress,
      });
      this.save(blob);
      toast(clipped ? `The mix is saved; ${clipped} samples were too loud and are clipped` : "The mix is saved", {
        kind: "success",
      });
    } catch (error) {
      showProblem(error);
    }
    this.running = null;
    this.bar.hidden = true;
    this.bar.value = 0;
    setText(this.label, this.usual);
  }

  save(blob) {
    const address = URL.createObjectURL(blob);
    this.addresses.push(address);
    el("a", { href: address, download: `${songName(this.track.name)} - mix.wav` }).click();
  }

  close() {
    this.running?.abort();
    this.addresses.forEach((address) => URL.revokeObjectURL(address));
  }
}
