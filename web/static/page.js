// The pages are whole without this: it shows the slider's value, and "/" leads to the search box.
"use strict";

const slider = document.getElementById("alpha");
const value = document.getElementById("alpha-value");
if (slider && value) {
  slider.addEventListener("input", () => { value.textContent = slider.value; });
}

const box = document.getElementById("q");
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea");
  if (box && event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    box.focus();
    box.select();
  }
});
