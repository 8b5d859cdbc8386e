// SPDX-License-Identifier: Apache-2.0
// The table of tensors: sorts by any column, filters by text, action and kind, and makes only the rows that are in sight.

const tensors = report.tensors;
const ROW_HEIGHT = 34;
const tick = (value) => (value < 0 ? null : value * tensors.tick_ns);
const timeCell = (value) => (value === null ? "" : axisTime(value, axisEnd, 1));

const MOVABLE = tensors.kind_names.indexOf("activation");
const isKept = (i) => tensors.action[i] === 0;

// value() is what sorting compares (null last); shown() what the cell says.
const ALL_COLUMNS = [
  { key: "name", head: "Name", value: (i) => text(tensors.name[i]), cell: "name" },
  { key: "kind", head: "Kind", value: (i) => tensors.kind_names[tensors.kind[i]], mark: (i) => kindColorName(tensors.kind_names[tensors.kind[i]]) },
  { key: "layer", head: "Layer", value: (i) => (tensors.layer[i] < 0 ? null : tensors.layer[i]), shown: (i) => layerText(tensors.layer[i]), cell: "num" },
  { key: "dtype", head: "Dtype", value: (i) => tensors.dtype_names[tensors.dtype[i]], shown: (i) => (tensors.dtype[i] ? tensors.dtype_names[tensors.dtype[i]] : "") },
  { key: "bytes", head: "Bytes", value: (i) => tensors.bytes[i], shown: (i) => formatBytes(tensors.bytes[i]), cell: "num", down: true },
  { key: "action", head: "Action", value: (i) => tensors.action_names[tensors.action[i]], mark: (i) => (tensors.kind[i] === MOVABLE || !isKept(i) ? actionColorName(tensors.action[i]) : "kind-unknown") },
  { key: "codec", head: "Codec", value: (i) => (tensors.codec[i] ? tensors.codec_names[tensors.codec[i]] : null) },
  { key: "first", head: "First use", value: (i) => tick(tensors.first[i]), time: true },
  { key: "last", head: "Last use", value: (i) => tick(tensors.last[i]), time: true },
  { key: "evicted", head: "Evicted at", value: (i) => tick(tensors.evicted[i]), time: true },
  { key: "back", head: "Back at", value: (i) => tick(tensors.back[i]), time: true },
  { key: "host", head: "On host", value: (i) => (tensors.host[i] > 0 ? tick(tensors.host[i]) : null), shown: (i) => (tensors.host[i] > 0 ? formatTime(tick(tensors.host[i])) : ""), cell: "num", down: true },
  { key: "line", head: "Source line", value: (i) => text(tensors.line[i]) || null, cell: "code" },
];

// Columns that no tensor has a value for are left out.
const COLUMNS = ALL_COLUMNS.filter((column) =>
  tensors.name.length === 0 || tensors.name.some((_, i) => (column.shown ? column.shown(i) : column.value(i) ?? "") !== ""));

const table = {
  order: [], sortKey: "bytes", descending: true, filter: "", action: -1, kind: -1, selected: -1,
  haystack: new Array(tensors.name.length), first: -1, last: -1,
};

function haystackOf(i) {
  if (!table.haystack[i])
    table.haystack[i] = [text(tensors.name[i]), tensors.kind_names[tensors.kind[i]], tensors.dtype_names[tensors.dtype[i]],
      tensors.codec_names[tensors.codec[i]], tensors.layer[i] < 0 ? "" : `layer ${tensors.layer[i]}`, text(tensors.line[i])].join("\n").toLowerCase();
  return table.haystack[i];
}

