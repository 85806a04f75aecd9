// What can be done with a song as a whole: share, download, separate again, remove.

import { rerunTrack } from "./api.js";
import { confirmed, el, icon, iconButton, showProblem, toast } from "./dom.js";
import { askRemoval } from "./library.js";
import { Options } from "./options.js";
import { songName } from "./words.js";

/** The buttons of a song. `exporter`: the one that renders the mix; `link()`: the address behind # of the mix now. */
export class Actions {
  constructor(track, exporter, link) {
    Object.assign(this, { track, link });
    const labelled = (tag, attributes, symbol, text) =>
      el(tag, { class: "button", ...attributes }, icon(symbol), el("span", { text }));
    this.element = el(
      "div",
      { class: "song-actions" },
      labelled("button", { type: "button", onclick: () => this.share() }, "link", "Copy link"),
      labelled("a", { href: track.zip, download: true }, "download", "All as ZIP"),
      exporter,
      iconButton("again", "Separate again with other options", () => this.rerun(), { "data-needs": "write" }),
      iconButton("trash", `Remove ${songName(track.name)}`, () => this.remove(), { "data-needs": "admin" }),
    );
  }

  async share() {
    const address = new URL(this.link(), location.href).href;
    try {
      await navigator.clipboard.writeText(address);
      toast("The link to this mix is copied", { kind: "success" });
    } catch {
      // Without HTTPS, browsers give no clipboard.
      const field = el("input", {
        type: "text",
        readonly: true,
        value: address,
        "aria-label": "Link to this mix",
        autofocus: true,
        onfocus: () => field.select(),
      });
      await confirmed({ title: "Link to this mix", content: [field], action: "Done" });
    }
  }

  async rerun() {
    const options = new Options();
    const text = "Stems of the same model are added to the song, those of another one replace it.";
    const content = [el("p", { class: "muted", text }), options.element];
    if (!(await confirmed({ title: "Separate again", content, action: "Separate" }))) return;
    try {
      await rerunTrack(this.track.songhash, options.value());
      toast(`${songName(this.track.name)} stands in line again`, { kind: "success" });
    } catch (error) {
      showProblem(error);
    }
  }

  async remove() {
    if (await askRemoval(this.track)) location.hash = "";
  }
}
