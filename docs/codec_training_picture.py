#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws docs/codec_training.svg from what bin/bench/codec_training writes with --json.

usage: codec_training_picture.py TRAINING.json [OUT.svg]

Each curve is the mean over the seeds, smoothed over 15 steps; the strip below is its distance to exact training.
"""
import json
import os
import sys

source = sys.argv[1]
target = sys.argv[2] if len(sys.argv) > 2 else os.path.join(os.path.dirname(__file__), "codec_training.svg")
with open(source, encoding="utf-8") as file:
    runs = json.load(file)["runs"]

WINDOW = 15
# Lossless curves lie on the exact one: drawn once, named together.
LOOKS = [("exact", "a", "exact, lossless12, sparse, mask1"), ("int8", "b", "int8"),
         ("fp8-e4m3", "c", "fp8-e4m3"), ("int4", "d", "int4")]


def mean_curve(codec):
    losses = [run["losses"] for run in runs if run["codec"] == codec]
    if not losses:
        sys.exit(f"{source}: expected runs of {codec}")
    mean = [sum(step) / len(losses) for step in zip(*losses)]
    half = WINDOW // 2
    smooth = []
    for i in range(len(mean)):
        part = mean[max(0, i - half):i + half + 1]
        smooth.append(sum(part) / len(part))
    return smooth


curves = {codec: mean_curve(codec) for codec, _, _ in LOOKS}
steps = len(curves["exact"])
seeds = len({run["seed"] for run in runs})
differences = {codec: [a - b for a, b in zip(curve, curves["exact"])] for codec, curve in curves.items()}

LEFT, RIGHT, WIDTH = 56, 700, 860
TOP, BOTTOM = 46, 330
LOW_TOP, LOW_BOTTOM, HEIGHT = 374, 484, 528
loss_high = 5.6
loss_low = 1.0
gap_high = max(0.05, max(max(d[steps // 10:]) for d in differences.values()) * 1.15)
gap_low = -gap_high / 6


def x_of(step):
    return LEFT + (RIGHT - LEFT) * step / (steps - 1)


def y_of(value, low, high, top, bottom):
    return bottom - (bottom - top) * (min(max(value, low), high) - low) / (high - low)


def path(values, low, high, top, bottom, begin=0):
    points = " ".join(f"{x_of(i):.1f},{y_of(v, low, high, top, bottom):.1f}"
                      for i, v in enumerate(values) if i >= begin)
    return f'<polyline points="{points}"'


out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
       'font-family="system-ui, sans-serif" font-size="13" role="img" '
       'aria-label="Training loss over steps with each codec, and its distance to exact training">',
       """<style>
.paper { fill: #ffffff } .text { fill: #24292f } .faint { fill: #57606a } .grid { stroke: #d0d7de }
.line { fill: none; stroke-width: 2; stroke-linejoin: round }
.a { stroke: #24292f } .b { stroke: #0969da } .c { stroke: #bc4c00 } .d { stroke: #8250df }
.ta { fill: #24292f } .tb { fill: #0969da } .tc { fill: #bc4c00 } .td { fill: #8250df }
@media (prefers-color-scheme: dark) {
.paper { fill: #0d1117 } .text { fill: #e6edf3 } .faint { fill: #9198a1 } .grid { stroke: #30363d }
.a { stroke: #e6edf3 } .b { stroke: #58a6ff } .c { stroke: #f0883e } .d { stroke: #bc8cff }
.ta { fill: #e6edf3 } .tb { fill: #58a6ff } .tc { fill: #f0883e } .td { fill: #bc8cff }
}
</style>""",
       f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}" rx="6"/>',
       f'<text class="text" x="{LEFT}" y="28" font-size="15" font-weight="600">Training loss, nats a byte</text>',
       f'<text class="faint" x="{RIGHT}" y="28" text-anchor="end">mean of {seeds} seeds, smoothed over {WINDOW} steps</text>']

for value in (1.0, 2.0, 3.0, 4.0, 5.0):
    y = y_of(value, loss_low, loss_high, TOP, BOTTOM)
    out.append(f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
    out.append(f'<text class="faint" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.0f}</text>')
out.append(f'<text class="text" x="{LEFT}" y="{LOW_TOP - 12}" font-size="15" font-weight="600">'
           'Above exact training</text>')
for value in (0.0, 0.1, 0.2, 0.3, 0.4):
    if value > gap_high:
        break
    y = y_of(value, gap_low, gap_high, LOW_TOP, LOW_BOTTOM)
    out.append(f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
    out.append(f'<text class="faint" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.1f}</text>')
for step in range(0, steps + 1, 50):
    x = x_of(min(step, steps - 1))
    out.append(f'<text class="faint" x="{x:.1f}" y="{LOW_BOTTOM + 20}" text-anchor="middle">{step}</text>')
out.append(f'<text class="faint" x="{RIGHT + 24}" y="{LOW_BOTTOM + 20}">step</text>')

for codec, look, _ in LOOKS:
    wide = ' style="stroke-width:4"' if codec == "exact" else ""
    out.append(path(curves[codec], loss_low, loss_high, TOP, BOTTOM) + f' class="line {look}"{wide}/>')
    if codec != "exact":
        out.append(path(differences[codec], gap_low, gap_high, LOW_TOP, LOW_BOTTOM) + f' class="line {look}"/>')

# Labels at the right ends, kept apart.
for low, high, top, bottom, data, names in (
        (loss_low, loss_high, TOP, BOTTOM, curves, True),
        (gap_low, gap_high, LOW_TOP, LOW_BOTTOM, differences, False)):
    rows = sorted((y_of(data[codec][-1], low, high, top, bottom), codec, look, label)
                  for codec, look, label in LOOKS if names or codec != "exact")
    floor = bottom - 16 * (len(rows) - 1)
    rows_at = []
    for i, (y, codec, look, label) in enumerate(rows):
        at = max(min(y, floor + 16 * i), rows_at[-1] + 16 if rows_at else 0)
        rows_at.append(at)
        if names and codec == "exact":
            label = "exact = lossless"
        tail = sum(differences[codec][-30:]) / 30
        shown = label if names else f"{label} {tail:+.3f}"
        out.append(f'<text class="t{look}" x="{RIGHT + 14}" y="{at + 4:.1f}" font-weight="600">{shown}</text>')
out.append("</svg>")
with open(target, "w", encoding="utf-8") as file:
    file.write("\n".join(out) + "\n")