function compareCells(a, b) {
  if (a === b) return 0;
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

function rebuildOrder() {
  const words = table.filter.toLowerCase().split(/\s+/).filter(Boolean);
  const order = [];
  for (let i = 0; i < tensors.name.length; ++i) {
    if (table.action >= 0 && tensors.action[i] !== table.action) continue;
    if (table.kind >= 0 && tensors.kind[i] !== table.kind) continue;
    if (words.length && !words.every((word) => haystackOf(i).includes(word))) continue;
    order.push(i);
  }
  const column = COLUMNS.find((candidate) => candidate.key === table.sortKey);
  const keys = new Map(order.map((i) => [i, column.value(i)]));
  const sign = table.descending ? -1 : 1;
  order.sort((a, b) => {
    const x = keys.get(a);
    const y = keys.get(b);
    // Cells without a value stay at the end in both directions.
    if (x === null || y === null) return x === y ? a - b : x === null ? 1 : -1;
    return sign * compareCells(x, y) || a - b;
  });
  table.order = order;
  table.first = -1;
  const bytes = order.reduce((sum, i) => sum + tensors.bytes[i], 0);
  const all = order.length === tensors.name.length;
  let words_ = `${all ? "" : `${formatCount(order.length)} of `}${plural(tensors.name.length, "tensor")}, ${formatBytes(bytes)}.`;
  if (tensors.total > tensors.name.length)
    words_ += ` The ${formatCount(tensors.total - tensors.name.length)} smallest, ${formatBytes(tensors.rest_bytes)} together, are not listed.`;
  byId("tensor-count").textContent = words_;
  drawHeads();
  byId("tensor-scroll").scrollTop = 0;
  drawRows();
}

function drawHeads() {
  for (const [i, cell] of [...byId("tensor-table").tHead.rows[0].cells].entries()) {
    const sorted = COLUMNS[i].key === table.sortKey;
    if (sorted) cell.setAttribute("aria-sort", table.descending ? "descending" : "ascending");
    else cell.removeAttribute("aria-sort");
  }
}

function makeRow(i, position) {
  const row = el("tr", { class: "row", "aria-rowindex": position + 2, "data-tensor": i });
  if (i === table.selected) row.setAttribute("aria-selected", "true");
  for (const column of COLUMNS) {
    const value = column.value(i);
    const words = column.time ? timeCell(value) : column.shown ? column.shown(i) : value ?? "";
    const cell = el("td", { class: column.time ? "num soft" : column.cell ?? null });
    if (column.key === "name") cell.append(el("button", { class: "link", type: "button", title: words }, words));
    else if (column.mark) cell.append(el("span", { class: "pill" }, swatch(column.mark(i)), words));
    else {
      cell.textContent = words;
      if (column.cell === "code" && words) cell.title = words;
    }
    row.append(cell);
  }
  return row;
}

function drawRows() {
  const scroll = byId("tensor-scroll");
  const body = byId("tensor-table").tBodies[0];
  const count = table.order.length;
  const extra = 8;
  const first = Math.max(0, Math.floor(scroll.scrollTop / ROW_HEIGHT) - extra);
  const last = Math.min(count, Math.ceil((scroll.scrollTop + scroll.clientHeight) / ROW_HEIGHT) + extra);
  if (first === table.first && last === table.last) return;
  table.first = first;
  table.last = last;
  const focused = body.contains(document.activeElement) ? document.activeElement.closest("tr")?.dataset.tensor : undefined;
  const space = (rows) => {
    const cell = el("td", { colspan: COLUMNS.length });
    cell.style.height = `${rows * ROW_HEIGHT}px`;
    return el("tr", { class: "spacer", "aria-hidden": "true" }, cell);
  };
  const rows = [];
  if (first > 0) rows.push(space(first));
  for (let k = first; k < last; ++k) rows.push(makeRow(table.order[k], k));
  if (last < count) rows.push(space(count - last));
  if (count === 0) rows.push(el("tr", {}, el("td", { class: "empty", colspan: COLUMNS.length }, "No tensor matches.")));
  body.replaceChildren(...rows);
  byId("tensor-table").setAttribute("aria-rowcount", String(count + 1));
  if (focused !== undefined) body.querySelector(`tr[data-tensor="${focused}"] button`)?.focus({ preventScroll: true });
}

function sortBy(key) {
  const column = COLUMNS.find((candidate) => candidate.key === key);
  if (table.sortKey === key) table.descending = !table.descending;
  else table.descending = column.down === true;
  table.sortKey = key;
  rebuildOrder();
}

function showDetail(i) {
  table.selected = table.selected === i ? -1 : i;
  table.first = -1;
  drawRows();
  const box = byId("tensor-detail");
  box.hidden = table.selected < 0;
  if (table.selected < 0) return;
  const facts = [["bytes", `${formatBytes(tensors.bytes[i])} (${formatCount(tensors.bytes[i])})`]];
  for (const column of COLUMNS) {
    if (["name", "bytes", "line"].includes(column.key)) continue;
    const value = column.value(i);
    const words = column.time ? timeCell(value) : column.shown ? column.shown(i) : value ?? "";
    if (words !== "") facts.push([column.head.toLowerCase(), words]);
  }
  const frames = tensors.stacks[tensors.stack[i]] ?? [];
  box.replaceChildren(
    el("div", { class: "head" }, el("h3", {}, text(tensors.name[i])),
      el("button", { type: "button", class: "quiet", onclick: () => showDetail(i) }, "Close")),
    lifeBar(i),
    el("dl", {}, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, String(value))))),
    frames.length ? el("h3", {}, "Allocated at, innermost first") : "",
    frames.length ? el("ol", {}, frames.map((frame) => el("li", { class: frame === tensors.line[i] ? "mine" : null }, text(frame)))) : "");
  box.scrollIntoView({ block: "nearest" });
}

