// SPDX-License-Identifier: Apache-2.0
// The time axis that all charts over time share: one visible range, one crosshair, one tooltip. A TimePlot is a canvas on it.

const axisEnd = Math.max(1, report.axis.end_ns);
const view = { begin: 0, end: axisEnd, hover: null, plots: [] };

function setView(begin, end) {
  const least = Math.max(axisEnd * 1e-5, 10);
  let span = Math.min(axisEnd, Math.max(least, end - begin));
  begin = Math.min(Math.max(0, begin), axisEnd - span);
  view.begin = begin;
  view.end = begin + span;
  byId("reset-zoom").disabled = span >= axisEnd;
  redrawPlots();
}

function setHover(time) {
  if (view.hover === time) return;
  view.hover = time;
  redrawPlots(false);
}

let frameAsked = false;
/** Draws in the next frame; without `changed` only crosshair and selection are new. */
function redrawPlots(changed = true) {
  if (changed) for (const plot of view.plots) plot.stale = true;
  if (frameAsked) return;
  frameAsked = true;
  requestAnimationFrame(() => {
    frameAsked = false;
    for (const plot of view.plots) plot.draw();
  });
}

const tooltip = {
  node: byId("tooltip"),
  /** rows: [{color, name, value}] or plain strings. */
  show(x, y, title, rows) {
    const node = this.node;
    node.replaceChildren(el("div", { class: "title" }, title), ...rows.map((row) =>
      typeof row === "string" ? el("div", { class: "note" }, row)
        : el("div", { class: "pair" }, row.color ? swatch(row.color, row.shape) : el("span"), el("span", {}, row.name), el("span", {}, row.value))));
    node.hidden = false;
    const width = node.offsetWidth;
    const height = node.offsetHeight;
    let left = x + 16;
    if (left + width > document.documentElement.clientWidth - 8) left = x - 16 - width;
    let top = y + 16;
    if (top + height > window.innerHeight - 8) top = y - 16 - height;
    node.style.transform = `translate(${Math.max(8, left)}px, ${Math.max(8, top)}px)`;
  },
  hide() { this.node.hidden = true; },
};

class TimePlot {
  /** paint(plot) draws; describe(plot, time, y) gives {title, rows} for the tooltip or null. */
  constructor(id, { height, paint, describe }) {
    this.canvas = byId(id);
    this.heightOf = height;
    this.paint = paint;
    this.describe = describe;
    this.drag = null;
    this.stale = true;
    this.picture = document.createElement("canvas");  // what paint() made, without the crosshair
    view.plots.push(this);
    this.listen();
    new ResizeObserver(() => redrawPlots()).observe(this.canvas.parentElement);
  }

  get plotWidth() { return this.width - this.left - this.right; }
  x(time) { return this.left + ((time - view.begin) / (view.end - view.begin)) * this.plotWidth; }
  time(x) { return view.begin + ((x - this.left) / this.plotWidth) * (view.end - view.begin); }

