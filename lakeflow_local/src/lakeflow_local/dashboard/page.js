const { datasets, tiles } = JSON.parse(document.getElementById("dashboard").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const number = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 2 });

function shown(value, column) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (typeof value === "number") return (column.percent ? percent : number).format(value);
  return String(value).replace(/^(\d{4}-\d\d-\d\d)T(\d\d:\d\d).*$/, "$1 $2");
}

// A counter or a table: the rows that Vega computed, in the page's own elements.
function written(tile, rows, place) {
  if (tile.type === "counter") {
    place.textContent = rows.length ? shown(rows[0][tile.columns[0].field], tile.columns[0]) : "–";
    return;
  }
  const table = document.createElement("table");
  const head = table.createTHead().insertRow();
  const numeric = tile.columns.map((column) => rows.some((row) => typeof row[column.field] === "number"));
  tile.columns.forEach((column, i) => {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = column.title;
    if (numeric[i]) cell.className = "number";
    head.append(cell);
  });
  const body = table.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    tile.columns.forEach((column, i) => {
      const cell = line.insertCell();
      cell.textContent = shown(row[column.field], column);
      if (numeric[i]) cell.className = "number";
      else if (/^\d{4}-\d\d-\d\d/.test(row[column.field])) cell.className = "time";
    });
  }
  if (!rows.length) {
    const cell = body.insertRow().insertCell();
    cell.colSpan = tile.columns.length;
    cell.textContent = "no rows";
  }
  place.replaceChildren(table);
}

async function drawn(tile, place) {
  const rows = structuredClone(datasets[tile.spec.data.name]);
  const patch = (compiled) => {
    compiled.data.find((data) => data.name === tile.spec.data.name).values = rows;
    return compiled;
  };
  if (tile.columns) {
    const hidden = document.createElement("div");
    const { view, vgSpec } = await vegaEmbed(hidden, tile.spec, { renderer: "none", actions: false, logLevel: 1, patch });
    const result = vgSpec.marks[0].from.data;
    return { view, refresh: () => written(tile, view.data(result), place) };
  }
  const style = getComputedStyle(document.documentElement);
  const text = style.getPropertyValue("--text").trim(), line = style.getPropertyValue("--line").trim();
  const config = {
    background: null,
    font: "system-ui, sans-serif",
    view: { stroke: null },
    axis: { labelColor: text, titleColor: text, gridColor: line, domainColor: line, tickColor: line, labelLimit: 180, titleFontWeight: "normal", labelFontSize: 11, titleFontSize: 11 },
    legend: { labelColor: text, titleColor: text, labelFontSize: 11 },
    mark: { color: style.getPropertyValue("--mark").trim() },
    range: { category: dark.matches ? { scheme: "set2" } : { scheme: "tableau10" } },
  };
  const spec = { ...tile.spec, width: "container", height: "container", autosize: { type: "fit", contains: "padding" } };
  const { view } = await vegaEmbed(place, spec, { renderer: "svg", actions: false, logLevel: 1, config, patch });
  return { view, refresh: () => {} };
}

const places = [...document.querySelectorAll("[data-tile]")];
let views = [];

async function draw() {
  views.forEach(({ view }) => view.finalize());
  views = await Promise.all(places.map((article) => drawn(tiles[article.dataset.tile], article.querySelector(".content"))));
  await filter();
}

function chosen(fieldset) {
  const inputs = [...fieldset.querySelectorAll("input")];
  if (fieldset.dataset.kind === "filter-date-range-picker") {
    const days = inputs.map((input) => input.value);
    return days.some(Boolean) ? days : null;
  }
  const values = inputs.filter((input) => input.checked).map((input) => input.value);
  fieldset.querySelector("summary").textContent = values.join(", ") || "all";
  return values.length ? values : null;
}

async function filter() {
  for (const fieldset of document.querySelectorAll("[data-signal]")) {
    const value = chosen(fieldset);
    places.forEach((article, i) => {
      const held = tiles[article.dataset.tile].spec.params.some((param) => param.name === fieldset.dataset.signal);
      if (held) views[i].view.signal(fieldset.dataset.signal, value);
    });
  }
  await Promise.all(views.map(async ({ view, refresh }) => { await view.runAsync(); refresh(); }));
}

const form = document.getElementById("filters");
form?.addEventListener("input", filter);
form?.addEventListener("reset", () => setTimeout(filter));
form?.addEventListener("submit", (event) => event.preventDefault());
dark.addEventListener("change", draw);
await draw();
document.documentElement.dataset.ready = "true";
