// SPDX-License-Identifier: Apache-2.0
// Memory over time: device bytes stacked by kind or by residency, the budget, the keep-all curve, and the peak.

// Where state that never moves is most of the peak, the axis starts below the lowest value at once, and says so.
const memoryChart = { stackBy: "kind", fit: report.extra.persistent_bytes > 0.75 * result.keep_all_peak_bytes };

// Bottom to top: what no plan moves lies below what it does.
const KIND_ORDER = ["parameter", "optimizer", "gradient", "constant", "other", "unknown", "activation", "workspace"];
const PLACE_ORDER = ["unmovable", "resident", "compressed", "offloading", "prefetching"];
const PLACE_COLORS = { unmovable: "kind-parameter", resident: "place-resident", compressed: "place-compressed", offloading: "place-offloading", prefetching: "place-prefetching" };

const UNMOVABLE_KINDS = ["parameter", "gradient", "optimizer", "constant"];

/** Residency, with what no plan moves (always resident) as a part of its own. */
function placeSeries() {
  const unmovable = new Float64Array(memory.t.length);
  for (const series of memory.kinds)
    if (UNMOVABLE_KINDS.includes(series.name)) series.bytes.forEach((bytes, i) => { unmovable[i] += bytes; });
  const rest = memory.places.map((series) => (series.name === "resident"
    ? { name: series.name, bytes: series.bytes.map((bytes, i) => Math.max(0, bytes - unmovable[i])) } : series));
  return [{ name: "unmovable", bytes: unmovable }, ...rest].filter((series) => series.bytes.some((bytes) => bytes > 0));
}
const placesWithUnmovable = placeSeries();

function stackedSeries() {
  const byPlace = memoryChart.stackBy === "place";
  const order = byPlace ? PLACE_ORDER : KIND_ORDER;
  return (byPlace ? placesWithUnmovable : memory.kinds)
    .map((series) => ({ ...series, color: byPlace ? PLACE_COLORS[series.name] ?? "kind-other" : kindColorName(series.name) }))
    .sort((a, b) => order.indexOf(a.name) - order.indexOf(b.name));
}

/** Indices of samples that the visible range needs, and the extremes of a list over them. */
function visible(times) {
  const first = Math.max(0, lastAtOrBefore(times, view.begin));
  return [first, Math.min(times.length - 1, lastAtOrBefore(times, view.end))];
}
function extremes(list, [first, last]) {
  let low = Infinity;
  let high = 0;
  for (let i = first; i <= last; ++i) {
    low = Math.min(low, list[i]);
    high = Math.max(high, list[i]);
  }
  return [low === Infinity ? 0 : low, high];
}

function byteRange() {
  const [low, high] = extremes(memory.total, visible(memory.t));
  const keepAll = extremes(memory.keepAll.bytes, visible(memory.keepAll.t));
  let top = Math.max(high, keepAll[1], 1);
  if (memoryChart.stackBy === "place" && memory.host) top = Math.max(top, extremes(memory.host, visible(memory.t))[1]);
  if (result.budget_bytes && result.budget_bytes < 1.6 * top) top = Math.max(top, result.budget_bytes);
  let floor = 0;
  if (memoryChart.fit) {
    floor = Math.min(low, keepAll[0]);
    floor -= Math.min(floor, 0.04 * (top - floor));
  }
  return [floor, floor + (top - floor) * 1.07];
}

