// The page: two views, the first page and a song's mixer, chosen by what the address says behind its #.

import { el, icon, setText, toast } from "./dom.js";
import { dropField } from "./drop.js";
import { Library } from "./library.js";
import { readLink } from "./link.js";
import { Live } from "./live.js";
import { openMixer } from "./mixer.js";
import { Options } from "./options.js";
import { Queue } from "./queue.js";
import { learnRole, may, signOut } from "./session.js";
import { followTheme } from "./theme.js";
import { Uploads } from "./uploads.js";

const TITLE = "stems";

const live = new Live();
const uploads = new Uploads();
const options = new Options({ keep: true });
const view = document.getElementById("view");
const queue = new Queue(live, uploads);
const library = new Library(live);
const drop = dropField(take, options.element);
const home = el(
  "div",
  { class: "home" },
  el("h1", { class: "visually-hidden", text: "Songs" }),
  drop,
  queue.element,
  library.element,
);

let open = null; // {song, abort, mixer}

function take(files) {
  if (!files.length) return;
  if (!may("write")) return toast("Your token is for listening: it may not upload songs", { kind: "error" });
  uploads.add(files, options.value());
  if (open) toast(files.length === 1 ? `${files[0].name} is uploading` : `${files.length} songs are uploading`);
}

async function route() {
  const link = readLink();
  if (open && open.song === link.song && !open.isOld) return; // the mixer keeps the address up to date itself
  const before = open;
  leave();
  if (!link.song) {
    document.title = TITLE;
    view.replaceChildren(home);
    if (before) document.querySelector(`[data-songhash="${before.song}"] a`)?.focus();
    return;
  }
  const current = (open = { song: link.song, abort: new AbortController(), mixer: null });
  view.replaceChildren(
    el("div", { class: "loading", role: "status" }, el("span", { class: "spinner" }), "Opening the song"),
  );
  try {
    const mixer = await openMixer(link, current.abort.signal);
    if (current !== open) return mixer.close();
    current.mixer = mixer;
    document.title = `${mixer.heading.textContent} – ${TITLE}`;
    view.replaceChildren(mixer.element);
    mixer.heading.focus();
    scrollTo(0, 0);
  } catch (error) {
    if (current === open && error.name !== "AbortError") view.replaceChildren(missing(error));
  }
}

function leave() {
  open?.abort.abort();
  open?.mixer?.close();
  open = null;
}

function missing(error) {
  const again = () => {
    leave();
    route();
  };
  const isGone = error.status === 404;
  return el(
    "section",
    { class: "empty error", role: "alert" },
    icon("alert"),
    el("h1", { class: "empty-title", text: isGone ? "This song is not here" : "The song cannot be opened" }),
    el("p", { class: "muted", text: isGone ? "It was removed, or the link is not complete." : error.message }),
    el(
      "div",
      { class: "dialog-buttons" },
      el("a", { class: "button", href: "#", text: "All songs" }),
      isGone ? null : el("button", { type: "button", class: "button primary", text: "Try again", onclick: again }),
    ),
  );
}

function showConnection() {
  const line = document.getElementById("connection");
  line.hidden = live.state !== "away";
  setText(line, live.state === "away" ? `No news from the server: ${live.reason}. Trying again …` : "");
  document.documentElement.dataset.live = live.state;
}

live.addEventListener("state", showConnection);
live.addEventListener("state", () => live.state === "live" && learnRole()); // the server may know other tokens now
// It has other stems now; what plays is not cut off, but the next way here shows them.
live.addEventListener("track", ({ detail }) => open?.song === detail.songhash && (open.isOld = true));
addEventListener("hashchange", route);
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // what stands behind # is the song
  view.focus();
});
document.getElementById("sign-out").addEventListener("click", signOut);
learnRole();
followTheme(document.getElementById("theme"));
route();
