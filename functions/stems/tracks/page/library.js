// The songs that are separated, newest first, with search.

import { getPage, getTracks, removeTrack } from "./api.js";
import { confirmed, el, icon, iconButton, setText, showProblem, toast } from "./dom.js";
import { ago, clock, inOrder, songName, stemName } from "./words.js";

const TYPING_MS = 200;
const AGAIN_MS = 3000;

/** The list and its search field. */
export class Library {
  constructor(live) {
    this.query = "";
    this.search = el("input", {
      type: "search",
      id: "search",
      placeholder: "Search by name",
      autocomplete: "off",
      spellcheck: "false",
      oninput: () => this.typed(),
    });
    this.list = el("ul", { class: "rows" });
    this.more = el("button", {
      type: "button",
      class: "button",
      text: "Show more",
      hidden: true,
      onclick: () => this.showMore(),
    });
    this.empty = el("div", { class: "empty", hidden: true });
    this.said = el("p", { class: "visually-hidden", role: "status" });
    this.element = el(
      "section",
      { class: "library", "aria-labelledby": "library-title" },
      el(
        "div",
        { class: "section-head" },
        el("h2", { id: "library-title", text: "Library" }),
        el(
          "div",
          { class: "search" },
          icon("search"),
          el("label", { for: "search", class: "visually-hidden", text: "Search the library by name" }),
          this.search,
        ),
      ),
      this.said,
      this.list,
      this.empty,
      this.more,
    );
    live.addEventListener("track", ({ detail }) => this.arrived(detail));
    live.addEventListener("removed", ({ detail }) => this.gone(detail.songhash));
    live.addEventListener("tracks", () => this.load());
    this.load();
  }

  typed() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.query = this.search.value.trim();
      this.load();
    }, TYPING_MS);
  }

  /** Ask for the first page anew. */
  async load() {
    clearTimeout(this.again);
    this.asking?.abort();
    this.asking = new AbortController();
    try {
      const page = await getTracks({ q: this.query, signal: this.asking.signal });
      this.next = page.next;
      this.list.replaceChildren(...page.tracks.map((track) => this.row(track)));
      this.known = true;
      this.shown();
    } catch (error) {
      if (error.name !== "AbortError") this.failed(error);
    }
  }

  async showMore() {
    this.more.disabled = true;
    try {
      const page = await getPage(this.next);
      this.next = page.next;
      const before = this.list.children.length;
      this.list.append(...page.tracks.map((track) => this.row(track)));
      this.list.children[before]?.querySelector("a").focus(); // the button may be gone
      this.shown();
    } catch (error) {
      showProblem(error);
    }
    this.more.disabled = false;
  }

  shown() {
    const count = this.list.children.length;
    this.more.hidden = !this.next;
    this.empty.hidden = count > 0;
    this.empty.classList.remove("error");
    const [title, text] = this.query
      ? [`Nothing is called “${this.query}…”`, "The search goes by how a name begins."]
      : ["No songs yet", "What is uploaded appears here when it is separated."];
    this.empty.replaceChildren(
      icon("music"),
      el("p", { class: "empty-title", text: title }),
      el("p", { class: "muted", text }),
    );
    setText(this.said, this.query ? `${count}${this.next ? " or more" : ""} songs found` : "");
  }

  failed(error) {
    if (error.status === 503 || !error.status) this.again = setTimeout(() => this.load(), AGAIN_MS);
    if (this.list.children.length) return; // what is shown stays; the line at the top says that the server is away
    this.empty.hidden = false;
    this.empty.classList.add("error");
    this.empty.replaceChildren(
      icon("alert"),
      el("p", { class: "empty-title", text: "The library cannot be shown" }),
      el("p", { class: "muted", text: error.message }),
      el("button", { type: "button", class: "button", text: "Try again", onclick: () => this.load() }),
    );
  }

  arrived(track) {
    const isShown = !this.query || track.name.toLowerCase().startsWith(this.query.toLowerCase());
    if (isShown) {
      this.find(track.songhash)?.remove();
      const row = this.row(track);
      row.classList.add("fresh");
      this.list.prepend(row);
      this.shown();
    }
    const open = el("a", { class: "button small", href: `#song=${track.songhash}`, text: "Open" });
    toast(`${songName(track.name)} is ready`, { kind: "success", action: open, seconds: 10 });
  }

  gone(songhash) {
    this.find(songhash)?.remove();
    if (this.known) this.shown();
  }

  find(songhash) {
    return this.list.querySelector(`[data-songhash="${songhash}"]`);
  }

  row(track) {
    const stems = inOrder(track.stems.map(({ stem }) => stem));
    const name = songName(track.name);
    const facts = [clock(track.duration_s), ago(track.created), stems.map(stemName).join(", "), track.model.name];
    const colours = el(
      "span",
      { class: "stem-dots", "aria-hidden": "true" },
      ...stems.slice(0, 8).map((stem) => el("i", { "data-stem": stem })),
    );
    const remove = iconButton("trash", `Remove ${name}`, () => this.remove(track), { "data-needs": "admin" });
    const zip =
      track.zip &&
      el(
        "a",
        {
          class: "icon-button",
          href: track.zip,
          download: true,
          "aria-label": `Download all stems of ${name} as ZIP`,
          title: "Download all stems as ZIP",
        },
        icon("download"),
      );
    return el(
      "li",
      { class: "row track", "data-songhash": track.songhash },
      el(
        "a",
        { class: "row-link", href: `#song=${track.songhash}` },
        el("span", { class: "row-icon" }, colours),
        el(
          "span",
          { class: "row-text" },
          el("span", { class: "row-name", title: track.name, text: name }),
          el("span", { class: "row-status", text: facts.join(" · ") }),
        ),
      ),
      el("span", { class: "row-buttons" }, zip, remove),
    );
  }

  async remove(track) {
    if (await askRemoval(track)) {
      this.gone(track.songhash);
      this.search.focus();
    }
  }
}

/** Ask whether a track is to go, and remove it. Resolves to whether it is gone. */
export async function askRemoval(track) {
  const upload = el("input", { type: "checkbox", id: "remove-upload" });
  const content = [
    el("p", {}, "The stems of ", el("strong", { text: songName(track.name) }), " are deleted. This cannot be undone."),
    el("label", { class: "check" }, upload, el("span", { text: "Delete the uploaded file, too" })),
  ];
  if (!(await confirmed({ title: "Remove this song?", content, action: "Remove", danger: true }))) return false;
  try {
    await removeTrack(track.songhash, upload.checked);
  } catch (error) {
    if (error.status !== 404) {
      showProblem(error);
      return false;
    }
  }
  toast(`${songName(track.name)} is removed`, { kind: "success" });
  return true;
}