function paintMemory(plot) {
  const { g } = plot;
  const top = 8;
  const bottom = plot.height - 26;
  const [low, high] = byteRange();
  const y = (bytes) => bottom - ((bytes - low) / (high - low)) * (bottom - top);

  g.textAlign = "right";
  g.textBaseline = "middle";
  for (const tick of ticks(low, high, (bottom - top) / 62, 1024)) {
    g.strokeStyle = color("line-2");
    g.beginPath();
    g.moveTo(plot.left, Math.round(y(tick)) + 0.5);
    g.lineTo(plot.width - plot.right, Math.round(y(tick)) + 0.5);
    g.stroke();
    g.fillStyle = color("ink-3");
    g.fillText(axisBytes(tick, high), plot.left - 8, y(tick));
  }

  plot.clip(top, bottom);
  const [first, last] = visible(memory.t);
  const base = new Float64Array(memory.t.length);
  const path = (bytesAt, begin, forward) => {
    // Steps: a value holds from its sample to the next one.
    if (forward) {
      for (let i = begin; i <= last; ++i) {
        const right = i + 1 < memory.t.length ? memory.t[i + 1] : axisEnd;
        g.lineTo(plot.x(memory.t[i]), y(bytesAt(i)));
        g.lineTo(plot.x(right), y(bytesAt(i)));
      }
    } else {
      for (let i = last; i >= begin; --i) {
        const right = i + 1 < memory.t.length ? memory.t[i + 1] : axisEnd;
        g.lineTo(plot.x(right), y(bytesAt(i)));
        g.lineTo(plot.x(memory.t[i]), y(bytesAt(i)));
      }
    }
  };
  if (last >= first) {
    for (const series of stackedSeries()) {
      g.beginPath();
      path((i) => base[i] + series.bytes[i], first, true);
      path((i) => base[i], first, false);
      g.closePath();
      g.fillStyle = color(series.color);
      g.fill();
      for (let i = first; i <= last; ++i) base[i] += series.bytes[i];
    }
  }
  // An outline keeps what is held for less than a pixel in sight.
  strokeSteps(plot, y, memory.t, memory.total, "ink-2", 0.8, [], false);
  if (report.axis.plan) strokeSteps(plot, y, memory.keepAll.t, memory.keepAll.bytes, "keepall", 1.25, []);
  if (memoryChart.stackBy === "place" && memory.host) strokeSteps(plot, y, memory.t, memory.host, "place-host", 1.75, [5, 3]);
  g.restore();

  if (result.budget_bytes && result.budget_bytes <= high && result.budget_bytes >= low) {
    const at = Math.round(y(result.budget_bytes)) + 0.5;
    g.strokeStyle = color("budget");
    g.lineWidth = 1.5;
    g.beginPath();
    g.moveTo(plot.left, at);
    g.lineTo(plot.width - plot.right, at);
    g.stroke();
    g.lineWidth = 1;
    label(plot, `budget ${formatBytes(result.budget_bytes)}`, plot.width - plot.right - 6, at - 4, "right", "budget");
  }
  const peak = report.peak;
  if (report.axis.plan && peak.at_ns >= view.begin && peak.at_ns <= view.end) {
    const x = plot.x(peak.at_ns);
    const at = y(Math.min(peak.bytes, high));
    g.fillStyle = color("ink");
    g.strokeStyle = color("card");
    g.lineWidth = 1.5;
    g.beginPath();
    g.arc(x, at, 4, 0, 7);
    g.fill();
    g.stroke();
    g.lineWidth = 1;
  }
  if (low > 0) label(plot, `axis starts at ${formatBytes(low)}`, plot.left + 6, top + 16, "left", "ink-2");
  g.strokeStyle = color("line");
  g.beginPath();
  g.moveTo(plot.left, bottom + 0.5);
  g.lineTo(plot.width - plot.right, bottom + 0.5);
  g.stroke();
  plot.timeTicks(bottom + 8);
}

/** Text with a halo of the card's colour, so that it stays readable on any area. */
function label(plot, words, x, y, align, colorName) {
  const { g } = plot;
  g.textAlign = align;
  g.textBaseline = "bottom";
  g.lineJoin = "round";
  g.lineWidth = 4;
  g.strokeStyle = color("card");
  g.strokeText(words, x, y);
  g.lineWidth = 1;
  g.fillStyle = color(colorName);
  g.fillText(words, x, y);
}

