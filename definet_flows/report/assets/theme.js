"use strict";
// Light or dark: the system's choice until the button is pressed. Others listen to the event "theme".
const Theme = (() => {
  const root = document.documentElement, button = document.getElementById("theme");
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
  const color = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  function tell() {
    button.setAttribute("aria-pressed", String(dark()));
    button.textContent = dark() ? "Light" : "Dark";
    button.setAttribute("aria-label", dark() ? "Dark theme is on: switch to light" : "Light theme is on: switch to dark");
    document.dispatchEvent(new Event("theme"));
  }
  button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; tell(); });
  system.addEventListener("change", tell);
  tell();
  return { color };
})();
const DATA = JSON.parse(document.getElementById("data").textContent);
