// SPDX-License-Identifier: Apache-2.0
// The Perfetto trace, read back by a decoder of its own: wire types, required fields, time order,
// nesting, flows, interned names.
#include "integration/report/perfetto.hpp"

#include "tests/support/made_up_run.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

using namespace spillway;

namespace {

/// One field of a protobuf message as it stands on the wire.
struct Field {
  std::uint64_t number = 0;
  int wire = 0;             // 0 varint, 1 eight bytes, 2 length-delimited
  std::uint64_t value = 0;  // wire 0 and 1
  std::string_view bytes;   // wire 2
};

/// Minimal decoder; REQUIREs that every byte belongs to a field.
std::vector<Field> fields_of(std::string_view message) {
  std::vector<Field> fields;
  std::size_t at = 0;
  const auto varint = [&] {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (at >= message.size()) FAIL("a varint ends early");
      const auto byte = static_cast<unsigned char>(message[at++]);
      value |= std::uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
    FAIL("a varint is longer than ten bytes");
    return value;
  };
  while (at < message.size()) {
    Field field;
    const std::uint64_t key = varint();
    field.number = key >> 3;
    field.wire = static_cast<int>(key & 7);
    if (field.number == 0) FAIL("field number 0");
    if (field.wire == 0) {
      field.value = varint();
    } else if (field.wire == 1) {
      if (message.size() - at < 8) FAIL("eight bytes end early");
      for (std::size_t i = 0; i < 8; ++i)
        field.value |= std::uint64_t{static_cast<unsigned char>(message[at + i])} << (8 * i);
      at += 8;
    } else if (field.wire == 2) {
      const std::uint64_t length = varint();
      if (length > message.size() - at) FAIL("a length reaches past the end");
      field.bytes = message.substr(at, length);
      at += length;
    } else {
      FAIL("wire type " << field.wire);
    }
    fields.push_back(field);
  }
  return fields;
}

const Field* find(const std::vector<Field>& fields, std::uint64_t number, int wire) {
  for (const Field& field : fields) {
    if (field.number != number) continue;
    if (field.wire != wire)
      FAIL("field " << number << " has wire type " << field.wire << ", expected " << wire);
    return &field;
  }
  return nullptr;
}

struct TrackInfo {
  std::string name;
  std::uint64_t parent = 0;
  std::uint64_t rank = 0;
  bool counter = false;
  bool process = false;
};

struct Event {
  std::uint64_t track = 0;
  std::uint64_t type = 0;  // 1 begin, 2 end, 4 counter
  std::uint64_t at_ns = 0;
  std::string name;
  std::int64_t value = 0;
  std::vector<std::uint64_t> flows;
  std::vector<std::uint64_t> ending;
  std::map<std::string, std::string> notes;
};

struct Decoded {
  std::map<std::uint64_t, TrackInfo> tracks;
  std::vector<Event> events;

