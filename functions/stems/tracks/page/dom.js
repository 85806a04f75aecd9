// Elements, made in one expression; nothing here knows of songs.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an element. `attributes`: `class`, `text`, `onclick` and its like are understood, `false` and null leave an
 * attribute out, `true` sets it empty; children may be null.
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Make one of the icons that index.html holds. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** Make a button with an icon alone; `label` is its name for everybody who cannot see it, and its tooltip. */
export function iconButton(name, label, onclick, attributes = {}) {
  return el(
    "button",
    { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...attributes },
    icon(name),
  );
}

/** Change what differs only: screen readers speak what is set anew, and focus stays. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/** Bring the children of `parent` into the order of `wanted`, touching only those that move. */
export function arrange(parent, wanted) {
  const kept = new Set(wanted);
  [...parent.children].filter((child) => !kept.has(child)).forEach((child) => child.remove());
  wanted.forEach((child, index) => {
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null);
  });
}

/** Say something for some seconds, aloud to screen readers. `action`: an element to put beside it. */
export function toast(message, { kind = "info", action = null, seconds = 7 } = {}) {
  const close = () => note.remove();
  const note = el(
    "div",
    { class: `toast ${kind}` },
    icon(kind === "error" ? "alert" : "check"),
    el("span", { text: message }),
    action,
    iconButton("close", "Dismiss", close),
  );
  action?.addEventListener("click", close);
  document.getElementById("toasts").append(note);
  setTimeout(close, seconds * 1000);
}

/** Show what went wrong, where a button had no place for it. */
export function showProblem(error) {
  if (error.name !== "AbortError") toast(error.message, { kind: "error", seconds: 12 });
}

/**
 * Ask before something is done. `content`: elements between title and buttons.
 * Resolves to whether it was confirmed; the focus goes back where it was.
 */
export function confirmed({ title, content = [], action, danger = false }) {
  return new Promise((resolve) => {
    const cancel = el("button", {
      type: "submit",
      value: "cancel",
      class: "button",
      text: "Cancel",
      autofocus: danger,
    });
    const go = el("button", {
      type: "submit",
      value: "go",
      class: danger ? "button danger" : "button primary",
      text: action,
    });
    const dialog = el(
      "dialog",
      { "aria-labelledby": "dialog-title" },
      el(
        "form",
        { method: "dialog" },
        el("h2", { id: "dialog-title", text: title }),
        ...content,
        el("div", { class: "dialog-buttons" }, cancel, go),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "go");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
