// The rows of a folder: which are shown, and the command that accepts the chosen ones.
(() => {
  const rows = [...document.querySelectorAll("table.index tbody tr")];
  const shows = [...document.querySelectorAll("[data-show]")];
  const search = document.getElementById("search");
  const names = new Map(rows.map((row) => [row, row.querySelector("th").firstChild.textContent.toLowerCase()]));

  function filter() {
    const wanted = new Set(shows.filter((box) => box.checked).map((box) => box.value));
    const part = search.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      row.hidden = !wanted.has(row.dataset.status) || !names.get(row).includes(part);
      shown += !row.hidden;
    }
    document.getElementById("shown").textContent = `${shown} of ${rows.length} shown`;
  }
  for (const box of shows) box.addEventListener("change", filter);
  search.addEventListener("input", filter);
  filter();

  const accept = document.querySelector(".accept");
  if (!accept) return;
  const picks = [...document.querySelectorAll("[data-accept]")];
  const command = document.getElementById("command");
  const copy = document.getElementById("copy");
  function write() {
    // Images of one file, such as a stack, are accepted together.
    const words = [...new Set(picks.filter((pick) => pick.checked).map((pick) => pick.dataset.accept))];
    const number = words.length;
    document.getElementById("chosen").textContent = number
      ? `${number} ${number === 1 ? "file" : "files"} chosen, to become the new ${number === 1 ? "reference" : "references"}`
      : "Tick the rows whose change is right.";
    const { command: name, folders } = accept.dataset;
    command.value = number ? `${name} ${folders} ${words.join(" ")}` : "";
    copy.hidden = command.parentElement.hidden = !number;
  }
  function choose(on) {
    for (const pick of picks) pick.checked = on && (pick.checked || !pick.closest("tr").hidden);
    write();
  }
  for (const pick of picks) pick.addEventListener("change", write);
  document.getElementById("all").addEventListener("click", () => choose(true));
  document.getElementById("none").addEventListener("click", () => choose(false));
  copy.addEventListener("click", async () => {
    command.select();
    try {
      await navigator.clipboard.writeText(command.value);
    } catch {
      document.execCommand("copy"); // where a page may not reach the clipboard itself
    }
    document.getElementById("chosen").textContent = "The command is copied.";
  });
  write();
})();
