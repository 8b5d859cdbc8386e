// SPDX-License-Identifier: Apache-2.0
// Heat map: mean bytes that each layer holds per column of time (weights and other unmovable state left out), and beside it what
// the plan does with the layer's activations.

const heat = {
  columns: report.heat.columns,
  rows: report.heat.rows.map((row) => ({ label: row.label, kib: undelta(row.kib), actions: row.actions })),
  most: 0,
};
for (const row of heat.rows) for (const kib of row.kib) heat.most = Math.max(heat.most, kib);

/** Colour of a share in [0, 1] on the five-point ramp. */
function rampColor(share) {
  const at = Math.min(3.9999, Math.max(0, share) * 4);
  const i = Math.floor(at);
  return mix(color(`heat-${i}`), color(`heat-${i + 1}`), at - i);
}
function mix(a, b, part) {
  const channel = (hex, i) => parseInt(hex.slice(1 + 2 * i, 3 + 2 * i), 16);
  const mixed = [0, 1, 2].map((i) => Math.round(channel(a, i) + (channel(b, i) - channel(a, i)) * part));
  return `rgb(${mixed.join(",")})`;
}

const heatRowHeight = () => Math.max(6, Math.min(20, Math.floor(420 / Math.max(1, heat.rows.length))));
const actionBarWidth = (plot) => (plot.width < 560 ? 44 : 110);

function paintHeat(plot) {
  const { g } = plot;
  plot.right = actionBarWidth(plot) + 22;
  const rowHeight = heatRowHeight();
  const every = Math.ceil(13 / rowHeight);
  const columnTime = axisEnd / heat.columns;
  const first = Math.max(0, Math.floor(view.begin / columnTime));
  const last = Math.min(heat.columns - 1, Math.floor(view.end / columnTime));
  heat.rows.forEach((row, r) => {
    const top = r * rowHeight;
    plot.clip(top, top + rowHeight - 1);
    for (let c = first; c <= last; ++c) {
      const left = Math.floor(plot.x(c * columnTime));
      const right = Math.floor(plot.x((c + 1) * columnTime));
      g.fillStyle = rampColor(heat.most ? row.kib[c] / heat.most : 0);
      g.fillRect(left, top, right - left, rowHeight);
    }
    g.restore();
    if (r % every === 0 || row.label === "no layer") {
      g.fillStyle = color("ink-3");
      g.textAlign = "right";
      g.textBaseline = "middle";
      g.fillText(row.label, plot.left - 8, top + rowHeight / 2);
    }
    paintActionShare(plot, row, top, rowHeight);
  });
  plot.timeTicks(heat.rows.length * rowHeight + 7);
  g.textAlign = "left";
  g.fillStyle = color("ink-3");
  g.fillText(plot.width < 560 ? "plan" : "action share", plot.width - actionBarWidth(plot), heat.rows.length * rowHeight + 7);
}

function paintActionShare(plot, row, top, rowHeight) {
  const { g } = plot;
  const sum = row.actions.reduce((a, b) => a + b, 0);
  let left = plot.width - actionBarWidth(plot);
  if (!sum) return;
  row.actions.forEach((bytes, action) => {
    const width = (bytes / sum) * actionBarWidth(plot);
    g.fillStyle = color(actionColorName(action));
    g.fillRect(left, top, width, rowHeight - 1);
    left += width;
  });
}

function describeHeat(plot, time, y) {
  const row = heat.rows[Math.floor(y / heatRowHeight())];
  if (!row) return null;
  const column = Math.min(heat.columns - 1, Math.max(0, Math.floor((time / axisEnd) * heat.columns)));
  const rows = [{ name: "holds on average", value: formatBytes(row.kib[column] * 1024) }];
  row.actions.forEach((bytes, action) => {
    if (bytes > 0) rows.push({ color: actionColorName(action), name: report.tensors.action_names[action], value: formatBytes(bytes) });
  });
  const phase = phaseAt(time);
  const name = row.label === "no layer" ? "no layer" : `layer ${row.label}`;
  return { title: `${name} at ${axisTime(time, view.end - view.begin)}${phase ? `, ${phase}` : ""}`, rows };
}

function startHeat() {
  const named = heat.rows.filter((row) => row.label !== "no layer").length;
  if (named === 0) {
    byId("heat-card").hidden = true;
    byId("layers-lead").textContent = "The trace names no layers.";
    return;
  }
  byId("layers-lead").textContent =
    "What each layer keeps on the device over the step, without weights and other unmovable state; on the right, what the plan does with its activations.";
  new TimePlot("heat-chart", { height: () => heat.rows.length * heatRowHeight() + 24, paint: paintHeat, describe: describeHeat });
  byId("heat-chart").setAttribute("aria-label", `Heat map of ${named} layers over time; at most ${formatBytes(heat.most * 1024)} per layer`);
  const used = report.tensors.action_names.filter((_, action) => heat.rows.some((row) => row.actions[action] > 0));
  byId("heat-legend").replaceChildren(
    el("li", {}, "0", el("span", { class: "ramp", "aria-hidden": "true" }), formatBytes(heat.most * 1024)),
    ...used.map((name) => el("li", {}, swatch(actionColorName(report.tensors.action_names.indexOf(name))), name)));
}