/** The tensor's life on the step's axis: on the device, and away. */
function lifeBar(i) {
  const bar = el("div", { class: "mini", role: "img" });
  const piece = (from, to, colorName) => {
    const part = el("i");
    part.style.left = `${(100 * from) / axisEnd}%`;
    part.style.width = `${(100 * Math.max(0, to - from)) / axisEnd}%`;
    part.style.background = `var(--${colorName})`;
    bar.append(part);
  };
  const [made, freed, first, last, evicted, back] = ["made", "freed", "first", "last", "evicted", "back"].map((key) => tick(tensors[key][i]));
  piece(made ?? 0, freed ?? axisEnd, "place-resident");
  if (evicted !== null) piece(evicted, back ?? freed ?? axisEnd, actionColorName(tensors.action[i]));
  const away = evicted === null ? "" : `, away from ${timeCell(evicted)} to ${back === null ? "the end" : timeCell(back)}`;
  bar.setAttribute("aria-label", `Alive from ${timeCell(made ?? 0)} to ${timeCell(freed ?? axisEnd)}, used from ${timeCell(first)} to ${timeCell(last)}${away}`);
  return bar;
}

function startTable() {
  const node = byId("tensor-table");
  node.tHead.append(el("tr", {}, COLUMNS.map((column) => el("th", { scope: "col", class: `sorts ${column.time || column.cell === "num" ? "num" : ""}` },
    el("button", { type: "button", "data-sort": column.key, onclick: () => sortBy(column.key) }, column.head)))));
  const choose = (id, all, names, used, set) => {
    const select = byId(id);
    select.append(el("option", { value: -1 }, all), ...names.map((name, i) => (used.has(i) ? el("option", { value: i }, name) : null)).filter(Boolean));
    select.addEventListener("change", () => { set(Number(select.value)); rebuildOrder(); });
  };
  choose("tensor-action", "All actions", tensors.action_names, new Set(tensors.action), (value) => { table.action = value; });
  choose("tensor-kind", "All kinds", tensors.kind_names, new Set(tensors.kind), (value) => { table.kind = value; });
  byId("tensor-filter").addEventListener("input", (event) => { table.filter = event.target.value; rebuildOrder(); });
  byId("tensor-scroll").addEventListener("scroll", () => drawRows(), { passive: true });
  new ResizeObserver(() => drawRows()).observe(byId("tensor-scroll"));
  node.tBodies[0].addEventListener("click", (event) => {
    const row = event.target.closest("tr.row");
    if (row && !String(window.getSelection())) showDetail(Number(row.dataset.tensor));
  });
  rebuildOrder();
}
