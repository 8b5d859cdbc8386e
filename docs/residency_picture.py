#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws the README's picture: residency over a predicted step, from the data inside a report page.

usage: residency_picture.py REPORT.html LOWEST_GIB HIGHEST_GIB [COLUMNS ROWS]
"""
import bisect
import json
import re
import sys

path, low, high = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
columns, rows = (int(n) for n in (sys.argv[4:6] or (64, 14)))
with open(path, encoding="utf-8") as page:
    found = re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page.read(), re.S)
if not found:
    sys.exit(f"{path}: expected a page written by spillway replay --html")
report = json.loads(found.group(1))


def running_sums(deltas):
    total, sums = 0, []
    for delta in deltas:
        total += delta
        sums.append(total)
    return sums


def value_at(times, values, at_ns):
    index = bisect.bisect_right(times, at_ns) - 1
    return values[index] / 2**30 if index >= 0 else 0


memory = report["memory"]
times = running_sums(memory["t"])
kinds = {series["name"]: running_sums(series["d"]) for series in memory["kinds"]}
places = {series["name"]: running_sums(series["d"]) for series in memory["places"]}
host = running_sums(memory["host"]) if memory["host"] else [0] * len(times)
keep_all_times = running_sums(memory["keep_all"]["t"])
keep_all = running_sums(memory["keep_all"]["d"])
budget = (report["result"]["budget_bytes"] or 0) / 2**30
row_gib = (high - low) / rows

stacks = []  # per column: (upper edge in GiB, letter), bottom first
for column in range(columns):
    at = report["axis"]["end_ns"] * (column + 0.5) / columns
    fixed = sum(value_at(times, kinds[kind], at) for kind in kinds if kind not in ("activation", "workspace"))
    fixed += value_at(times, kinds["workspace"], at) if "workspace" in kinds else 0
    active = value_at(times, kinds["activation"], at)
    packed = value_at(times, places["compressed"], at) if "compressed" in places else 0
    away = value_at(times, host, at)
    whole = value_at(keep_all_times, keep_all, at)
    device = fixed + active
    stacks.append([(fixed, "#"), (device - packed, "k"), (device, "c"), (device + away, "o"), (whole, "r")])

for row in range(rows):
    gib = high - (row + 0.5) * row_gib
    line = "".join(next((letter for edge, letter in stack if gib < edge), " ") for stack in stacks)
    mark = "  < budget" if abs(gib - budget) <= row_gib / 2 else ""
    print(f"{gib:6.0f} |{line}{mark}".rstrip())
print("   GiB +" + "-" * columns)
phases = [" "] * columns
for begin, end, name, _ in report["bands"]["phases"]:
    left, right = (round(columns * at / report["axis"]["end_ns"]) for at in (begin, end))
    label = f"|{name.center(right - left - 1)}"[: max(right - left, 0)]
    phases[left : left + len(label)] = label
print(("        " + "".join(phases)).rstrip())
