// One stem in the mixer: name, mute, solo, fader, level, waveform, downloads.

import { el, icon, setAttribute } from "./dom.js";
import { gainOf } from "./mix.js";
import { draw } from "./waves.js";
import { decibels, qualityName, size, stemName } from "./words.js";

/** The strip of `stem`; `files`: its entries in the track, one per format. */
export class Strip {
  constructor(stem, files, mix, points) {
    Object.assign(this, { stem, mix, points });
    const name = stemName(stem);
    const toggle = (change) => () => mix.set(stem, { [change]: !mix.channels.get(stem)[change] });
    this.mute = el("button", {
      type: "button",
      class: "toggle mute",
      "aria-label": `Mute ${name}`,
      title: "Mute",
      onclick: toggle("muted"),
      text: "M",
    });
    this.solo = el("button", {
      type: "button",
      class: "toggle solo",
      "aria-label": `Solo ${name}`,
      title: "Solo: this stem alone",
      onclick: toggle("solo"),
      text: "S",
    });
    this.volume = el("input", {
      type: "range",
      class: "fader",
      min: 0,
      max: 100,
      "aria-label": `Volume of ${name}`,
      oninput: () => mix.set(stem, { volume: Number(this.volume.value) }),
      ondblclick: () => mix.set(stem, { volume: 100 }),
    });
    this.level = el("span", { class: "level", "aria-hidden": "true" });
    this.canvases = ["wave rest", "wave played"].map((name) => el("canvas", { class: name, "aria-hidden": "true" }));
    this.lane = el("div", { class: "lane" }, ...this.canvases);
    this.element = el(
      "li",
      { class: "strip", "data-stem": stem },
      el(
        "div",
        { class: "strip-head" },
        el("h3", { class: "strip-name" }, el("i", { class: "dot", "aria-hidden": "true" }), el("span", { text: name })),
        el("div", { class: "strip-keys" }, this.mute, this.solo),
        el("div", { class: "strip-volume" }, this.volume, this.level),
      ),
      this.lane,
      el("div", { class: "strip-files" }, ...files.map((file) => download(file, name))),
    );
    this.show();
  }

  /** Show what the mix says. */
  show() {
    const { volume, muted, solo } = this.mix.channels.get(this.stem);
    setAttribute(this.mute, "aria-pressed", muted);
    setAttribute(this.solo, "aria-pressed", solo);
    if (this.volume.valueAsNumber !== volume) this.volume.value = volume;
    setAttribute(this.volume, "aria-valuetext", decibels(gainOf(volume)));
    setAttribute(this.volume, "title", decibels(gainOf(volume)));
    this.volume.style.setProperty("--value", volume / 100);
    this.element.classList.toggle("silent", this.mix.gains().get(this.stem) === 0);
  }

  /** Draw the waveform; `most`: the loudest point of the song. */
  draw(most) {
    this.canvases.forEach((canvas) => draw(canvas, this.points, most));
  }

  /** Show the level, from 0 to 1. */
  meter(level) {
    const shown = level > 0.001 ? Math.max(0, 1 + (20 * Math.log10(level)) / 60) : 0; // 60 dB
    this.level.style.setProperty("--level", shown.toFixed(3));
  }
}

function download(file, name) {
  const made = file.quality ? ` (${qualityName(file.format, file.quality)})` : "";
  const label = `Download ${name} as ${file.format.toUpperCase()}${made}, ${size(file.size)}`;
  return el(
    "a",
    { class: "file", href: file.url, download: true, "aria-label": label, title: label },
    icon("download"),
    el("span", { text: file.format.toUpperCase() }),
  );
}
