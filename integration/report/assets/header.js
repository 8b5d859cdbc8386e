// SPDX-License-Identifier: Apache-2.0
// The head of the page: what was asked, what came out in one sentence, key figures, bytes by action, added time, and the footer.

function drawHeader() {
  const trace = String(result.trace);
  const file = trace.split("/").pop() || trace;
  document.title = `${file} \u00b7 ${result.policy} \u00b7 spillway`;
  byId("title").textContent = file;
  const facts = [];
  if (report.meta.model) facts.push(`model ${report.meta.model}`);
  facts.push(`policy ${result.policy}`);
  facts.push(result.budget_bytes ? `budget ${formatBytes(result.budget_bytes)}` : "no budget");
  facts.push(`GPU ${result.gpu}${result.calibration ? ` (${result.calibration})` : ""}`);
  if (report.meta.step_count > 1) facts.push(`step ${report.meta.step_number} of ${formatCount(report.meta.step_count)}`);
  byId("facts-line").append(...facts.map((fact) => el("span", {}, fact)));
  byId("verdict").append(...verdict());
  const aside = asideText();
  if (aside) Object.assign(byId("aside"), { textContent: aside, hidden: false });
  if (report.meta.warning) Object.assign(byId("warning"), { textContent: `Warning: ${report.meta.warning}`, hidden: false });
}

function verdict() {
  const budget = result.budget_bytes ? formatBytes(result.budget_bytes) : "";
  if (!result.feasible) {
    if (result.gave_up)
      return [el("b", { class: "bad" }, `${result.policy} gave up on ${budget}. `),
              result.min_budget_bytes ? `The best plan it found needs ${formatBytes(result.min_budget_bytes)}.` : ""];
    return [el("b", { class: "bad" }, `No plan of ${result.policy} fits ${budget}. `),
            result.min_budget_bytes ? `The smallest budget it can run in is ${formatBytes(result.min_budget_bytes)}` : "",
            result.min_budget_bytes && result.at ? `, needed at ${result.at}.` : "."];
  }
  const out = [];
  if (budget) out.push(el("b", { class: "good" }, `Fits in ${budget}. `));
  const saved = result.keep_all_peak_bytes - result.peak_bytes;
  if (saved > 0)
    out.push("The peak falls from ", el("b", {}, formatBytes(result.keep_all_peak_bytes)), " to ",
             el("b", {}, formatBytes(result.peak_bytes)), "; ");
  else out.push("Nothing has to move: the peak stays at ", el("b", {}, formatBytes(result.peak_bytes)), "; ");
  if (Math.abs(result.overhead) < 0.0005) out.push("the step takes no longer.");
  else
    out.push("the step takes ", el("b", {}, formatPercent(Math.abs(result.overhead))),
             result.overhead > 0 ? " longer." : " less.");
  return out;
}

function asideText() {
  const share = result.keep_all_peak_bytes ? report.extra.persistent_bytes / result.keep_all_peak_bytes : 0;
  if (share >= 0.5)
    return `${(100 * share).toFixed(0)} % of the keep-all peak is parameters, gradients, optimizer state and inputs, which no plan moves.`;
  return "";
}

function stat(name, [figure, unit], under) {
  const big = el("dd", { class: "big" }, figure, unit ? el("small", {}, unit) : null);
  return el("dl", { class: "stat", style: null }, el("dt", {}, name), big, ...under.filter(Boolean).map((line) => el("dd", { class: "under" }, line)));
}

