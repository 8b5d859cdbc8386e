// SPDX-License-Identifier: Apache-2.0
// Lanes below the memory chart, on the same axis: phases, layers, the compute stream, both copy engines, and stalls.

const LANE_HEIGHT = 22;
const LANE_GAP = 5;
const PHASE_LOOK = { forward: "look-forward", backward: "look-backward", optimizer: "look-optimizer", other: "look-other", unknown: "look-other" };

function laneRows() {
  const rows = [];
  if (report.bands.phases.some((band) => band[2] !== "unknown")) rows.push({ name: "phase", kind: "phases" });
  if (report.bands.layers.length) rows.push({ name: "layer", kind: "layers" });
  rows.push({ name: "compute", kind: "lane", lane: lanes.compute });
  if (report.axis.plan && lanes.offload.count + lanes.prefetch.count > 0) {
    rows.push({ name: "offload", kind: "lane", lane: lanes.offload }, { name: "prefetch", kind: "lane", lane: lanes.prefetch });
  }
  if (report.stalls.strip.length) rows.push({ name: "stalls", kind: "stalls" });
  rows.forEach((row, i) => { row.top = i * (LANE_HEIGHT + LANE_GAP) + 2; });
  return rows;
}
const shownLanes = laneRows();

function paintLanes(plot) {
  const { g } = plot;
  for (const row of shownLanes) {
    g.fillStyle = color("ink-3");
    g.textAlign = "right";
    g.textBaseline = "middle";
    g.fillText(row.name, plot.left - 8, row.top + LANE_HEIGHT / 2);
    g.fillStyle = color("line-2");
    g.fillRect(plot.left, row.top, plot.plotWidth, LANE_HEIGHT);
    plot.clip(row.top, row.top + LANE_HEIGHT);
    if (row.kind === "lane") paintLane(plot, row);
    if (row.kind === "stalls") paintStallStrip(plot, row.top, LANE_HEIGHT);
    if (row.kind === "phases") paintBands(plot, row, report.bands.phases, (band) => band[2], () => 1);
    if (row.kind === "layers") paintBands(plot, row, report.bands.layers, (band) => String(band[3]), (band) => (band[3] % 2 ? 0.55 : 0.85));
    g.restore();
  }
}

function paintLane(plot, row) {
  const { g } = plot;
  const { lane } = row;
  let i = Math.max(0, lastAtOrBefore(lane.begin, view.begin));
  let lastRight = -1;
  for (; i < lane.count && lane.begin[i] <= view.end; ++i) {
    const left = plot.x(lane.begin[i]);
    const right = plot.x(lane.end[i]);
    if (right < lastRight + 0.25 && right - left < 0.5) continue;  // nothing new to see
    lastRight = right;
    const width = right - left;
    const fill = color(`look-${report.lanes.looks[lane.look[i]]}`);
    g.fillStyle = fill;
    g.fillRect(left, row.top, Math.max(0.6, width - (width > 3 ? 1 : 0)), LANE_HEIGHT);
    if (width > 54) inside(plot, text(lane.name[i]), left, width, row.top, inkOn(fill));
  }
}

/** A label that is drawn only as far as it fits. */
function inside(plot, words, left, width, top, fill) {
  const { g } = plot;
  const from = Math.max(left, plot.left);
  const room = Math.min(left + width, plot.width - plot.right) - from - 10;
  if (room < 20) return;
  let shown = words;
  if (g.measureText(shown).width > room) {
    const letters = Math.floor((room / g.measureText(shown).width) * shown.length) - 1;
    if (letters < 3) return;
    shown = `${shown.slice(0, letters)}\u2026`;
  }
  g.fillStyle = fill;
  g.textAlign = "left";
  g.textBaseline = "middle";
  g.fillText(shown, from + 5, top + LANE_HEIGHT / 2 + 0.5);
}