  std::uint64_t track(const std::string& name) const {
    for (const auto& [uuid, info] : tracks)
      if (info.name == name) return uuid;
    return 0;
  }
};

using Interned = std::map<std::uint64_t, std::string>;

void add_interned(std::string_view bytes, Interned& table) {
  const auto fields = fields_of(bytes);
  const Field* iid = find(fields, 1, 0);
  const Field* text = find(fields, 2, 2);
  REQUIRE(iid != nullptr);
  REQUIRE(text != nullptr);
  REQUIRE(iid->value > 0);
  REQUIRE(table.emplace(iid->value, std::string(text->bytes)).second);
}

void add_track(std::string_view bytes, Decoded& out) {
  const auto fields = fields_of(bytes);
  TrackInfo info;
  const Field* uuid = find(fields, 1, 0);
  const Field* name = find(fields, 2, 2);
  REQUIRE(uuid != nullptr);
  REQUIRE(name != nullptr);
  info.name = std::string(name->bytes);
  if (const Field* parent = find(fields, 5, 0)) info.parent = parent->value;
  if (const Field* rank = find(fields, 12, 0)) info.rank = rank->value;
  if (const Field* counter = find(fields, 8, 2)) {
    info.counter = true;
    const auto unit = fields_of(counter->bytes);
    REQUIRE(find(unit, 3, 0) != nullptr);
    CHECK(find(unit, 3, 0)->value == 3);  // UNIT_SIZE_BYTES
  }
  if (const Field* process = find(fields, 3, 2)) {
    info.process = true;
    CHECK(find(fields_of(process->bytes), 1, 0) != nullptr);
    REQUIRE(find(fields, 11, 0) != nullptr);
    CHECK(find(fields, 11, 0)->value == 3);  // EXPLICIT
  }
  REQUIRE(out.tracks.emplace(uuid->value, info).second);  // uuids are unique
}

Decoded decode(const std::string& file) {
  Decoded out;
  Interned names;
  Interned note_names;
  Interned note_texts;
  bool first = true;
  for (const Field& packet : fields_of(file)) {
    REQUIRE(packet.number == 1);
    REQUIRE(packet.wire == 2);
    const auto fields = fields_of(packet.bytes);
    const Field* sequence = find(fields, 10, 0);
    const Field* flags = find(fields, 13, 0);
    REQUIRE(sequence != nullptr);
    REQUIRE(flags != nullptr);
    CHECK(sequence->value != 0);
    CHECK(((flags->value & 1) != 0) == first);  // cleared once, at the start
    first = false;
    if (const Field* interned = find(fields, 12, 2))
      for (const Field& entry : fields_of(interned->bytes)) {
        REQUIRE(entry.wire == 2);
        REQUIRE((entry.number == 2 || entry.number == 3 || entry.number == 29));
        add_interned(entry.bytes,
                     entry.number == 2   ? names
                     : entry.number == 3 ? note_names
                                         : note_texts);
      }
    if (const Field* track = find(fields, 60, 2)) add_track(track->bytes, out);
    const Field* body = find(fields, 11, 2);
    if (body == nullptr) continue;
    Event event;
    const Field* at = find(fields, 8, 0);
    REQUIRE(at != nullptr);
    event.at_ns = at->value;
    const auto parts = fields_of(body->bytes);
    REQUIRE(find(parts, 9, 0) != nullptr);
    REQUIRE(find(parts, 11, 0) != nullptr);
    event.type = find(parts, 9, 0)->value;
    event.track = find(parts, 11, 0)->value;
    if (const Field* name = find(parts, 10, 0)) {
      REQUIRE(names.count(name->value) == 1);  // known before or with its first use
      event.name = names[name->value];
    }
    if (const Field* value = find(parts, 30, 0))
      event.value = static_cast<std::int64_t>(value->value);
    for (const Field& part : parts) {
      if (part.number == 47 || part.number == 48) {
        REQUIRE(part.wire == 1);
        (part.number == 47 ? event.flows : event.ending).push_back(part.value);
      }
      if (part.number != 4) continue;
      const auto note = fields_of(part.bytes);
      REQUIRE(find(note, 1, 0) != nullptr);
      REQUIRE(note_names.count(find(note, 1, 0)->value) == 1);
      const std::string key = note_names[find(note, 1, 0)->value];
      if (const Field* number = find(note, 3, 0)) {
        event.notes[key] = std::to_string(number->value);
      } else {
        const Field* text = find(note, 17, 0);
        REQUIRE(text != nullptr);
        REQUIRE(note_texts.count(text->value) == 1);
        event.notes[key] = note_texts[text->value];
      }
    }
    out.events.push_back(std::move(event));
  }
  return out;
}

/// Times grow per track, every end closes a begin, nothing stays open, counters sit on counter
/// tracks.
void check_order(const Decoded& trace) {
  std::map<std::uint64_t, std::uint64_t> last;
  std::map<std::uint64_t, int> depth;
  for (const Event& event : trace.events) {
    REQUIRE(trace.tracks.count(event.track) == 1);
    const TrackInfo& track = trace.tracks.at(event.track);
    if (event.at_ns < last[event.track]) FAIL("time goes back on track " << track.name);
    last[event.track] = event.at_ns;
    CHECK(track.counter == (event.type == 4));
    if (event.type == 1) ++depth[event.track];
    if (event.type == 2 && --depth[event.track] < 0)
      FAIL("an end without a begin on track " << track.name);
    if (event.type == 1) CHECK_FALSE(event.name.empty());
  }
  for (const auto& open : depth) {
    CAPTURE(open.first);
    CHECK(open.second == 0);
  }
}

std::size_t begins_on(const Decoded& trace, std::uint64_t track) {
  std::size_t count = 0;
  for (const Event& event : trace.events)
    count += event.track == track && event.type == 1 ? 1u : 0u;
  return count;
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("a Perfetto trace decodes, nests, and has its tracks in the promised order") {
    const test::MadeUpRun run = test::made_up_run({8, ""});
    const Decoded trace = decode(render_perfetto(run.context, run.chosen));
    check_order(trace);
    std::map<std::uint64_t, std::string> by_rank;
    std::uint64_t process = 0;
    for (const auto& [uuid, info] : trace.tracks)
      if (info.process) process = uuid;
    REQUIRE(process != 0);
    for (const auto& [uuid, info] : trace.tracks) {
      if (uuid == process) continue;
      CHECK(info.parent == process);
      REQUIRE(by_rank.emplace(info.rank, info.name).second);
    }
    std::vector<std::string> order;
    for (const auto& entry : by_rank) order.push_back(entry.second);
    CHECK(order == std::vector<std::string>{"device bytes",
                                            "resident",
                                            "compressed",
                                            "on host (pinned)",
                                            "budget headroom",
                                            "compute stream",
                                            "D2H engine",
                                            "H2D engine",
                                            "phases and layers",
                                            "stalls"});
    CHECK(trace.tracks.at(process).name.find("predicted") != std::string::npos);
  }

  TEST_CASE("every slice and stall of the timeline is in the trace") {
    const test::MadeUpRun run = test::made_up_run({8, ""});
    const Decoded trace = decode(render_perfetto(run.context, run.chosen));
    std::map<Lane, std::size_t> slices;
    for (const Slice& slice : run.chosen.sim.timeline->slices) ++slices[slice.lane];
    CHECK(begins_on(trace, trace.track("compute stream")) == slices[Lane::kCompute]);
    CHECK(begins_on(trace, trace.track("D2H engine")) == slices[Lane::kOffloadCopy]);
    CHECK(begins_on(trace, trace.track("H2D engine")) == slices[Lane::kPrefetchCopy]);
    CHECK(begins_on(trace, trace.track("stalls")) == run.chosen.sim.timeline->stalls.size());
    CHECK(begins_on(trace, trace.track("phases and layers")) ==
          3 + 3 * 8);  // three phases of eight layers
    CHECK(slices[Lane::kOffloadCopy] > 3);
  }

  TEST_CASE("counters reach the peak, and headroom mirrors the device bytes") {
    const test::MadeUpRun run = test::made_up_run({8, ""});
    const Decoded trace = decode(render_perfetto(run.context, run.chosen));
    std::int64_t most = 0;
    std::int64_t least = std::int64_t{1} << 62;
    for (const Event& event : trace.events) {
      if (event.track == trace.track("device bytes")) most = std::max(most, event.value);
      if (event.track == trace.track("budget headroom")) least = std::min(least, event.value);
    }
    CHECK(most == static_cast<std::int64_t>(run.chosen.sim.peak_bytes));
    CHECK(least == static_cast<std::int64_t>(run.chosen.budget_bytes) - most);
  }

  TEST_CASE("a flow leads from offload over prefetch to the use, once per offloaded tensor") {
    const test::MadeUpRun run = test::made_up_run({8, ""});
    const Decoded trace = decode(render_perfetto(run.context, run.chosen));
    struct Chain {
      std::vector<std::string> stops;
      std::vector<std::uint64_t> times;
      std::set<std::string> tensors;
    };
    std::map<std::uint64_t, Chain> chains;
    for (const Event& event : trace.events) {
      for (const auto* flows : {&event.flows, &event.ending})
        for (const std::uint64_t flow : *flows) {
          Chain& chain = chains[flow];
          chain.stops.push_back(trace.tracks.at(event.track).name);
          chain.times.push_back(event.at_ns);
          if (event.notes.count("tensor") != 0) chain.tensors.insert(event.notes.at("tensor"));
        }
    }
    std::size_t offloads = 0;
    for (const Slice& slice : run.chosen.sim.timeline->slices)
      offloads += slice.lane == Lane::kOffloadCopy ? 1u : 0u;
    CHECK(chains.size() == offloads);
    for (const auto& entry : chains) {
      const Chain& chain = entry.second;
      CAPTURE(entry.first);
      CHECK(chain.stops ==
            std::vector<std::string>{"compute stream", "D2H engine", "H2D engine"});  // file order
      CHECK(chain.tensors.size() == 1);
      REQUIRE(chain.times.size() == 3);
      CHECK(chain.times[1] < chain.times[2]);
      CHECK(chain.times[2] < chain.times[0]);
    }
  }

  TEST_CASE("slices carry tensor, bytes and decision") {
    const test::MadeUpRun run = test::made_up_run({8, ""});
    const Decoded trace = decode(render_perfetto(run.context, run.chosen));
    for (const Event& event : trace.events) {
      if (event.track != trace.track("D2H engine") || event.type != 1) continue;
      CHECK(event.name == "offload " + event.notes.at("tensor"));
      CHECK(event.notes.at("decision") == "offload");
      CHECK(std::stoull(event.notes.at("bytes")) > 0);
    }
  }

  TEST_CASE("names that are not UTF-8 become valid strings, and very long ones are cut") {
    const test::MadeUpRun run = test::made_up_run({3, "\xff\x1b" + std::string(2'000'000, 'x')});
    const std::string file = render_perfetto(run.context, run.chosen);
    CHECK(file.size() < 200'000);
    const Decoded trace = decode(file);
    check_order(trace);
    for (const Event& event : trace.events) CHECK(event.name.find('\xff') == std::string::npos);
  }

  TEST_CASE("without a timeline the trace shows the step under keep-all") {
    const test::MadeUpRun run = test::made_up_run({4, ""});
    const Decoded trace = decode(render_perfetto(run.context, run.all[4]));
    check_order(trace);
    CHECK(begins_on(trace, trace.track("compute stream")) == run.profile->ops.size());
    CHECK(begins_on(trace, trace.track("D2H engine")) == 0);
  }
}
