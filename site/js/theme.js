"use strict";
// Runs before the first paint: the chosen theme, else the system's.
(function () {
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  let chosen = null;
  try {
    chosen = localStorage.getItem("theme");
  } catch (error) {
    // Storage is refused: the choice lasts as long as the page.
  }
  function apply() {
    root.dataset.theme = chosen || (system.matches ? "dark" : "light");
    const button = document.getElementById("theme");
    if (button) {
      button.textContent = root.dataset.theme === "dark" ? "Light" : "Dark";
      button.setAttribute("aria-label", `Switch to the ${button.textContent.toLowerCase()} theme`);
    }
    document.dispatchEvent(new Event("themechange"));
  }
  apply();
  system.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", function () {
    const button = document.getElementById("theme");
    // asv's pages have none: they follow what was chosen on the front page.
    if (button) button.addEventListener("click", function () {
      chosen = root.dataset.theme === "dark" ? "light" : "dark";
      try {
        localStorage.setItem("theme", chosen);
      } catch (error) {
        // As above.
      }
      apply();
    });
    apply();
  });
})();