function paintBands(plot, row, bands, wordsOf, alphaOf) {
  const { g } = plot;
  for (const band of bands) {
    if (band[1] < view.begin || band[0] > view.end) continue;
    const left = plot.x(band[0]);
    const width = plot.x(band[1]) - left;
    g.globalAlpha = alphaOf(band) * 0.34;
    g.fillStyle = color(PHASE_LOOK[band[2]] ?? "look-other");
    g.fillRect(left, row.top, Math.max(0.6, width - (width > 3 ? 1 : 0)), LANE_HEIGHT);
    g.globalAlpha = 1;
    if (width > 18) inside(plot, wordsOf(band), left, width, row.top, color("ink"));
  }
}

function paintStallStrip(plot, top, height) {
  const { g } = plot;
  for (const [begin, end, cause] of report.stalls.strip) {
    if (end < view.begin || begin > view.end) continue;
    const left = plot.x(begin);
    g.fillStyle = color(`stall-${cause % 2}`);
    g.fillRect(left, top, Math.max(1, plot.x(end) - left), height);
  }
}

function describeLanes(plot, time, y) {
  const row = shownLanes.find((candidate) => y >= candidate.top - LANE_GAP / 2 && y <= candidate.top + LANE_HEIGHT + LANE_GAP / 2);
  const now = axisTime(time, view.end - view.begin);
  if (!row) return { title: now, rows: [] };
  if (row.kind === "phases" || row.kind === "layers") {
    const band = (row.kind === "phases" ? report.bands.phases : report.bands.layers).find(([begin, end]) => begin <= time && time <= end);
    if (!band) return { title: now, rows: [] };
    const rows = [{ name: "takes", value: formatTime(band[1] - band[0]) }];
    return { title: row.kind === "phases" ? band[2] : `layer ${band[3]}, ${band[2]}`, rows };
  }
  if (row.kind === "stalls") return describeStallAt(time, now);
  const { lane } = row;
  // Slices thinner than a pixel are still found from two pixels away.
  const near = (2 / plot.plotWidth) * (view.end - view.begin);
  const i = lastAtOrBefore(lane.begin, time + near);
  if (i < 0 || lane.end[i] + near < time) return { title: now, rows: [`${row.name}: idle`] };
  const look = report.lanes.looks[lane.look[i]];
  const rows = [{ color: `look-${look}`, name: look, value: formatTime(lane.end[i] - lane.begin[i]) }];
  if (lane.layer[i] >= 0) rows.push({ name: "layer", value: String(lane.layer[i]) });
  rows.push({ name: "from", value: axisTime(lane.begin[i], view.end - view.begin) });
  if (lane.merged && lane.merged[i] > 1) rows.push(`the first of ${formatCount(lane.merged[i])} drawn as one`);
  return { title: text(lane.name[i]), rows };
}

function describeStallAt(time, now) {
  const stall = report.stalls.strip.find(([begin, end]) => begin <= time && time <= end);
  if (!stall) return { title: now, rows: ["no stall here"] };
  const rows = [{ color: `stall-${stall[2] % 2}`, name: report.stalls.causes[stall[2]], value: formatTime(stall[1] - stall[0]) }];
  const known = report.stalls.list.find(([begin, ns]) => begin <= time && time <= begin + ns);
  if (known) rows.push({ name: "waits for", value: text(known[3]) }, { name: "before", value: text(known[4]) });
  return { title: "stall", rows };
}

function startLanes() {
  const height = shownLanes.length * (LANE_HEIGHT + LANE_GAP) + 2;
  new TimePlot("lanes-chart", { height: () => height, paint: paintLanes, describe: describeLanes });
  byId("lanes-chart").setAttribute("aria-label", `Lanes over time: ${shownLanes.map((row) => row.name).join(", ")}`);
  const used = new Set();
  for (const lane of Object.values(lanes)) for (const look of lane.look) used.add(look);
  const items = report.lanes.looks.map((look, i) => (used.has(i) ? el("li", {}, swatch(`look-${look}`), look) : null)).filter(Boolean);
  const causes = new Set(report.stalls.strip.map((stall) => stall[2]));
  for (const cause of causes) items.push(el("li", {}, swatch(`stall-${cause % 2}`), `stall: ${report.stalls.causes[cause]}`));
  byId("lanes-legend").replaceChildren(...items);
}
