"use strict";
// Adds what HTML alone cannot do; the page says everything without it.
const details = document.getElementById("block");
const blocks = [...document.querySelectorAll(".block")];
const tell = (block) => { if (details) details.textContent = block.getAttribute("aria-label"); };
blocks.forEach((block, index) => {
  block.addEventListener("focus", () => tell(block));
  block.addEventListener("click", () => block.focus());
  block.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const to = event.key === "Home" ? 0 : event.key === "End" ? blocks.length - 1 : index + (step ?? NaN);
    if (blocks[to]) { event.preventDefault(); blocks[to].focus(); }
  });
  // One stop for the Tab key; the arrow keys go on from there.
  if (index > 0) block.setAttribute("tabindex", "-1");
});
for (const input of document.querySelectorAll("[data-filter]")) {
  input.closest("label").hidden = false;
  input.addEventListener("input", () => {
    const wanted = input.value.toLowerCase();
    for (const row of document.querySelectorAll(`#${input.dataset.filter} tbody tr`)) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
    }
  });
}
if (navigator.clipboard) {
  for (const digest of document.querySelectorAll("dd.digest")) {
    const text = digest.textContent;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    });
    digest.append(button);
  }
}
