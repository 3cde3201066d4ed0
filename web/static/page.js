// The pages are whole without this: it makes them quicker to use.
"use strict";

const slider = document.getElementById("alpha");
const value = document.getElementById("alpha-value");
if (slider && value) {
  slider.addEventListener("input", () => { value.textContent = slider.value; });
}

// A picture that is too large is told before it is sent.
const picture = document.getElementById("picture");
if (picture) {
  picture.addEventListener("change", () => {
    const most = Number(picture.dataset.most);
    const size = picture.files.length ? picture.files[0].size : 0;
    picture.setCustomValidity(size > most ? `This picture is too large: ${Math.ceil(size / 2 ** 20)} MB` : "");
    picture.reportValidity();
  });
}

// What is as it would be anyway does not belong into an address that people hand on.
const search = document.getElementById("search");
if (search) {
  const usual = { alpha: "0.4", sort: "relevance", km: "2" };
  search.addEventListener("formdata", (event) => {
    for (const [name, given] of [...event.formData]) {
      if (given === "" || given === usual[name]) { event.formData.delete(name); }
    }
  });
}

// The live page: what it shows is asked for again every few seconds, until it is told to pause.
const live = document.getElementById("live");
if (live) {
  const button = document.createElement("button");
  let paused = false;
  button.type = "button";
  button.className = "plain small";
  button.textContent = "Pause";
  button.addEventListener("click", () => {
    paused = !paused;
    button.textContent = paused ? "Go on" : "Pause";
  });
  document.getElementById("live-tools").append(button);
  // Who hears the page is told the count alone, and no oftener than it can be said.
  const said = document.getElementById("live-said");
  let told = 0;
  const tell = () => {
    const landed = document.getElementById("landed");
    const text = landed ? `${landed.textContent} landed` : "";
    if (text && text !== said.textContent && Date.now() - told >= 10000) {
      said.textContent = text;
      told = Date.now();
    }
  };
  setInterval(async () => {
    if (paused || document.hidden || live.contains(document.activeElement)) { return; }
    try {
      const answer = await fetch(live.dataset.source);
      if (answer.ok) {
        live.innerHTML = await answer.text();
        tell();
      }
    } catch { /* the server is away: what is shown stays, and it is asked again */ }
  }, 3000);
}

// The dead letters: choose all that are shown.
const all = document.getElementById("all");
if (all) {
  all.closest(".script").hidden = false;
  all.addEventListener("change", () => {
    for (const one of document.querySelectorAll("input[name=ids]")) { one.checked = all.checked; }
  });
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
