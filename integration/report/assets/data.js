// SPDX-License-Identifier: Apache-2.0
// Unpacks what integration/report/page_data.cpp wrote. Everything in it that came from a trace is text, never markup.

const report = JSON.parse(document.getElementById("spillway-data").textContent);
const result = report.result;

/** Running sums of a list of differences. */
function undelta(list) {
  const out = new Float64Array(list.length);
  let sum = 0;
  for (let i = 0; i < list.length; ++i) out[i] = sum += list[i];
  return out;
}

const text = (id) => report.strings[id] ?? "";

const memory = {
  t: undelta(report.memory.t),
  kinds: report.memory.kinds.map((series) => ({ name: series.name, bytes: undelta(series.d) })),
  places: report.memory.places.map((series) => ({ name: series.name, bytes: undelta(series.d) })),
  host: report.memory.host ? undelta(report.memory.host) : null,
  keepAll: { t: undelta(report.memory.keep_all.t), bytes: undelta(report.memory.keep_all.d) },
};
memory.total = new Float64Array(memory.t.length);
for (const series of memory.kinds)
  for (let i = 0; i < memory.total.length; ++i) memory.total[i] += series.bytes[i];

/** Lane columns with absolute times. */
function unpackLane(lane) {
  const count = lane.gap.length;
  const begin = new Float64Array(count);
  const end = new Float64Array(count);
  let last = 0;
  for (let i = 0; i < count; ++i) {
    begin[i] = last + lane.gap[i];
    end[i] = last = begin[i] + lane.len[i];
  }
  return { ...lane, begin, end, count };
}
const lanes = {
  compute: unpackLane(report.lanes.compute),
  offload: unpackLane(report.lanes.offload),
  prefetch: unpackLane(report.lanes.prefetch),
};
