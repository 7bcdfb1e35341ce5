"use strict";
// Shows one section of the SDM, or those below it: #section=27.3.1.2, #section=27.3. Without a script everything is shown.
const select = document.getElementById("section");
const form = document.getElementById("filter");
const parts = [...document.querySelectorAll("[data-sections]")];

const apply = () => {
  const found = /^#section=([0-9.]+)$/.exec(decodeURIComponent(location.hash));
  const section = found ? found[1] : "";
  const within = (number) => number === section || number.startsWith(section + ".");
  for (const part of parts) {
    part.hidden = section !== "" && !part.dataset.sections.split(" ").some(within);
  }
  for (const part of document.querySelectorAll("[data-overall]")) {
    part.hidden = section !== "";
  }
  select.value = section;
  const visible = (selector) => parts.filter((part) => part.matches(selector) && !part.hidden);
  for (const text of document.querySelectorAll("[data-none]")) {
    text.hidden = section === "" || visible(text.dataset.none).length > 0;
  }
  const checks = visible(".part").flatMap((part) => [...part.querySelectorAll("[data-check]")]);
  const number = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
  document.getElementById("shown").textContent = [
    number(checks.length, "check"),
    number(visible(".finding").length, "finding"),
    number(visible(".deviation").length, "deviation"),
  ].join(", ");
};

select.addEventListener("change", () => {
  location.hash = select.value === "" ? "" : `section=${select.value}`;
});
window.addEventListener("hashchange", () => {
  apply();
  if (location.hash.startsWith("#section=")) {
    form.scrollIntoView();
  }
});
// What a fragment names is what the filter shows; the browser must not scroll past the findings.
for (const part of document.querySelectorAll(".part")) {
  part.removeAttribute("id");
}
form.hidden = false;
apply();
