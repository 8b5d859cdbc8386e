// SPDX-License-Identifier: Apache-2.0
// The arena page: a table of allocators, what the chosen one held over the calls, and where every block lay. Text of the trace
// goes in as text, never as markup.

const arena = { chosen: 0, fit: true, grids: new Map() };
const run = () => report.runs[arena.chosen];
const kindColor = (index) => kindColorName(report.kinds[index]);

/** The grid of a run as bytes: 0 not held, 1 a hole, 2 and more a kind. */
function gridOf(which) {
  if (arena.grids.has(which)) return arena.grids.get(which);
  const { columns, rows, cells } = which.map;
  const grid = new Uint8Array(columns * rows);
  let at = 0;
  for (const [, count, letter] of cells.matchAll(/(\d+)(.)/g)) {
    const value = letter === "." ? 0 : letter === "-" ? 1 : letter.charCodeAt(0) - 95;
    grid.fill(value, at, at += Number(count));
  }
  arena.grids.set(which, grid);
  return grid;
}

function drawTop() {
  const file = report.trace.split("/").pop() || report.trace;
  document.title = `${file} \u00b7 arena \u00b7 spillway`;
  byId("title").textContent = file;
  const facts = [report.format, plural(axisEnd, "call"), `${formatCount(report.before)} blocks before the first`,
    report.budget_bytes ? `budget ${formatBytes(report.budget_bytes)}` : "no budget"];
  byId("facts-line").append(...facts.map((fact) => el("span", {}, fact)));
  const served = report.runs.filter((one) => one.feasible);
  if (!served.length) {
    byId("verdict").append(el("b", { class: "bad" }, "Out of memory."));
  } else {
    const best = served.reduce((a, b) => (b.held_peak_bytes < a.held_peak_bytes ? b : a));
    byId("verdict").append("At most ", el("b", {}, formatBytes(report.live_peak_bytes)), " are alive at once; ",
      el("b", {}, best.allocator), " held ", el("b", {}, formatBytes(best.held_peak_bytes)), ", ",
      el("b", { class: best.utilization >= 0.985 ? "good" : "bad" }, `${(100 * best.utilization).toFixed(2)} % used`), ".");
    if (report.recorded_reserved_bytes)
      byId("verdict").append(` The recorded allocator held ${formatBytes(report.recorded_reserved_bytes)}.`);
  }
}

function drawTable() {
  const head = ["Allocator", "Live peak", "Held peak", "Used", "Lost", "Alloc"];
  byId("allocator-table").tHead.replaceChildren(el("tr", {}, head.map((name, i) => el("th", { class: i ? "num" : null, scope: "col" }, name))));
  byId("allocator-table").tBodies[0].replaceChildren(...report.runs.map((one, i) => {
    const cells = one.feasible
      ? [formatBytes(one.live_peak_bytes), formatBytes(one.held_peak_bytes), `${(100 * one.utilization).toFixed(2)}\u00a0%`,
        formatBytes(one.held_peak_bytes - one.live_peak_bytes), one.alloc_ns_median === null ? "\u2013" : `${one.alloc_ns_median}\u00a0ns`]
      : ["", `${formatBytes(one.held_peak_bytes)}, then out of memory`, "", "", ""];
    return el("tr", { class: i === arena.chosen ? "chosen" : one.feasible ? null : "out" },
      el("td", {}, el("button", { type: "button", class: "link", onclick: () => choose(i) }, one.allocator)),
      cells.map((cell) => el("td", { class: "num" }, cell)));
  }));
  const failed = run().out_of_memory;
  Object.assign(byId("out-of-memory"), { hidden: !failed, textContent: failed ?? "" });
  byId("out-of-memory").style.whiteSpace = "pre-wrap";
}

/** Tick labels below `y`: numbers of calls. */
function callTicks(plot, y) {
  const { g } = plot;
  g.fillStyle = color("ink-3");
  g.textBaseline = "top";
  g.textAlign = "center";
  for (const tick of ticks(view.begin, view.end, Math.max(2, plot.plotWidth / 110), 10)) {
    const label = formatCount(Math.round(tick) || 0);  // no -0
    const half = g.measureText(label).width / 2;
    g.fillText(label, Math.min(Math.max(plot.x(tick), plot.left + half), plot.width - half), y);
  }
}

