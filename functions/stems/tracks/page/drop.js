// Where songs are dropped: the whole window takes them, the field in it can be clicked and reached by keyboard.

import { el, icon } from "./dom.js";

/** The field; `take(files)` is called with every lot of them. */
export function dropField(take, options) {
  const input = el("input", {
    type: "file",
    id: "files",
    multiple: true,
    class: "visually-hidden",
    accept: "audio/*,video/*,.mp3,.flac,.wav,.m4a,.ogg,.opus,.aac,.aif,.aiff,.wma",
  });
  input.addEventListener("change", () => {
    take([...input.files]);
    input.value = ""; // the same file may be chosen again
  });
  const field = el(
    "section",
    { class: "drop", "aria-labelledby": "drop-title", "data-needs": "write" },
    el(
      "div",
      { class: "drop-inner" },
      el("span", { class: "drop-icon" }, icon("upload")),
      el("h2", { id: "drop-title", text: "Drop songs here" }),
      el("p", {
        class: "muted",
        text: "Any audio or video file, several at once. Vocals, drums, bass and the rest come back.",
      }),
      input,
      el("label", { for: "files", class: "button primary", text: "Choose files" }),
    ),
    options,
  );
  followDrags(field, take);
  return field;
}

function followDrags(field, take) {
  let depth = 0; // enter and leave come for every element on the way
  const isFiles = (event) => event.dataTransfer?.types.includes("Files");
  const mark = (change) => {
    depth = Math.max(0, change);
    document.body.classList.toggle("dragging", depth > 0);
  };
  addEventListener("dragenter", (event) => isFiles(event) && mark(depth + 1));
  addEventListener("dragleave", (event) => isFiles(event) && mark(depth - 1));
  addEventListener("dragover", (event) => isFiles(event) && event.preventDefault());
  addEventListener("drop", async (event) => {
    if (!isFiles(event)) return;
    event.preventDefault();
    mark(0);
    take(await filesOf(event.dataTransfer));
    field.scrollIntoView({ block: "nearest" });
  });
}

/** Return the files that were dropped, those of folders, too. */
async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.());
  if (!entries.some((entry) => entry?.isDirectory)) return [...transfer.files];
  const found = await Promise.all(entries.filter(Boolean).map(walk));
  return found.flat().filter(({ name }) => !name.startsWith("."));
}

async function walk(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const all = [];
  for (;;) {
    // It hands out a hundred at a time, and none at the end.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return (await Promise.all(all.map(walk))).flat();
    all.push(...some);
  }
}