  draw() {
    const style = getComputedStyle(this.canvas.parentElement);
    const width = Math.floor(this.canvas.parentElement.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight));
    if (width <= 0) return;
    const height = this.heightOf(width);
    const ratio = window.devicePixelRatio || 1;
    const size = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== size[0] || this.canvas.height !== size[1]) {
      for (const canvas of [this.canvas, this.picture]) [canvas.width, canvas.height] = size;
      this.canvas.style.height = `${height}px`;
      this.stale = true;
    }
    if (this.stale) {
      this.stale = false;
      this.width = width;
      this.height = height;
      this.left = width < 560 ? 66 : 76;
      this.right = 10;
      const g = this.g = this.picture.getContext("2d");
      g.setTransform(ratio, 0, 0, ratio, 0, 0);
      g.clearRect(0, 0, width, height);
      g.font = `12px ${color("sans")}`;
      g.lineWidth = 1;
      this.paint(this);
    }
    const g = this.canvas.getContext("2d");
    g.setTransform(1, 0, 0, 1, 0, 0);
    g.clearRect(0, 0, ...size);
    g.drawImage(this.picture, 0, 0);
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (view.hover !== null && view.hover >= view.begin && view.hover <= view.end) {
      const x = Math.round(this.x(view.hover)) + 0.5;
      g.strokeStyle = color("ink-3");
      g.globalAlpha = 0.7;
      g.beginPath();
      g.moveTo(x, 0);
      g.lineTo(x, height);
      g.stroke();
      g.globalAlpha = 1;
    }
    if (this.drag && this.drag.moved) {
      g.fillStyle = color("accent");
      g.globalAlpha = 0.16;
      g.fillRect(Math.min(this.drag.from, this.drag.to), 0, Math.abs(this.drag.to - this.drag.from), height);
      g.globalAlpha = 1;
    }
  }

  /** Clips what follows to the plot area between two heights; call g.restore() after. */
  clip(top, bottom) {
    this.g.save();
    this.g.beginPath();
    this.g.rect(this.left, top, this.plotWidth, bottom - top);
    this.g.clip();
  }

  /** Tick labels below `y`. */
  timeTicks(y) {
    const g = this.g;
    const span = view.end - view.begin;
    g.fillStyle = color("ink-3");
    g.textBaseline = "top";
    for (const tick of ticks(view.begin, view.end, Math.max(2, this.plotWidth / 110), 10)) {
      const x = this.x(tick);
      const label = axisTime(tick, span);
      const half = g.measureText(label).width / 2;
      g.textAlign = "center";
      g.fillText(label, Math.min(Math.max(x, this.left + half), this.width - half), y);
    }
  }

  showAt(clientX, clientY) {
    const box = this.canvas.getBoundingClientRect();
    const x = Math.min(Math.max(clientX - box.left, this.left), this.width - this.right);
    const time = this.time(x);
    setHover(time);
    const told = this.describe(this, time, clientY - box.top);
    if (told) tooltip.show(clientX, clientY, told.title, told.rows);
    else tooltip.hide();
  }

  leave() {
    this.drag = null;
    tooltip.hide();
    setHover(null);
  }

  listen() {
    const canvas = this.canvas;
    const at = (event) => {
      const x = event.clientX - canvas.getBoundingClientRect().left;
      return Math.min(Math.max(x, this.left), this.width - this.right);
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      this.drag = { from: at(event), to: at(event), moved: false };
      if (event.isTrusted) canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (this.drag) {
        this.drag.to = at(event);
        this.drag.moved = this.drag.moved || Math.abs(this.drag.to - this.drag.from) > 4;
        redrawPlots(false);
      }
      this.showAt(event.clientX, event.clientY);
    });
    canvas.addEventListener("pointerup", (event) => {
      const drag = this.drag;
      this.drag = null;
      if (drag && drag.moved) setView(this.time(Math.min(drag.from, drag.to)), this.time(Math.max(drag.from, drag.to)));
      else this.showAt(event.clientX, event.clientY);
      redrawPlots(false);
    });
    canvas.addEventListener("pointercancel", () => this.leave());
    canvas.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") this.leave(); });
    canvas.addEventListener("dblclick", () => setView(0, axisEnd));
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      this.zoomAround(this.time(at(event)), event.deltaY > 0 ? 1.25 : 0.8);
    }, { passive: false });
    canvas.addEventListener("blur", () => this.leave());
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  zoomAround(time, factor) {
    const part = (time - view.begin) / (view.end - view.begin);
    const span = Math.min(axisEnd, (view.end - view.begin) * factor);
    setView(time - part * span, time + (1 - part) * span);
  }

  key(event) {
    const span = view.end - view.begin;
    const time = view.hover ?? (view.begin + view.end) / 2;
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      const moved = time + (event.key === "ArrowLeft" ? -1 : 1) * span * (event.shiftKey ? 0.1 : 0.01);
      const next = Math.min(axisEnd, Math.max(0, moved));
      if (next < view.begin) setView(next, next + span);
      if (next > view.end) setView(next - span, next);
      const box = this.canvas.getBoundingClientRect();
      this.showAt(box.left + this.x(next), box.top + this.height / 3);
    } else if (event.key === "+" || event.key === "=") {
      this.zoomAround(time, 0.7);
    } else if (event.key === "-") {
      this.zoomAround(time, 1 / 0.7);
    } else if (event.key === "0" || event.key === "Escape") {
      setView(0, axisEnd);
      this.leave();
    } else {
      return;
    }
    event.preventDefault();
  }
}

/** Phase at `time`, in words. */
function phaseAt(time) {
  const band = report.bands.phases.find(([begin, end]) => begin <= time && time <= end);
  return band && band[2] !== "unknown" ? band[2] : "";
}