function byteAxis(plot, y, low, high, top, bottom) {
  const { g } = plot;
  g.textAlign = "right";
  g.textBaseline = "middle";
  for (const tick of ticks(low, high, Math.max(2, (bottom - top) / 56), 1024)) {
    const at = Math.round(y(tick)) + 0.5;
    g.strokeStyle = color("line");
    g.beginPath();
    g.moveTo(plot.left, at);
    g.lineTo(plot.width - plot.right, at);
    g.stroke();
    g.fillStyle = color("ink-3");
    g.fillText(axisBytes(tick, high), plot.left - 8, at);
  }
}

const PHASES = { forward: "look-forward", backward: "look-backward", optimizer: "look-optimizer" };
const BAND = 19;

function paintBands(plot) {
  const { g } = plot;
  g.textBaseline = "middle";
  g.textAlign = "left";
  for (const [begin, end, name] of report.bands.phases) {
    if (end < view.begin || begin > view.end) continue;
    const from = Math.max(plot.left, plot.x(begin));
    const to = Math.min(plot.width - plot.right, plot.x(end));
    g.fillStyle = color(PHASES[name] ?? "look-other");
    g.fillRect(from, 0, Math.max(1, to - from - 1), BAND - 4);
    if (to - from > g.measureText(name).width + 8) {
      g.fillStyle = inkOn(color(PHASES[name] ?? "look-other"));
      g.fillText(name, from + 4, (BAND - 4) / 2 + 1);
    }
  }
}

function stepPath(plot, y, at, values) {
  const { g } = plot;
  const first = Math.max(0, lastAtOrBefore(at, view.begin));
  g.moveTo(plot.x(at[first]), y(values[first]));
  for (let i = first; i < at.length && at[i] <= view.end; ++i) {
    g.lineTo(plot.x(at[i]), y(values[i]));
    g.lineTo(plot.x(i + 1 < at.length ? at[i + 1] : at[i]), y(values[i]));
  }
}

function paintFragmentation(plot) {
  const { g } = plot;
  const { at, live, held, hole } = run().samples;
  paintBands(plot);
  if (!at.length) return;
  const top = BAND + 6;
  const bottom = plot.height - 26;
  let high = 1;
  let low = Infinity;
  for (let i = 0; i < at.length; ++i) {
    high = Math.max(high, held[i], live[i]);
    low = Math.min(low, live[i]);
  }
  low = arena.fit ? Math.floor(low * 0.98) : 0;
  const y = (bytes) => bottom - ((Math.max(bytes, low) - low) / (high * 1.02 - low)) * (bottom - top);
  byteAxis(plot, y, low, high * 1.02, top, bottom);
  plot.clip(top, bottom + 1);
  const area = (values, base, colorName, alpha) => {
    g.beginPath();
    stepPath(plot, y, at, values);
    for (let i = at.length - 1; i >= 0; --i) {
      g.lineTo(plot.x(i + 1 < at.length ? at[i + 1] : at[i]), y(base ? base[i] : low));
      g.lineTo(plot.x(at[i]), y(base ? base[i] : low));
    }
    g.closePath();
    g.globalAlpha = alpha;
    g.fillStyle = color(colorName);
    g.fill();
    g.globalAlpha = 1;
  };
  area(live, null, "place-resident", 0.85);
  area(held, live, "kind-workspace", 0.3);
  // The largest hole hangs below what is held: what is left between it and the live bytes is scattered.
  g.beginPath();
  stepPath(plot, y, at, held.map((bytes, i) => bytes - Math.min(hole[i], bytes - live[i])));
  g.strokeStyle = color("kind-workspace");
  g.setLineDash([3, 3]);
  g.stroke();
  g.setLineDash([]);
  g.beginPath();
  stepPath(plot, y, at, held);
  g.strokeStyle = color("ink");
  g.lineWidth = 1.5;
  g.stroke();
  g.lineWidth = 1;
  g.restore();
  if (low > 0) {
    g.textAlign = "left";
    g.textBaseline = "bottom";
    g.fillStyle = color("ink-2");
    g.fillText(`axis starts at ${formatBytes(low)}`, plot.left + 6, bottom - 4);
  }
  callTicks(plot, bottom + 8);
}

