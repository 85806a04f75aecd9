// The mixer's keys. They can be switched off: single letters disturb speech input (WCAG 2.1.4).

import { el } from "./dom.js";

const KEPT = "stems.keys";

const HELP = [
  ["Space", "play or pause"],
  ["← →", "5 seconds back or on; with Shift 1 second"],
  ["Home, End", "to the beginning or the end"],
  ["1 … 9", "mute a stem; with Shift hear it alone"],
  ["[ and ]", "the loop begins or ends here"],
  ["L", "loop on or off"],
  ["0", "all stems as at the beginning"],
];

/** Listen on the document; `actions`: by name of a key's work. Returns {element, stop}. */
export function listen(actions) {
  const on = el("input", {
    type: "checkbox",
    checked: localStorage.getItem(KEPT) !== "off",
    onchange: () => localStorage.setItem(KEPT, on.checked ? "on" : "off"),
  });
  const element = el(
    "details",
    { class: "keys" },
    el("summary", { text: "Keyboard shortcuts" }),
    el("label", { class: "check" }, on, el("span", { text: "Use these keys" })),
    el(
      "dl",
      {},
      ...HELP.map(([keys, work]) =>
        el(
          "div",
          {},
          el(
            "dt",
            {},
            ...keys.split(" ").map((key) => (/^(and|…)$/.test(key) ? ` ${key} ` : el("kbd", { text: key }))),
          ),
          el("dd", { text: work }),
        ),
      ),
    ),
  );
  const press = (event) => {
    if (!on.checked || event.ctrlKey || event.altKey || event.metaKey || document.querySelector("dialog[open]")) return;
    const target = event.target;
    if (target.matches("input:not([type=range]):not([type=checkbox]), textarea, select")) return;
    // Sliders and buttons keep the keys that are theirs.
    if (target.matches("input[type=range]") && /^(Arrow|Home|End|Page)/.test(event.key)) return;
    if (target.matches("button, a, summary, input[type=checkbox]") && /^( |Enter)$/.test(event.key)) return;
    const action = actionOf(event, actions);
    if (!action) return;
    event.preventDefault();
    action();
  };
  document.addEventListener("keydown", press);
  return { element, stop: () => document.removeEventListener("keydown", press) };
}

function actionOf({ key, code, shiftKey }, actions) {
  const digit = code.match(/^(?:Digit|Numpad)([0-9])$/)?.[1];
  if (digit === "0") return actions.reset;
  if (digit) return () => (shiftKey ? actions.solo : actions.mute)(Number(digit) - 1);
  const step = shiftKey ? 1 : 5;
  return {
    " ": actions.toggle,
    ArrowLeft: () => actions.step(-step),
    ArrowRight: () => actions.step(step),
    Home: actions.toStart,
    End: actions.toEnd,
    "[": actions.loopStart,
    "]": actions.loopEnd,
    l: actions.toggleLoop,
    L: actions.toggleLoop,
  }[key];
}
