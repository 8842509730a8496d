"use strict";
(() => {
  const filter = document.getElementById("filter");
  const failing = document.getElementById("failing");
  const shown = document.getElementById("shown");
  const rows = [...document.querySelectorAll("tbody tr")];
  const texts = rows.map((row) => row.textContent.toLowerCase());

  function apply() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    rows.forEach((row, place) => {
      const fits = words.every((word) => texts[place].includes(word)) && (!failing.checked || row.className === "bad");
      row.hidden = !fits;
      count += fits;
    });
    shown.textContent = words.length || failing.checked ? `${count} of ${rows.length} rows` : "";
  }

  function sort(header) {
    const table = header.closest("table");
    const column = header.cellIndex;
    const falling = header.getAttribute("aria-sort") === "ascending";
    table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const key = header.className === "n" ? (text) => parseFloat(text) : (text) => text;
    const keyed = [...table.tBodies[0].rows].map((row) => [key(row.cells[column].textContent.trim()), row]);
    const known = keyed.filter(([value]) => value === value && value !== "–");
    const unknown = keyed.filter((pair) => !known.includes(pair));
    known.sort(([a], [b]) => (typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true })));
    if (falling) known.reverse();
    table.tBodies[0].append(...[...known, ...unknown].map(([, row]) => row));
  }

  filter.addEventListener("input", apply);
  failing.addEventListener("change", apply);
  document.querySelectorAll("th button").forEach((button) =>
    button.addEventListener("click", () => sort(button.parentElement)));
  apply();
})();
