"use strict";
// The page is complete without this: arrow keys in the map, the filter over VMSA fields, copy buttons.
(() => {
  for (const element of document.querySelectorAll(".js")) element.hidden = false;

  // The map is one stop for Tab; from there the arrow keys go from block to block in address order.
  const number = (block) => Number(block.id.slice("block-".length));
  const blocks = [...document.querySelectorAll(".map .b")].sort((a, b) => number(a) - number(b));
  const places = [...document.querySelectorAll(".map figure")].filter((figure) => figure.querySelector(".b"));
  const visit = (block) => {
    for (const other of blocks) other.tabIndex = other === block ? 0 : -1;
  };
  if (blocks.length) visit(blocks[0]);
  for (const block of blocks) block.addEventListener("focus", () => visit(block));
  document.querySelector(".map")?.addEventListener("keydown", (event) => {
    const at = blocks.indexOf(event.target);
    if (at < 0 || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const place = places.indexOf(event.target.closest("figure"));
    const to = {
      ArrowRight: () => blocks[at + 1],
      ArrowLeft: () => blocks[at - 1],
      ArrowDown: () => places[place + 1]?.querySelector(".b"),
      ArrowUp: () => places[place - 1]?.querySelector(".b"),
      Home: () => blocks[0],
      End: () => blocks[blocks.length - 1],
    }[event.key];
    if (!to) return;
    event.preventDefault();
    to()?.focus();
  });

  const filter = document.getElementById("filter");
  const fields = [...document.querySelectorAll(".fields tbody tr")].map((row) => [row, row.textContent.toLowerCase()]);
  filter?.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const [row, text] of fields) {
      row.hidden = !words.every((word) => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    document.querySelector(".filter output").textContent = words.length ? `${shown} of ${fields.length} fields` : "";
  });

  for (const button of document.querySelectorAll("button.copy")) {
    const code = button.parentElement.querySelector("code");
    button.setAttribute("aria-live", "polite");
    button.addEventListener("click", async () => {
      let done = true;
      try {
        await navigator.clipboard.writeText(code.textContent);
      } catch {
        // Browsers may refuse the clipboard to a page from a file; then the number is at least selected.
        getSelection().selectAllChildren(code);
        done = false;
      }
      button.firstChild.data = done ? "Copied" : "Selected";
      setTimeout(() => { button.firstChild.data = "Copy"; }, 2000);
    });
  }
})();
