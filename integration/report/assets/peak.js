// SPDX-License-Identifier: Apache-2.0
// Who holds the bytes at the highest instant, four ways, and the stalls of the step.

function rankPanel(title, entries, colorOf, code = false) {
  const list = el("ul", { class: "ranks" });
  const most = Math.max(1, ...entries.filter((entry) => entry[2] !== true).map((entry) => entry[1]));
  for (const entry of entries) {
    const rest = entry[2] === true;
    list.append(rankRow(entry[0], entry[1], Math.max(most, rest ? entry[1] : 0), rest ? "kind-unknown" : colorOf(entry), code && /[/:]/.test(entry[0])));
  }
  return el("div", { class: "card" }, el("h3", {}, title), entries.length ? list : el("p", { class: "empty" }, "nothing is held"));
}

function startPeak() {
  const peak = report.peak;
  const under = report.axis.plan ? "" : " under keep-all";
  byId("peak-lead").textContent =
    `${formatBytes(peak.bytes)} in ${plural(peak.count, "tensor")} at ${axisTime(peak.at_ns, axisEnd)}${under}${text(peak.op) ? `, while ${text(peak.op)} runs` : ""}.`;
  const panels = [
    rankPanel("By kind", peak.kinds, (entry) => kindColorName(entry[0])),
    rankPanel(peak.stacks ? "By source line" : "By the op that made it", peak.lines, () => "accent", peak.stacks),
    rankPanel("Largest tensors", peak.largest, (entry) => kindColorName(entry[2]))];
  const layered = peak.layers.some((entry) => /^layer \d/.test(entry[0]));
  if (layered) panels.splice(1, 0, rankPanel("By layer", peak.layers, () => "accent"));
  const box = byId("peak-panels");
  box.classList.toggle("three", !layered);
  box.append(...panels);
}

function startStalls() {
  const stalls = report.stalls;
  const lead = byId("stalls-lead");
  if (!report.axis.plan) {
    lead.textContent = "There is no plan to wait for.";
    return;
  }
  if (stalls.count === 0) {
    lead.textContent = "The compute stream never waits: every prefetch arrives in time and memory is always there.";
    return;
  }
  const shown = stalls.list.length;
  lead.textContent = `The compute stream waits ${plural(stalls.count, "time")}, ${formatTime(result.stall_ns)} in all.` +
    (shown < stalls.count ? ` The ${shown} longest are listed.` : "");
  byId("stalls-card").hidden = false;
  new TimePlot("stalls-chart", {
    height: () => 52,
    paint: (plot) => {
      const { g } = plot;
      g.fillStyle = color("ink-3");
      g.textAlign = "right";
      g.textBaseline = "middle";
      g.fillText("stalls", plot.left - 8, 13);
      g.fillStyle = color("line-2");
      g.fillRect(plot.left, 0, plot.plotWidth, 26);
      plot.clip(0, 26);
      paintStallStrip(plot, 0, 26);
      g.restore();
      plot.timeTicks(33);
    },
    describe: (plot, time) => describeStallAt(time, axisTime(time, view.end - view.begin)),
  });
  byId("stalls-chart").setAttribute("aria-label", lead.textContent);
  const table = byId("stalls-table");
  table.tHead.append(el("tr", {}, ["Cause", "Starts", "Lasts", "Waits for", "Before op", "Bytes"].map((name, i) =>
    el("th", { scope: "col", class: i === 1 || i === 2 || i === 5 ? "num" : null }, name))));
  for (const [begin, ns, cause, tensor, op, bytes] of stalls.list)
    table.tBodies[0].append(el("tr", {},
      el("td", {}, el("span", { class: "pill" }, swatch(`stall-${cause % 2}`), stalls.causes[cause])),
      el("td", { class: "num" }, axisTime(begin, axisEnd, 1)), el("td", { class: "num" }, formatTime(ns)),
      el("td", { class: "name" }, text(tensor)), el("td", { class: "name" }, text(op)), el("td", { class: "num" }, formatBytes(bytes))));
}
