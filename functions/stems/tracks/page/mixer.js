// A song's own view: its stems in step, mixed, looped, shared and downloaded.

import { Actions } from "./actions.js";
import { getJson, getTrack } from "./api.js";
import { Player } from "./audio/player.js";
import { openSource, PREFERRED } from "./audio/source.js";
import { el, icon, iconButton, setAttribute, setText, showProblem } from "./dom.js";
import { Exporter } from "./exporter.js";
import { listen } from "./keys.js";
import { makeLink } from "./link.js";
import { Mix } from "./mix.js";
import { scan } from "./scan.js";
import { Strip } from "./strip.js";
import { Clock, Timeline } from "./timeline.js";
import { Peaks } from "./waves.js";
import { ago, clock, inOrder, songName } from "./words.js";

const LINK_MS = 400;
const DRAW_MS = 100;

/** Open a song; `link` as readLink returns it. Resolves to the Mixer; rejects with Problem. */
export async function openMixer(link, signal) {
  const track = await getTrack(link.song, signal);
  const peaks = track.peaks ? await getJson(track.peaks, signal).catch(() => null) : null;
  const stems = inOrder(track.stems.map(({ stem }) => stem));
  const open = async (stem) => {
    const files = track.stems.filter((file) => file.stem === stem);
    const best = PREFERRED.map((format) => files.find((file) => file.format === format)).find(Boolean) ?? files[0];
    return [stem, await openSource(best, signal)];
  };
  return new Mixer(track, new Map(await Promise.all(stems.map(open))), peaks, link);
}

class Mixer {
  constructor(track, sources, peaks, link) {
    this.track = track;
    this.player = new Player(sources);
    this.duration = this.player.length / this.player.rate;
    this.mix = new Mix([...sources.keys()]);
    this.mix.read(link.mix);
    this.player.setGains(this.mix.gains());
    this.peaks = new Peaks([...sources.keys()], this.player.length, peaks);
    this.element = el("section", { class: "mixer", "aria-label": "Mixer" });
    this.timeline = new Timeline(this.duration, this.element);
    this.clock = new Clock(this.duration);
    this.exporter = new Exporter(
      track,
      sources,
      () => this.mix.gains(),
      () => this.samples(this.activeLoop()),
    );
    this.strips = [...sources.keys()].map((stem) => {
      const files = track.stems.filter((file) => file.stem === stem);
      return new Strip(stem, files, this.mix, this.peaks.stems.get(stem));
    });
    this.loop = null;
    this.isLooping = false;
    this.build();
    this.follow();
    this.seek(Math.min(link.at, this.duration));
    if (link.loop) this.setLoop(link.loop);
  }

  build() {
    const { track } = this;
    const name = songName(track.name);
    this.playButton = el("button", { type: "button", class: "play", onclick: () => this.toggle() });
    this.loopButton = el(
      "button",
      { type: "button", class: "button", onclick: () => this.toggleLoop() },
      icon("loop"),
      el("span", { text: "Loop" }),
    );
    this.loopText = el("span", { class: "loop-text muted" });
    this.said = el("p", { class: "visually-hidden", role: "status" });
    const transport = el(
      "div",
      { class: "transport", role: "group", "aria-label": "Playback" },
      iconButton("start", "To the beginning", () => this.seek(0)),
      this.playButton,
      this.clock.element,
      el(
        "div",
        { class: "loop-keys" },
        el("button", {
          type: "button",
          class: "button small",
          text: "Loop from here",
          onclick: () => this.loopEdge(0),
        }),
        el("button", { type: "button", class: "button small", text: "Loop to here", onclick: () => this.loopEdge(1) }),
        this.loopButton,
        this.loopText,
      ),
    );
    const actions = new Actions(track, this.exporter.element, () => this.link());
    this.heading = el("h1", { tabindex: -1, text: name });
    const facts = [clock(this.duration), `model ${track.model.name}`, ago(track.created)];
    this.lanes = el(
      "div",
      { class: "lanes" },
      this.timeline.ruler,
      el("ul", { class: "strips" }, ...this.strips.map(({ element }) => element)),
    );
    this.keys = listen(this.work());
    this.element.append(
      el("a", { class: "back", href: "#" }, icon("back"), el("span", { text: "All songs" })),
      el(
        "header",
        { class: "song-head" },
        el(
          "div",
          { class: "song-title" },
          this.heading,
          el("p", { class: "muted", text: facts.join(" · ") }),
          track.model.note ? el("p", { class: "note", text: track.model.note }) : null,
        ),
        actions.element,
      ),
      transport,
      this.timeline.slider,
      this.lanes,
      el("p", { class: "hint", text: "Click in the waveform to go there, drag to loop a part of it." }),
      this.keys.element,
      this.said,
    );
  }

