"use strict";
// The table of configurations: search, filters by column, sorting, pages. Cells are text, never HTML.
(() => {
  const PAGE = 50, COLUMNS = DATA.columns, ROWS = DATA.rows;
  const byId = (id) => document.getElementById(id), body = byId("table").tBodies[0];
  const selects = [...document.querySelectorAll("#filters select")], headings = [...document.querySelectorAll("[data-sort]")];
  const haystack = ROWS.map((row) => row.filter((cell) => typeof cell === "string").join("\n").toLowerCase());
  const same = new Set(["host", "sites", "engine"].map((name) => COLUMNS.indexOf(name)).filter((column) => ROWS.length > 1 && new Set(ROWS.map((row) => row[column])).size === 1));
  let order = null, page = 0;

  const shown = (value, column) => value === null ? "–" : COLUMNS[column] === "saved" ? `${(100 * value).toFixed(1).replace("-", "−")} %` : String(value);
  const numeric = (value) => value !== "" && Number.isFinite(Number(value)); // "+1", a charge, is a number too
  const compare = (a, b) => numeric(a) && numeric(b) ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });

  function fill(select) {
    const column = Number(select.dataset.column), values = [...new Set(ROWS.map((row) => row[column]))].sort(compare);
    select.append(new Option("all", ""), ...values.map((value) => new Option(value === "" ? "none" : String(value), JSON.stringify(value))));
  }
  function matching() {
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = selects.filter((select) => select.value).map((select) => [Number(select.dataset.column), JSON.parse(select.value)]);
    const kept = ROWS.filter((row, index) => wanted.every(([column, value]) => row[column] === value) && words.every((word) => haystack[index].includes(word)));
    if (!order) return kept;
    const { column, down } = order;
    return kept.sort((a, b) => {
      if (a[column] === null || b[column] === null) return (a[column] === null) - (b[column] === null); // unknown last
      return (down ? -1 : 1) * compare(a[column], b[column]);
    });
  }
  function line(row) {
    const element = document.createElement("tr");
    row.forEach((value, column) => {
      const cell = element.insertCell();
      cell.hidden = same.has(column);
      cell.textContent = COLUMNS[column] === "configuration" ? value.slice(0, 12) : shown(value, column);
      if (COLUMNS[column] === "why") cell.className = value ? "wide" : "";
      if (COLUMNS[column] === "start from") cell.className = "folded";
      if (COLUMNS[column] === "configuration") { cell.className = "id"; cell.title = value; }
    });
    return element;
  }
  function draw() {
    const kept = matching(), pages = Math.max(1, Math.ceil(kept.length / PAGE));
    page = Math.min(page, pages - 1);
    body.replaceChildren(...kept.slice(page * PAGE, (page + 1) * PAGE).map(line));
    byId("count").textContent = `${kept.length.toLocaleString("en")} of ${ROWS.length.toLocaleString("en")} rows`;
    byId("page").textContent = `page ${page + 1} of ${pages}`;
    byId("previous").disabled = page === 0;
    byId("next").disabled = page === pages - 1;
    headings.forEach((button, column) => {
      const sorted = order && order.column === column;
      button.parentElement.setAttribute("aria-sort", sorted ? (order.down ? "descending" : "ascending") : "none");
    });
  }
  const restart = () => { page = 0; draw(); };
  // What all rows share stands above the table: the columns that differ then fit a screen.
  same.forEach((column) => { headings[column].parentElement.hidden = true; });
  byId("same").textContent = same.size ? `All rows: ${[...same].map((column) => `${COLUMNS[column]} ${ROWS[0][column]}`).join(", ")}.` : "";
  selects.forEach(fill);
  byId("filters").addEventListener("input", restart);
  byId("filters").addEventListener("reset", () => setTimeout(restart));
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  headings.forEach((button, column) => button.addEventListener("click", () => { order = { column, down: order?.column === column && !order.down }; restart(); }));
  byId("previous").addEventListener("click", () => { page -= 1; draw(); });
  byId("next").addEventListener("click", () => { page += 1; draw(); });
  draw();
})();