function drawFigures() {
  const cards = byId("cards");
  const keepAllPeak = result.keep_all_peak_bytes;
  if (!result.feasible) {
    cards.append(
      stat("Smallest budget", result.min_budget_bytes ? bytesParts(result.min_budget_bytes) : ["unknown", ""], [result.at ? `at ${result.at}` : ""]),
      stat("Asked for", result.budget_bytes ? bytesParts(result.budget_bytes) : ["none", ""], []),
      stat("Keep-all peak", bytesParts(keepAllPeak), ["when nothing moves"]),
      stat("Unmovable", bytesParts(result.unmovable_bytes), [`${formatBytes(report.extra.persistent_bytes)} of it persistent`]),
      stat("Activations", bytesParts(result.activation_bytes), ["what a plan can move"]),
      stat("Keep-all step", timeParts(result.keep_all_step_ns), []));
    if (result.holders?.length) {
      const list = el("ul", { class: "ranks" });
      const most = Math.max(...result.holders.map((holder) => holder.bytes));
      for (const holder of result.holders) list.append(rankRow(holder.what, holder.bytes, most, kindColorName(holder.what.split(" ")[0])));
      byId("bars").append(el("div", {}, el("h3", {}, "Who holds the bytes of the smallest budget"), list));
    } else {
      byId("bars").hidden = true;
    }
    return;
  }
  const saving = keepAllPeak ? 1 - result.peak_bytes / keepAllPeak : 0;
  const aboveBound = result.bound_ns > 0 && result.keep_all_step_ns > 0
    ? (100 * (result.step_ns - result.bound_ns)) / result.keep_all_step_ns : null;
  const split = (value) => { const [figure, unit] = value.split("\u00a0"); return [figure, unit]; };
  const causes = Object.entries(result.stall_ns_by_cause).filter(([, ns]) => ns > 0)
    .map(([cause, ns]) => `${cause.replaceAll("_", " ")} ${formatTime(ns)}`);
  cards.append(
    stat("Peak", bytesParts(result.peak_bytes), [`keep\u2011all ${formatBytes(keepAllPeak)}`, result.budget_bytes ? `budget ${formatBytes(result.budget_bytes)}` : "no budget"]),
    stat("Saving", split(formatPercent(saving)), [`${formatBytes(Math.max(0, keepAllPeak - result.peak_bytes))} below keep\u2011all`]),
    stat("Step", timeParts(result.step_ns), [`keep\u2011all ${formatTime(result.keep_all_step_ns)}`, result.bound_ns > 0 ? `bound ${formatTime(result.bound_ns)}` : ""]),
    stat("Overhead", split(formatSigned(result.overhead)), [aboveBound === null ? "" : `${aboveBound.toFixed(1)} points above the bound`]),
    stat("Stalls", timeParts(result.stall_ns), causes.length ? causes : ["the compute stream never waits"]),
    stat("Activations", bytesParts(result.activation_bytes), [`unmovable ${formatBytes(result.unmovable_bytes)}`]));

  const bars = byId("bars");
  const actions = ["keep", "compress", "offload", "recompute"].map((name, i) => ({ name, value: result.bytes[name], color: actionColorName(i) }));
  bars.append(stackedBar("Activation bytes by action", formatBytes(result.activation_bytes), actions, formatBytes, true));
  const added = [
    { name: "recompute", value: report.extra.recompute_ns, color: "look-recompute" },
    { name: "codecs", value: report.extra.codec_ns, color: "look-codec" },
    ...Object.entries(result.stall_ns_by_cause).map(([cause, value], i) => ({ name: `stall: ${cause.replaceAll("_", " ")}`, value, color: `stall-${i % 2}` })),
  ];
  const total = added.reduce((sum, part) => sum + part.value, 0);
  if (total > 0) bars.append(stackedBar("Time added to the step", formatTime(total), added.filter((part) => part.value > 0), formatTime, false));
}

function stackedBar(name, total, parts, format, keepEmpty) {
  const sum = parts.reduce((all, part) => all + part.value, 0);
  const bar = el("div", { class: "stack", role: "img", "aria-label": `${name}: ${parts.map((part) => `${part.name} ${format(part.value)}`).join(", ")}` });
  for (const part of parts) {
    if (part.value <= 0) continue;
    const piece = el("i", { title: `${part.name} ${format(part.value)}` });
    piece.style.flex = `${part.value / sum} 0 0`;
    piece.style.background = `var(--${part.color})`;
    bar.append(piece);
  }
  const legend = el("ul", { class: "legend" });
  for (const part of parts)
    if (keepEmpty || part.value > 0)
      legend.append(el("li", {}, swatch(part.color), `${part.name} `, el("b", {}, format(part.value)), sum > 0 ? ` ${formatPercent(part.value / sum)}` : ""));
  return el("div", {}, el("div", { class: "bar-title" }, el("span", {}, name), el("span", {}, total)), bar, legend);
}

/** A row of a ranked list: name, bytes, and a bar against the largest. */
function rankRow(name, bytes, most, colorName, code = false) {
  const fill = el("i");
  fill.style.width = `${most > 0 ? (100 * bytes) / most : 0}%`;
  fill.style.background = `var(--${colorName})`;
  // The code font runs right to left so that the end of a long path stays visible; the mark keeps its slashes in place.
  const shown = code ? `\u200e${name}` : name;
  return el("li", { title: name }, el("span", { class: code ? "name code" : "name" }, shown), el("span", { class: "value" }, formatBytes(bytes)), el("span", { class: "track", "aria-hidden": "true" }, fill));
}

function drawFacts() {
  const box = byId("inferred");
  const inferred = result.inferred;
  const notes = report.meta.notes;
  box.firstElementChild.textContent = `How these figures came about: ${plural(inferred.length, "inferred fact")}, ${plural(notes.length, "note")}`;
  const body = box.lastElementChild;
  const list = (head, lines) => { if (lines.length) body.append(el("h3", {}, head), el("ul", {}, lines.map((line) => el("li", {}, line)))); };
  list("Where the numbers come from", [
    `compute times: ${result.times_from || "unknown"}`, `link: ${result.link_from || "unknown"}`,
    `GPU ${result.gpu}, calibration ${result.calibration || "unknown"}`, `trace format: ${report.meta.source_format || "unknown"}`,
    `${plural(report.meta.ops, "op")}, ${plural(report.tensors.total, "tensor")}`,
    ...(result.plan_ms > 0 ? [`planned in ${result.plan_ms.toFixed(1)} ms`] : [])]);
  list("Inferred, not recorded", inferred);
  list("Notes on the trace", notes);
  byId("foot").append(
    report.meta.command ? el("p", {}, el("code", {}, report.meta.command)) : "",
    el("p", {}, `spillway ${report.meta.version} (${report.meta.revision}), ${report.schema}. All times and bytes are predictions of the cost model; nothing here was measured.`));
}
