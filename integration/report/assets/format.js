// SPDX-License-Identifier: Apache-2.0
// Numbers as words, colours by meaning, the place of a value in a sorted list, and the one way to make elements: text goes in as text.

const BYTE_UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

function significant(value) {
  return value.toFixed(value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2);
}

/** [figure, unit] in binary units, three significant figures. */
function bytesParts(bytes) {
  if (bytes < 1024) return [String(Math.round(bytes)), "B"];
  let unit = 0;
  while (bytes >= 1023.5 && unit + 1 < BYTE_UNITS.length) {
    bytes /= 1024;
    ++unit;
  }
  return [significant(bytes), BYTE_UNITS[unit]];
}
const formatBytes = (bytes) => bytesParts(bytes).join("\u00a0");

function timeParts(ns) {
  if (ns < 0) {
    const parts = timeParts(-ns);
    return ["\u2212" + parts[0], parts[1]];
  }
  if (ns < 1000) return [String(Math.round(ns)), "ns"];
  if (ns < 999.5e3) return [significant(ns / 1e3), "\u00b5s"];
  if (ns < 999.5e6) return [significant(ns / 1e6), "ms"];
  if (ns < 120e9) return [significant(ns / 1e9), "s"];
  const seconds = Math.floor(ns / 1e9);
  return [`${Math.floor(seconds / 60)} min ${seconds % 60}`, "s"];
}
const formatTime = (ns) => timeParts(ns).join("\u00a0");

const formatPercent = (ratio) => `${(100 * ratio).toFixed(1).replace("-", "\u2212")}\u00a0%`;
const formatSigned = (ratio) => {
  const rounded = (100 * ratio).toFixed(1);
  const sign = Number(rounded) > 0 ? "+" : Number(rounded) < 0 ? "\u2212" : "";
  return `${sign}${Math.abs(Number(rounded)).toFixed(1)}\u00a0%`;
};
const formatCount = (count) => count.toLocaleString("en-US").replaceAll(",", "\u202f");
const plural = (count, word) => `${formatCount(count)} ${word}${count === 1 ? "" : "s"}`;
const layerText = (layer) => (layer < 0 ? "" : String(layer));

/** Times of one step, all in the unit that suits `span_ns`, with digits that tell neighbours apart (and `more` of them). */
function axisTime(ns, span_ns, more = 0) {
  const [factor, unit] = span_ns < 2e3 ? [1, "ns"] : span_ns < 2e6 ? [1e3, "\u00b5s"] : span_ns < 2e9 ? [1e6, "ms"] : [1e9, "s"];
  const digits = Math.max(0, Math.min(4, 2 + more - Math.floor(Math.log10(Math.max(span_ns / factor, 1e-9)))));
  return `${(ns / factor).toFixed(span_ns < 2e3 ? 0 : digits)}\u00a0${unit}`;
}

/** Ticks of a byte axis up to `most_bytes`: all in one unit, with only the digits they need. */
function axisBytes(bytes, most_bytes) {
  if (bytes === 0) return "0";
  const unit = Math.max(0, Math.min(6, Math.floor(Math.log2(Math.max(1, most_bytes)) / 10)));
  return `${Number((bytes / 1024 ** unit).toFixed(3))} ${BYTE_UNITS[unit]}`;
}

/** About `count` round values in [low, high]; `base` 1024 gives binary steps. */
function ticks(low, high, count, base) {
  const span = high - low;
  if (!(span > 0)) return [low];
  const rough = span / count;
  let step;
  if (base === 1024) {
    step = 2 ** Math.round(Math.log2(rough));
  } else {
    const power = 10 ** Math.floor(Math.log10(rough));
    step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.8) ?? 10 * power;
  }
  const out = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; ++k) out.push(k * step);
  return out;
}

/** Black or white, whichever reads better on a colour written as #rrggbb. */
function inkOn(hex) {
  const [r, g, b] = [1, 3, 5].map((i) => (parseInt(hex.slice(i, i + 2), 16) / 255) ** 2.2);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.36 ? "#10151c" : "#ffffff";
}

let colors = new Map();
/** Value of a custom property; names are ours, never data. */
function color(name) {
  if (!colors.has(name))
    colors.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim() || "#888");
  return colors.get(name);
}
const forgetColors = () => { colors = new Map(); };
const KNOWN_KINDS = ["parameter", "gradient", "optimizer", "constant", "activation", "workspace", "other", "unknown"];
const kindColorName = (kind) => (KNOWN_KINDS.includes(kind) ? `kind-${kind}` : "kind-other");
const actionColorName = (action) => `act-${["keep", "compress", "offload", "recompute"][action] ?? "keep"}`;

/** el("p", {class: "x"}, "text", node...): strings become text nodes. */
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children.flat()) if (child !== null && child !== undefined) node.append(child);
  return node;
}
const byId = (id) => document.getElementById(id);

function swatch(colorName, shape = "") {
  const node = el("span", { class: `swatch ${shape}`, "aria-hidden": "true" });
  node.style.background = node.style.borderColor = `var(--${colorName})`;
  return node;
}

/** Index of the last element of ascending `list` that is <= value; -1 when there is none. */
function lastAtOrBefore(list, value) {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
