"use strict";
// Sorts and filters the leaderboard's tables. Without this script the page is whole, in the order of its rows.
{
  const UNITS = { "": 1, K: 1e3, M: 1e6, B: 1e9, Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30 };
  const order = new Intl.Collator("en", { numeric: true });

  // The value of a cell: a number ("99.5", "16K"), a text, or null for what was not run and has no score.
  function value(cell, isText) {
    const said = (cell.firstChild?.textContent ?? "").trim();
    if (isText) return said;
    const parts = said.match(/^([\d.]+)([KMB]|[KMG]i)?$/);
    return parts ? parts[1] * UNITS[parts[2] ?? ""] : null;
  }

  function sort(table, heading, column) {
    const isText = heading.classList.contains("text");
    const first = isText || column === 0 ? "ascending" : "descending"; // scores: the best on top
    const other = first === "ascending" ? "descending" : "ascending";
    const direction = heading.ariaSort === first ? other : first;
    const sign = direction === "ascending" ? 1 : -1;
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [value(row.cells[column], isText), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null); // last in both directions
      return sign * (isText ? order.compare(a, b) : a - b);
    });
    for (const each of table.tHead.rows[0].cells) each.ariaSort = each === heading ? direction : null;
    body.append(...rows.map(([, row]) => row));
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      const button = document.createElement("button");
      button.append(...heading.childNodes);
      button.addEventListener("click", () => sort(table, heading, column));
      heading.append(button);
    });
  }

  const filter = document.querySelector(".filter");
  const box = filter.querySelector("input");
  const text = (element) => element.textContent.toLowerCase();
  const panels = [...document.querySelectorAll("section.panel")].map((section) => ({
    section,
    link: document.querySelector(`nav a[href="#${section.querySelector("h2").id}"]`).closest("li"),
    title: text(section.querySelector("h2")),
    rows: [...section.querySelectorAll("tbody tr")].map((row) => [row, text(row.querySelector("th") ?? row)]),
  }));

  function apply() {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    let rowsShown = 0, panelsShown = 0;
    for (const { section, link, title, rows } of panels) {
      let found = 0;
      for (const [row, name] of rows) {
        row.hidden = !words.every((word) => title.includes(word) || name.includes(word));
        found += row.hidden ? 0 : 1;
      }
      section.hidden = link.hidden = found === 0;
      rowsShown += found;
      panelsShown += found ? 1 : 0;
    }
    const count = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;
    filter.querySelector("output").value = words.length
      ? `${count(rowsShown, "row")} in ${count(panelsShown, "panel")}`
      : "";
  }

  filter.hidden = false;
  box.addEventListener("input", apply);
  apply();
}
