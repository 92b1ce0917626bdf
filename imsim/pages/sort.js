"use strict";
// A click on the head of a column sorts the table by it. A cell without text goes last. What a cell
// sorts by may stand in data-key.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, column) => {
    if (head.tagName !== "TH" || head.hasAttribute("data-plain")) return;
    const button = document.createElement("button");
    button.textContent = head.textContent;
    button.type = "button";
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const rows = [...body.rows].map((row) => [key(row.cells[column]), row]);
      rows.sort(([a], [b]) => (a === null) - (b === null) || sign * compared(a, b));
      const sorted = document.createDocumentFragment();
      for (const [, row] of rows) sorted.append(row);
      body.append(sorted);
    });
  });
}

function key(cell) {
  const text = cell.dataset.key ?? cell.textContent;
  const number = Number(text.replace("inf", "Infinity"));
  return text === "" ? null : Number.isNaN(number) ? text : number;
}

function compared(a, b) {
  if (a === null) return 0;
  if (typeof a === "number" && typeof b === "number") return (a > b) - (a < b);
  return String(a).localeCompare(String(b), "en", { numeric: true });
}
document.documentElement.dataset.ready = "true";