function describeFragmentation(plot, call) {
  const { at, live, held, hole } = run().samples;
  const i = lastAtOrBefore(at, call);
  if (i < 0) return null;
  const phase = phaseAt(call);
  return {
    title: `call ${formatCount(Math.round(call))}${phase ? `, ${phase}` : ""}`,
    rows: [{ color: "ink", shape: "line", name: "held", value: formatBytes(held[i]) },
      { color: "place-resident", name: "alive", value: formatBytes(live[i]) },
      { color: "kind-workspace", name: "free", value: formatBytes(Math.max(0, held[i] - live[i])) },
      { color: "kind-workspace", shape: "dash", name: "largest hole", value: formatBytes(hole[i]) }],
  };
}

const CELL_HOLE = 1;

function cellColor(value) {
  return value === CELL_HOLE ? "card" : kindColor(value - 2);
}

/** The grid as an image, one pixel a cell, drawn in the colours of the scheme. */
function gridImage(which) {
  const { columns, rows } = which.map;
  const grid = gridOf(which);
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  const g = canvas.getContext("2d");
  const palette = [];
  const rgb = (name) => [...[1, 3, 5].map((i) => parseInt(color(name).slice(i, i + 2), 16)), 255];  // written as #rrggbb
  for (let value = 0; value < 2 + report.kinds.length; ++value) palette.push(value === 0 ? rgb("line") : rgb(cellColor(value)));
  const image = g.createImageData(columns, rows);
  for (let row = 0; row < rows; ++row)
    for (let column = 0; column < columns; ++column)
      image.data.set(palette[grid[row * columns + column]], 4 * ((rows - 1 - row) * columns + column));
  g.putImageData(image, 0, 0);
  return canvas;
}

const mapTop = BAND + 2;
const mapBottom = (plot) => plot.height - 26;

function paintMap(plot) {
  const { g } = plot;
  const which = run();
  paintBands(plot);
  if (!which.map.columns) return;
  const top = mapTop;
  const bottom = mapBottom(plot);
  plot.clip(top, bottom);
  g.imageSmoothingEnabled = false;
  const left = plot.x(0);
  g.drawImage(gridImage(which), left, top, plot.x(axisEnd) - left, bottom - top);
  // Cells blur what is small; the blocks that are known one by one are drawn over them.
  const scale = (bottom - top) / which.map.bytes;
  const { place, bytes, born, died, kind } = which.blocks;
  for (let i = place.length - 1; i >= 0; --i) {
    if (died[i] < view.begin || born[i] > view.end) continue;
    const from = Math.max(plot.left, plot.x(born[i]));
    const width = Math.min(plot.width, plot.x(died[i])) - from;
    const height = bytes[i] * scale;
    if (width < 1.5 || height < 1.5) continue;
    const y = bottom - (place[i] + bytes[i]) * scale;
    g.fillStyle = color(kindColor(kind[i]));
    g.fillRect(from, y, width, height);
    if (width > 5 && height > 4) {
      g.strokeStyle = color("card");
      g.globalAlpha = 0.5;
      g.strokeRect(from + 0.5, y + 0.5, width - 1, height - 1);
      g.globalAlpha = 1;
    }
  }
  g.restore();
  g.strokeStyle = color("line");
  g.strokeRect(plot.left + 0.5, top + 0.5, plot.plotWidth - 1, bottom - top - 1);
  const y = (at) => bottom - at * scale;
  g.textAlign = "right";
  g.textBaseline = "middle";
  g.fillStyle = color("ink-3");
  for (const tick of ticks(0, which.map.bytes, Math.max(2, (bottom - top) / 56), 1024))
    g.fillText(axisBytes(tick, which.map.bytes), plot.left - 8, y(tick));
  callTicks(plot, bottom + 8);
}

