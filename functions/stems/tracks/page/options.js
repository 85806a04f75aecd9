// What a song is to become: model, stems and formats, as fields of a form.

import { getModels, patiently } from "./api.js";
import { el } from "./dom.js";
import { stemName } from "./words.js";

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
    this.formats = el(
      "fieldset",
      { class: "chips" },
      el("legend", { text: "Format" }),
      ...Object.entries(FORMATS).map(([format, name]) => this.chip("format", format, name)),
    );
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
    const { models, default: usual } = await patiently(getModels).catch(() => ({ models: [] }));
    this.usual = usual;
    this.all = models;
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

  showStems() {
    const sources = this.all.find(({ name }) => name === this.model)?.sources ?? [];
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
    const checked = this.chosen[name].includes(value);
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
    this.chosen = { model, stems: this.checked("stems"), format: this.checked("format") };
    if (this.keep) localStorage.setItem(KEPT, JSON.stringify(this.chosen));
  }

  checked(name) {
    return [...this.element.querySelectorAll(`[name=${name}]:checked`)].map(({ value }) => value);
  }

  /** Return {model, stems, format} for the API. */
  value() {
    const stems = this.checked("stems");
    const chosen = this.models.querySelector("select")?.value;
    return {
      ...(chosen && chosen !== this.usual && { model: chosen }),
      ...(stems.length && { stems }),
      format: this.checked("format"),
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
