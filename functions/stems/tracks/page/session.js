// Whose page this is: the token is asked for when the server wants one, and goes into a cookie that no script can read.

import { el, toast } from "./dom.js";

const ROLES = ["read", "write", "admin"];
const NOBODY = "anybody"; // where no token is needed
const root = document.documentElement;

/** Ask the server what this browser may do; base.css hides what `data-needs` more. Until it is known, nothing is. */
export async function learnRole() {
  const answer = await fetch("/v1/session", { cache: "no-store" }).catch(() => null);
  if (!answer?.ok) return; // what is refused asks for a token, and that comes here
  const { name, role } = await answer.json();
  root.dataset.role = role;
  document.getElementById("sign-out").hidden = name === NOBODY;
}

/** Have the server forget the token; what it has shown goes with the page. */
export async function signOut() {
  const answer = await fetch("/v1/session", { method: "DELETE" }).catch(() => null);
  if (answer?.ok) location.reload();
  else toast("You are still signed in: the server cannot be reached", { kind: "error" });
}

/** Tell whether this browser may do what needs `role`. */
export function may(role) {
  return ROLES.indexOf(root.dataset.role ?? "admin") >= ROLES.indexOf(role);
}

let asking = null; // one dialog, however many requests are refused at a time

/** Ask for a token until the server takes one; resolves to whether it did. */
export function signIn() {
  asking ??= ask().finally(() => (asking = null));
  return asking;
}

function ask() {
  return new Promise((resolve) => {
    const wrong = el("p", { class: "sign-in-wrong", role: "alert" });
    const field = el("input", {
      type: "password",
      id: "token",
      autocomplete: "current-password",
      spellcheck: "false",
      required: true,
      autofocus: true,
    });
    const form = el(
      "form",
      {},
      el("h2", { id: "sign-in-title", text: "Sign in" }),
      el("label", { for: "token", text: "Your token, as whoever runs this server gave it to you" }),
      field,
      wrong,
      el("div", { class: "dialog-buttons" }, el("button", { class: "button primary", text: "Sign in" })),
    );
    const dialog = el("dialog", { "aria-labelledby": "sign-in-title" }, form);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      wrong.textContent = await begin(field.value.trim());
      if (wrong.textContent) return field.select();
      dialog.close("in");
    });
    dialog.addEventListener("cancel", (event) => event.preventDefault()); // there is nothing behind it
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "in");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Give the server a token; return what is wrong with it, or nothing. */
async function begin(token) {
  const headers = { "Content-Type": "application/json" };
  try {
    const answer = await fetch("/v1/session", { method: "POST", headers, body: JSON.stringify({ token }) });
    if (answer.ok) {
      await learnRole();
      return "";
    }
    const body = await answer.json().catch(() => null);
    return body?.detail || `the server answers ${answer.status}`;
  } catch {
    return "the server cannot be reached";
  }
}