function describeMap(plot, call, y) {
  const which = run();
  const top = mapTop;
  const bottom = mapBottom(plot);
  if (!which.map.columns || y < top || y > bottom) return null;
  const place = ((bottom - y) / (bottom - top)) * which.map.bytes;
  const title = `call ${formatCount(Math.round(call))}, ${formatBytes(place)} up`;
  const { blocks } = which;
  for (let i = 0; i < blocks.place.length; ++i) {
    if (blocks.place[i] > place || place >= blocks.place[i] + blocks.bytes[i] || blocks.born[i] > call || call >= blocks.died[i]) continue;
    const rows = [{ color: kindColor(blocks.kind[i]), name: report.kinds[blocks.kind[i]], value: formatBytes(blocks.bytes[i]) }];
    const name = report.strings[blocks.name[i]];
    if (name) rows.push(name);
    rows.push(`calls ${formatCount(blocks.born[i])} to ${blocks.died[i] > axisEnd ? "the end" : formatCount(blocks.died[i])}`);
    return { title, rows };
  }
  const { columns, rows } = which.map;
  const column = Math.min(columns - 1, Math.floor((call / axisEnd) * columns));
  const row = Math.min(rows - 1, Math.floor((place / which.map.bytes) * rows));
  const value = gridOf(which)[row * columns + column];
  const words = value === 0 ? "not held" : value === CELL_HOLE ? "free" : `mostly ${report.kinds[value - 2]}`;
  return { title, rows: [{ color: value === 0 ? "line" : cellColor(value), name: words, value: "" }] };
}

function drawLegends() {
  byId("fragmentation-legend").replaceChildren(
    el("li", {}, swatch("ink", "line"), "held"), el("li", {}, swatch("place-resident"), "alive"),
    el("li", {}, swatch("kind-workspace"), "free"), el("li", {}, swatch("kind-workspace", "dash"), "below the largest hole"));
  const seen = new Set(gridOf(run()));
  const hole = swatch("card");
  hole.style.border = "1px solid var(--ink-3)";
  byId("map-legend").replaceChildren(
    ...report.kinds.map((name, i) => (seen.has(i + 2) ? el("li", {}, swatch(kindColor(i)), name) : null)).filter(Boolean),
    el("li", {}, hole, "free"), ...(seen.has(0) ? [el("li", {}, swatch("line"), "not held")] : []));
}

function drawLeads() {
  const { live, held, hole } = run().samples;
  let scattered = 0;
  for (let i = 0; i < live.length; ++i) scattered = Math.max(scattered, held[i] - live[i] - hole[i]);
  byId("fragmentation-lead").textContent = live.length
    ? `Free memory outside of the largest hole: at most ${formatBytes(scattered)}.` : "Nothing was held.";
  byId("map-lead").textContent = `Each row is an address of ${run().allocator}, each column some calls; addresses that were never held are left out.`;
  byId("map-chart").setAttribute("aria-label", `Arena map of ${run().allocator}: addresses against calls.`);
  byId("fragmentation-chart").setAttribute("aria-label", `Bytes held and alive over the calls, ${run().allocator}. ${byId("fragmentation-lead").textContent}`);
}

function choose(index) {
  arena.chosen = index;
  [...byId("choose-run").children].forEach((button, i) => button.setAttribute("aria-pressed", String(i === index)));
  drawTable();
  drawLegends();
  drawLeads();
  redrawPlots();
}

function drawFacts() {
  const list = (name, lines) => (lines.length ? [el("h3", {}, name), el("ul", {}, lines.map((line) => el("li", {}, line)))] : []);
  byId("inferred").lastElementChild.append(...list("Concluded", report.inferred), ...list("Odd", report.notes));
  byId("inferred").hidden = !report.inferred.length && !report.notes.length;
  byId("foot").append(el("p", {}, el("code", {}, report.command)), el("p", {}, `spillway ${report.version}; the allocators ran over the trace's own calls, no GPU was used.`));
}

function start() {
  drawTop();
  if (report.runs.length > 1)
    byId("choose-run").append(...report.runs.map((one, i) => el("button", { type: "button", "aria-pressed": "false", onclick: () => choose(i) }, one.allocator)));
  else byId("choose-run").hidden = true;
  new TimePlot("fragmentation-chart", { height: (width) => (width < 560 ? 220 : 280), paint: paintFragmentation, describe: describeFragmentation });
  new TimePlot("map-chart", { height: (width) => (width < 560 ? 320 : 520), paint: paintMap, describe: describeMap });
  byId("reset-zoom").addEventListener("click", () => setView(0, axisEnd));
  byId("fit-axis").addEventListener("click", () => {
    arena.fit = !arena.fit;
    byId("fit-axis").setAttribute("aria-pressed", String(arena.fit));
    redrawPlots();
  });
  drawFacts();
  choose(0);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    forgetColors();
    redrawPlots();
  });
  document.documentElement.dataset.ready = "yes";
}

start();
