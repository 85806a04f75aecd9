// What a song is to become: model, stems and formats, as fields of a form.

import { getModels, patiently } from "./api.js";
import { el } from "./dom.js";
import { inOrder, qualityName, stemName } from "./words.js";

const FORMATS = { mp3: "MP3", flac: "FLAC", wav: "WAV" };
const KEPT = "stems.options";

/** Fields for the options; `value()` returns what of them differs from the server's own. */
export class Options {
  constructor({ keep = false } = {}) {
    this.keep = keep;
    this.id = Options.made = (Options.made ?? 0) + 1;
    this.chosen = (keep && read()) || { model: "", stems: [], format: ["mp3"] };
    this.stems = el("fieldset", { class: "chips" });
    this.models = el("div", { class: "field" });
    this.formats = el("fieldset", { class: "chips" });
    this.element = el(
      "div",
      { class: "options", onchange: () => this.change() },
      this.models,
      this.stems,
      this.formats,
    );
    this.ready = this.load();
  }

  async load() {
    this.showFormats({});
    const known = await patiently(getModels).catch(() => ({ models: [], formats: {} }));
    const { models, default: usual, formats } = known;
    this.usual = usual;
    this.all = models;
    this.showFormats(formats);
    if (models.length > 1) {
      const select = el(
        "select",
        { id: `model-${this.id}` },
        ...models.map(({ name, note }) => el("option", { value: name, text: note ? `${name} – ${note}` : name })),
      );
      select.value = models.some(({ name }) => name === this.chosen.model) ? this.chosen.model : usual;
      this.models.append(el("label", { for: select.id, text: "Model" }), select);
    }
    this.showStems();
  }

  get model() {
    return this.models.querySelector("select")?.value || this.usual;
  }

  /** Show a chip for each format, and a choice of its qualities beside one that is chosen. */
  showFormats(qualities) {
    this.qualities = qualities;
    const fields = Object.entries(FORMATS).map(([format, name]) => {
      const known = qualities[format] ?? [];
      const chosen = this.chosen.format.find((each) => each.split("-")[0] === format)?.split("-")[1];
      const select = el(
        "select",
        { name: "quality", "data-format": format, "aria-label": `Quality of ${name}`, class: "chip-select" },
        ...known.map((quality) => el("option", { value: quality, text: qualityName(format, quality) })),
      );
      select.value = known.includes(chosen) ? chosen : known[0];
      return el("span", { class: "pair" }, this.chip("format", format, name), known.length > 1 ? select : null);
    });
    this.formats.replaceChildren(el("legend", { text: "Format" }), ...fields);
    this.showQualities();
  }

  showQualities() {
    const chosen = this.checked("format");
    this.formats.querySelectorAll("select").forEach((select) => {
      select.hidden = !chosen.includes(select.dataset.format);
    });
  }

  showStems() {
    const sources = inOrder(this.all.find(({ name }) => name === this.model)?.sources ?? []);
    this.stems.hidden = !sources.length;
    const without = sources.includes("vocals") ? [this.chip("stems", "no_vocals", "Without vocals")] : [];
    this.stems.replaceChildren(
      el("legend", { text: "Stems" }),
      ...sources.map((source) => this.chip("stems", source, stemName(source))),
      ...without,
      el("span", { class: "hint", text: "None chosen: all of them." }),
    );
  }

  chip(name, value, text) {
    const checked = this.chosen[name].some((each) => each.split("-")[0] === value);
    return el(
      "label",
      { class: "chip" },
      el("input", { type: "checkbox", name, value, checked }),
      el("span", { text }),
    );
  }

  change() {
    const model = this.model ?? "";
    if (model !== this.shownModel) {
      this.shownModel = model;
      this.chosen.stems = this.checked("stems");
      this.showStems();
    }
    const mp3 = this.formats.querySelector("[value=mp3]");
    if (!this.checked("format").length) mp3.checked = true; // one there must be
    this.showQualities();
    this.chosen = { model, stems: this.checked("stems"), format: this.wantedFormats() };
    if (this.keep) localStorage.setItem(KEPT, JSON.stringify(this.chosen));
  }

  checked(name) {
    return [...this.element.querySelectorAll(`[name=${name}]:checked`)].map(({ value }) => value);
  }

  /** Return the formats that are chosen, with the quality of each that is not made at its usual one: `mp3-v0`. */
  wantedFormats() {
    return this.checked("format").map((format) => {
      const quality = this.formats.querySelector(`select[data-format=${format}]`)?.value;
      return quality && quality !== this.qualities[format][0] ? `${format}-${quality}` : format;
    });
  }

  /** Return {model, stems, format} for the API. */
  value() {
    const stems = this.checked("stems");
    const chosen = this.models.querySelector("select")?.value;
    return {
      ...(chosen && chosen !== this.usual && { model: chosen }),
      ...(stems.length && { stems }),
      format: this.wantedFormats(),
    };
  }
}

function read() {
  try {
    const { model, stems, format } = JSON.parse(localStorage.getItem(KEPT));
    return { model: String(model), stems: [...stems], format: [...format] };
  } catch {
    return null; // nothing kept, or not by this version
  }
}
