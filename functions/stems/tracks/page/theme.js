// Dark or light: as the system says, until the button says otherwise.

import { icon } from "./dom.js";

const KEPT = "stems.theme";

/** Make `button` switch between the two. Fires `themechange` on the document. */
export function followTheme(button) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const show = () => {
    const label = isDark() ? "Light colours" : "Dark colours";
    button.setAttribute("aria-label", label);
    button.title = label;
    button.replaceChildren(icon(isDark() ? "sun" : "moon"));
  };
  const kept = localStorage.getItem(KEPT);
  if (kept === "dark" || kept === "light") document.documentElement.dataset.theme = kept;
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    localStorage.setItem(KEPT, document.documentElement.dataset.theme);
    show();
    document.dispatchEvent(new Event("themechange"));
  });
  system.addEventListener("change", show);
  show();
}
