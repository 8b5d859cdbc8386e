// SPDX-License-Identifier: Apache-2.0
// The trade-off: every policy's peak against its step time, lines for policies that were planned under several budgets.

const POLICY_COLORS = ["accent", "act-offload", "act-compress", "act-recompute", "stall-0", "kind-optimizer", "stall-1", "kind-other"];
const SHAPES = ["circle", "square", "triangle", "diamond"];

function svg(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function tradeoffPoints() {
  const policies = report.tradeoff.policies.map((row) => row.policy);
  for (const [policy] of report.tradeoff.curve) if (!policies.includes(policy)) policies.push(policy);
  // The page's own policy takes the accent; the others follow in the order of the table.
  const others = policies.filter((policy) => policy !== result.policy);
  const look = new Map([[result.policy, { color: POLICY_COLORS[0], shape: SHAPES[0] }]]);
  others.forEach((policy, i) => look.set(policy, { color: POLICY_COLORS[1 + (i % (POLICY_COLORS.length - 1))], shape: SHAPES[(1 + Math.floor(i / 2) + i) % SHAPES.length] }));
  const single = report.tradeoff.policies.filter((row) => row.feasible)
    .map((row) => ({ policy: row.policy, peak: row.peak_bytes, step: row.step_ns, budget: result.budget_bytes, look: look.get(row.policy), main: true }));
  if (result.feasible && !single.some((point) => point.policy === result.policy))
    single.push({ policy: result.policy, peak: result.peak_bytes, step: result.step_ns, budget: result.budget_bytes, look: look.get(result.policy), main: true });
  const all = report.tradeoff.curve.map(([policy, budget, peak, step]) => ({ policy, budget, peak, step, look: look.get(policy), main: false }));
  // A policy with one point elsewhere is the same plan without this budget: hollow, with its name.
  const isLone = (point) => all.filter((other) => other.policy === point.policy).length === 1;
  const known = new Set(single.map((point) => point.policy));
  const elsewhere = all.filter((point) => isLone(point) && !known.has(point.policy)).map((point) => ({ ...point, main: true, hollow: true }));
  const swept = all.filter((point) => !isLone(point));
  return { single: [...single, ...elsewhere], swept };
}

const overheadOf = (step) => (result.keep_all_step_ns > 0 ? step / result.keep_all_step_ns - 1 : 0);

function drawTradeoff() {
  const box = byId("tradeoff-chart");
  const { single, swept } = tradeoffPoints();
  const all = [...single, ...swept];
  if (all.length === 0) return;
  const width = Math.max(280, Math.floor(box.clientWidth));
  const height = Math.round(Math.min(420, Math.max(280, width * 0.62)));
  const edge = { left: 62, right: 16, top: 14, bottom: 44 };
  const range = (values, pad) => {
    const low = Math.min(...values);
    const high = Math.max(...values);
    const room = (high - low || Math.abs(high) * 0.1 || 1) * pad;
    return [Math.max(0, low - room), high + room];
  };
  const peaks = all.map((point) => point.peak);
  if (result.budget_bytes && result.budget_bytes < 1.5 * Math.max(...peaks)) peaks.push(result.budget_bytes);
  const [x0, x1] = range(peaks, 0.08);
  const steps = all.map((point) => point.step);
  if (result.bound_ns > 0) steps.push(result.bound_ns);
  const [y0, y1] = range(steps, 0.1);
  const x = (bytes) => edge.left + ((bytes - x0) / (x1 - x0)) * (width - edge.left - edge.right);
  const y = (ns) => height - edge.bottom - ((ns - y0) / (y1 - y0)) * (height - edge.top - edge.bottom);

  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Peak bytes against step time per policy" });
  for (const value of ticks(x0, x1, Math.max(2, (width - 80) / 95), 1024)) {
    root.append(svg("line", { class: "grid", x1: x(value), x2: x(value), y1: edge.top, y2: height - edge.bottom }));
    root.append(svg("text", { class: "axis", x: x(value), y: height - edge.bottom + 17, "text-anchor": "middle" }, axisBytes(value, x1)));
  }
  for (const value of ticks(y0, y1, (height - 60) / 48, 10)) {
    root.append(svg("line", { class: "grid", x1: edge.left, x2: width - edge.right, y1: y(value), y2: y(value) }));
    root.append(svg("text", { class: "axis", x: edge.left - 8, y: y(value) + 4, "text-anchor": "end" }, axisTime(value, y1, y1 - y0 < 0.03 * y1 ? 1 : 0)));
  }
  root.append(svg("text", { class: "axis", x: width - edge.right, y: height - 8, "text-anchor": "end" }, "peak on the device \u2192"));
  root.append(svg("text", { class: "axis", x: edge.left + 6, y: edge.top + 10 }, "\u2191 step time"));

  const guide = (x1_, y1_, x2_, y2_, colorName, words, tx, ty, anchor) => root.append(
    svg("line", { x1: x1_, y1: y1_, x2: x2_, y2: y2_, stroke: `var(--${colorName})`, "stroke-width": 1.5, "stroke-dasharray": colorName === "budget" ? "none" : "4 3" }),
    svg("text", { x: tx, y: ty, "text-anchor": anchor, class: "halo", fill: `var(--${colorName})` }, words));
  const taken = [];  // boxes that no name may cover
  if (result.budget_bytes >= x0 && result.budget_bytes <= x1) {
    const at = x(result.budget_bytes);
    const flip = at > width - 90;
    const base = edge.top + 24;
    guide(at, edge.top, at, height - edge.bottom, "budget", "budget", at + (flip ? -6 : 6), base, flip ? "end" : "start");
    taken.push({ left: at - 3, right: at + 3, top: 0, bottom: height }, { left: at - 56, right: at + 56, top: base - 12, bottom: base + 4 });
  }
  if (result.bound_ns > 0 && result.bound_ns >= y0) {
    const at = y(result.bound_ns);
    guide(edge.left, at, width - edge.right, at, "keepall", "bound", edge.left + 5, at + 15, "start");
    taken.push({ left: 0, right: width, top: at - 2, bottom: at + 2 }, { left: edge.left, right: edge.left + 46, top: at + 2, bottom: at + 18 });
  }

  for (const policy of new Set(swept.map((point) => point.policy))) {
    const line = swept.filter((point) => point.policy === policy).sort((a, b) => a.peak - b.peak);
    root.append(svg("polyline", { points: line.map((point) => `${x(point.peak)},${y(point.step)}`).join(" "), fill: "none", stroke: `var(--${line[0].look.color})`, "stroke-width": 2, "stroke-linejoin": "round", opacity: 0.8 }));
    for (const point of line) root.append(marker(point, x(point.peak), y(point.step), 3));
  }
  for (const point of single) root.append(marker(point, x(point.peak), y(point.step), point.policy === result.policy ? 7 : 5.5));
  labelPoints(root, single, taken, x, y, width, edge, height);
  box.replaceChildren(root);
}

function marker(point, cx, cy, r) {
  const paint = `var(--${point.look.color})`;
  const fill = point.hollow ? { fill: "var(--card)", stroke: paint, "stroke-width": 2, class: "dot" } : { fill: paint, stroke: "var(--card)", "stroke-width": 1.5, class: "dot" };
  const shape = point.main ? point.look.shape : "circle";
  let node;
  if (shape === "circle") node = svg("circle", { cx, cy, r, ...fill });
  else if (shape === "square") node = svg("rect", { x: cx - r * 0.9, y: cy - r * 0.9, width: 1.8 * r, height: 1.8 * r, ...fill });
  else if (shape === "triangle") node = svg("polygon", { points: `${cx},${cy - 1.2 * r} ${cx + 1.1 * r},${cy + 0.85 * r} ${cx - 1.1 * r},${cy + 0.85 * r}`, ...fill });
  else node = svg("polygon", { points: `${cx},${cy - 1.25 * r} ${cx + 1.25 * r},${cy} ${cx},${cy + 1.25 * r} ${cx - 1.25 * r},${cy}`, ...fill });
  const rows = [
    { name: "peak", value: formatBytes(point.peak) }, { name: "step", value: formatTime(point.step) },
    { name: "overhead", value: formatSigned(overheadOf(point.step)) }];
  if (point.budget) rows.push({ name: "budget", value: formatBytes(point.budget) });
  node.setAttribute("aria-label", `${point.policy}: ${rows.map((row) => `${row.name} ${row.value}`).join(", ")}`);
  node.setAttribute("role", "img");
  if (point.main) node.setAttribute("tabindex", "0");
  node.addEventListener("pointerenter", (event) => tooltip.show(event.clientX, event.clientY, point.policy, rows));
  node.addEventListener("pointerleave", () => tooltip.hide());
  node.addEventListener("focus", () => {
    const at = node.getBoundingClientRect();
    tooltip.show(at.right, at.bottom, point.policy, rows);
  });
  node.addEventListener("blur", () => tooltip.hide());
  return node;
}

/** Names beside their points, where they do not run into another name; the table and the tooltips have all of them. */
function labelPoints(root, points, taken, x, y, width, edge, height) {
  const placed = [...taken, ...points.map((point) => ({ left: x(point.peak) - 7, right: x(point.peak) + 7, top: y(point.step) - 7, bottom: y(point.step) + 7 }))];
  const sorted = [...points].sort((a, b) => (b.policy === result.policy) - (a.policy === result.policy));
  for (const point of sorted) {
    const w = point.policy.length * 6.6 + 4;
    const cx = x(point.peak);
    const cy = y(point.step);
    const spots = [[cx + 10, cy + 4, "start"], [cx - 10, cy + 4, "end"], [cx, cy - 11, "middle"], [cx, cy + 20, "middle"],
      [cx + 9, cy - 9, "start"], [cx - 9, cy - 9, "end"], [cx + 9, cy + 17, "start"], [cx - 9, cy + 17, "end"]];
    for (const [tx, ty, anchor] of spots) {
      const left = anchor === "start" ? tx : anchor === "end" ? tx - w : tx - w / 2;
      const box = { left, right: left + w, top: ty - 11, bottom: ty + 3 };
      if (box.left < edge.left || box.right > width - 2 || box.top < 2 || box.bottom > height - edge.bottom) continue;
      if (placed.some((other) => box.left < other.right && other.left < box.right && box.top < other.bottom && other.top < box.bottom)) continue;
      placed.push(box);
      const chosen = point.policy === result.policy;
      root.append(svg("text", { x: tx, y: ty, "text-anchor": anchor, class: "name halo", "font-weight": chosen ? 650 : 400, "pointer-events": "none" }, point.policy));
      break;
    }
  }
}

function startTradeoff() {
  const { single, swept } = tradeoffPoints();
  const rows = report.tradeoff.policies;
  if (rows.length === 0 && swept.length === 0) {
    byId("tradeoff").hidden = true;
    document.querySelector('a[href="#tradeoff"]').hidden = true;
    return;
  }
  const fits = rows.filter((row) => row.feasible).length;
  const hollow = single.filter((point) => point.hollow).length;
  byId("tradeoff-lead").textContent =
    `${fits} of ${rows.length} policies have a plan for this budget.` +
    (hollow ? " Hollow marks show the others where they do fit." : "") +
    (swept.length ? " Small dots are the same policy under other budgets." : "");
  const look = new Map([...single, ...swept].map((point) => [point.policy, point.look]));
  const node = byId("policy-table");
  node.tHead.append(el("tr", {}, ["Policy", "Peak", "Step", "Overhead"].map((name, i) => el("th", { scope: "col", class: i ? "num" : null }, name))));
  for (const row of rows) {
    const name = el("td", {}, el("span", { class: "pill" }, look.has(row.policy) ? swatch(look.get(row.policy).color) : swatch("line"), row.policy));
    if (row.feasible) {
      node.tBodies[0].append(el("tr", { class: row.policy === result.policy ? "chosen" : null }, name,
        el("td", { class: "num" }, formatBytes(row.peak_bytes)), el("td", { class: "num" }, formatTime(row.step_ns)), el("td", { class: "num" }, formatSigned(overheadOf(row.step_ns)))));
    } else {
      const needs = row.min_budget_bytes ? `needs ${formatBytes(row.min_budget_bytes)}` : "no plan";
      node.tBodies[0].append(el("tr", { class: "out" }, name, el("td", { colspan: 3, class: "num", title: row.at ? `at ${row.at}` : null }, `${row.gave_up ? "gave up" : "infeasible"}, ${needs}`)));
    }
  }
  node.parentElement.hidden = rows.length === 0;
  if (single.length + swept.length === 0) byId("tradeoff-chart").hidden = true;
  new ResizeObserver(() => drawTradeoff()).observe(byId("tradeoff-chart"));
  drawTradeoff();
}