  follow() {
    const { player, mix, timeline } = this;
    player.addEventListener("state", () => this.showState());
    player.addEventListener("problem", ({ detail }) => showProblem(detail));
    const found = (start, samples) => this.peaks.add(start, samples) && this.draw();
    player.addEventListener("window", ({ detail }) => found(detail.start, detail.samples));
    const unknown = new Map(this.peaks.missing.map((stem) => [stem, player.sources.get(stem)]));
    this.scanning = new AbortController();
    // What cannot be had now is shown when it is played.
    if (unknown.size) scan(unknown, player.length, found, this.scanning.signal).catch(() => {});
    mix.addEventListener("change", () => {
      player.setGains(mix.gains());
      this.strips.forEach((strip) => strip.show());
      this.changed();
    });
    timeline.addEventListener("seek", ({ detail }) => this.seek(detail));
    timeline.addEventListener("loop", ({ detail }) =>
      detail ? this.setLoop(detail) : timeline.showLoop(this.activeLoop()),
    );
    this.resized = new ResizeObserver(() => this.draw());
    this.resized.observe(this.lanes);
    this.schemes = matchMedia("(prefers-color-scheme: dark)");
    this.redraw = () => this.draw();
    this.schemes.addEventListener("change", this.redraw);
    document.addEventListener("themechange", this.redraw);
    this.showState();
    this.showLoop();
  }

  /** What the keys do. */
  work() {
    const at = (index, change) => {
      const stem = this.strips[index]?.stem;
      if (stem) this.mix.set(stem, { [change]: !this.mix.channels.get(stem)[change] });
    };
    return {
      toggle: () => this.toggle(),
      step: (seconds) => this.seek(this.seconds + seconds),
      toStart: () => this.seek(0),
      toEnd: () => this.seek(this.duration),
      mute: (index) => at(index, "muted"),
      solo: (index) => at(index, "solo"),
      reset: () => this.mix.read(this.mix.usual),
      loopStart: () => this.loopEdge(0),
      loopEnd: () => this.loopEdge(1),
      toggleLoop: () => this.toggleLoop(),
    };
  }

  get seconds() {
    return this.player.position / this.player.rate;
  }

  toggle() {
    if (this.player.state === "paused") this.player.play().catch(showProblem);
    else this.player.pause();
  }

  seek(seconds) {
    this.player.seek(seconds * this.player.rate);
    this.show();
    this.changed();
  }

  showState() {
    const { state } = this.player;
    const label = state === "paused" ? "Play" : "Pause";
    setAttribute(this.playButton, "aria-label", label);
    setAttribute(this.playButton, "title", `${label} (Space)`);
    setAttribute(this.playButton, "data-state", state);
    this.playButton.replaceChildren(icon(state === "paused" ? "play" : "pause"));
    setText(this.said, state === "stalled" ? "Loading" : "");
    if (state !== "paused") this.animate();
    else this.show();
  }

  animate() {
    cancelAnimationFrame(this.animation);
    this.show();
    if (this.player.state !== "paused") this.animation = requestAnimationFrame(() => this.animate());
  }

  show() {
    this.timeline.show(this.seconds);
    this.clock.show(this.seconds);
    this.strips.forEach((strip) => strip.meter(this.player.level(strip.stem)));
  }

  draw() {
    this.drawing ??= setTimeout(() => {
      this.drawing = null;
      const { most } = this.peaks;
      this.strips.forEach((strip) => strip.draw(most));
    }, DRAW_MS);
  }

  activeLoop() {
    return this.isLooping ? this.loop : null;
  }

  /** Set a region in seconds and repeat it. */
  setLoop([start, end]) {
    const from = Math.max(0, Math.min(start, this.duration - 0.1));
    this.loop = [from, Math.min(this.duration, Math.max(end, from + 0.1))];
    this.isLooping = true;
    if (this.seconds < this.loop[0] || this.seconds >= this.loop[1]) this.seek(this.loop[0]);
    this.showLoop();
  }

  loopEdge(edge) {
    const here = this.seconds;
    const [start, end] = this.activeLoop() ?? [0, this.duration];
    if (edge === 0) this.setLoop([here, end > here + 0.1 ? end : this.duration]);
    else this.setLoop([start < here - 0.1 ? start : 0, Math.max(here, 0.1)]);
  }

  toggleLoop() {
    this.isLooping = !this.isLooping;
    this.loop ??= [0, this.duration];
    this.showLoop();
  }

  showLoop() {
    const loop = this.activeLoop();
    const samples = this.samples(loop);
    this.player.setLoop(samples && { start: samples[0], end: samples[1] });
    this.timeline.showLoop(loop);
    setAttribute(this.loopButton, "aria-pressed", this.isLooping);
    setText(this.loopText, loop ? `${clock(loop[0])} – ${clock(loop[1])}` : "");
    this.exporter.showRegion(loop);
    this.changed();
  }

  samples(seconds) {
    return seconds && seconds.map((time) => Math.min(this.player.length, Math.round(time * this.player.rate)));
  }

  link() {
    return makeLink({ song: this.track.songhash, mix: String(this.mix), loop: this.activeLoop(), at: this.seconds });
  }

  /** Keep the address up to date, so that it can be copied, kept and loaded again. */
  changed() {
    clearTimeout(this.linking);
    this.linking = setTimeout(() => history.replaceState(null, "", this.link()), LINK_MS);
  }

  close() {
    clearTimeout(this.linking);
    clearTimeout(this.drawing);
    cancelAnimationFrame(this.animation);
    this.resized.disconnect();
    this.schemes.removeEventListener("change", this.redraw);
    document.removeEventListener("themechange", this.redraw);
    this.keys.stop();
    this.scanning.abort();
    this.exporter.close();
    this.player.close();
  }
}
