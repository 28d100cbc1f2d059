// Tables: a click on a header sorts, a word in the box filters.
function sortBy(table, column, header) {
  const numeric = header.classList.contains("number"), before = header.getAttribute("aria-sort");
  const falling = numeric ? before !== "descending" : before === "ascending";
  const value = (row) => {
    const cell = row.cells[column];
    return numeric && cell.dataset.value !== undefined ? Number(cell.dataset.value) : cell.textContent;
  };
  const rows = [...table.tBodies[0].rows].sort((one, two) => {
    const [a, b] = [value(one), value(two)];
    if (numeric && typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    const order = typeof a === "number" ? a - b : a.localeCompare(b, undefined, {numeric: true});
    return falling ? -order : order;
  });
  for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", falling ? "descending" : "ascending");
  table.tBodies[0].append(...rows);
}

function wireTables() {
  for (const table of document.querySelectorAll("table[data-table]")) {
    [...table.tHead.rows[0].cells].forEach((header, column) =>
      header.querySelector("button").addEventListener("click", () => sortBy(table, column, header)));
  }
  for (const input of document.querySelectorAll("input[data-filter]")) {
    const name = input.dataset.filter;
    const rows = [...document.querySelector(`table[data-table="${name}"]`).tBodies[0].rows];
    const counter = document.querySelector(`[data-count="${name}"]`);
    input.addEventListener("input", () => {
      const wanted = input.value.toLowerCase();
      for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
      counter.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
    });
  }
}