function strokeSteps(plot, y, times, bytes, colorName, width, dash, halo = true) {
  const { g } = plot;
  const [first, last] = visible(times);
  if (last < first) return;
  g.beginPath();
  g.moveTo(plot.x(times[first]), y(bytes[first]));
  for (let i = first; i <= last; ++i) {
    g.lineTo(plot.x(times[i]), y(bytes[i]));
    g.lineTo(plot.x(i + 1 < times.length ? times[i + 1] : axisEnd), y(bytes[i]));
  }
  g.setLineDash(dash);
  g.lineJoin = "round";
  if (halo) {
    // A light edge below keeps the line visible on every fill.
    g.strokeStyle = color("card");
    g.globalAlpha = 0.65;
    g.lineWidth = width + 2;
    g.stroke();
    g.globalAlpha = 1;
  }
  g.strokeStyle = color(colorName);
  g.lineWidth = width;
  g.stroke();
  g.setLineDash([]);
  g.lineWidth = 1;
}

function describeMemory(plot, time) {
  const i = lastAtOrBefore(memory.t, time);
  if (i < 0) return null;
  const rows = stackedSeries().reverse().filter((series) => series.bytes[i] > 0)
    .map((series) => ({ color: series.color, name: series.name, value: formatBytes(series.bytes[i]) }));
  rows.unshift({ name: "on the device", value: formatBytes(memory.total[i]) });
  const k = lastAtOrBefore(memory.keepAll.t, time);
  if (k >= 0 && report.axis.plan) rows.push({ color: "keepall", shape: "line", name: "keep-all", value: formatBytes(memory.keepAll.bytes[k]) });
  if (memory.host && memory.host[i] > 0) rows.push({ color: "place-host", shape: "dash", name: "on the host", value: formatBytes(memory.host[i]) });
  const phase = phaseAt(time);
  return { title: axisTime(time, view.end - view.begin) + (phase ? `, ${phase}` : ""), rows };
}

function drawMemoryLegend() {
  const items = stackedSeries().map((series) => el("li", {}, swatch(series.color), series.name));
  if (report.axis.plan) items.push(el("li", {}, swatch("keepall", "line"), "keep-all"));
  if (memoryChart.stackBy === "place" && memory.host) items.push(el("li", {}, swatch("place-host", "dash"), "on the host"));
  if (result.budget_bytes) items.push(el("li", {}, swatch("budget", "line"), "budget"));
  byId("memory-legend").replaceChildren(...items);
}

function setStackBy(which) {
  memoryChart.stackBy = which;
  byId("by-kind").setAttribute("aria-pressed", String(which === "kind"));
  byId("by-place").setAttribute("aria-pressed", String(which === "place"));
  drawMemoryLegend();
  redrawPlots();
}

function startMemory() {
  new TimePlot("memory-chart", { height: (width) => (width < 560 ? 250 : 340), paint: paintMemory, describe: describeMemory });
  const peakText = report.axis.plan
    ? `Highest at ${axisTime(report.peak.at_ns, axisEnd)} with ${formatBytes(report.peak.bytes)}${text(report.peak.op) ? `, while ${text(report.peak.op)} runs` : ""}.`
    : "Shown is the step under keep-all, because no plan fits the budget.";
  byId("memory-lead").textContent = peakText;
  if (report.memory.reduced) byId("plot-keys").append(" The trace has more instants than are drawn; every maximum is kept.");
  byId("memory-chart").setAttribute("aria-label", `Device memory over time. ${peakText}`);
  byId("by-kind").addEventListener("click", () => setStackBy("kind"));
  byId("by-place").addEventListener("click", () => setStackBy("place"));
  byId("by-place").disabled = !report.axis.plan;
  byId("reset-zoom").addEventListener("click", () => setView(0, axisEnd));
  const fit = byId("fit-axis");
  fit.setAttribute("aria-pressed", String(memoryChart.fit));
  fit.addEventListener("click", () => {
    memoryChart.fit = !memoryChart.fit;
    fit.setAttribute("aria-pressed", String(memoryChart.fit));
    redrawPlots();
  });
  drawMemoryLegend();
}
