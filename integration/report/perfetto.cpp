// SPDX-License-Identifier: Apache-2.0
// One packet sequence. Tracks are described first, then each track's events follow in time order;
// names are interned. Slices of a track never overlap, or nest (layers inside of their phase), as
// the format demands.
#include "integration/report/perfetto.hpp"

#include "integration/report/clean_text.hpp"
#include "integration/report/protobuf_writer.hpp"
#include "integration/report/report_lanes.hpp"
#include "integration/report/report_series.hpp"

#include <algorithm>
#include <deque>
#include <limits>
#include <unordered_map>
#include <utility>
#include <vector>

namespace spillway {
namespace {

// Field numbers of perfetto/trace/{trace_packet,track_event/*}.proto.
namespace packet_field {
constexpr std::uint32_t kTimestamp = 8, kSequenceId = 10, kTrackEvent = 11, kInternedData = 12,
                        kSequenceFlags = 13, kTrackDescriptor = 60;
}
namespace track_field {
constexpr std::uint32_t kUuid = 1, kName = 2, kProcess = 3, kParentUuid = 5, kCounter = 8,
                        kChildOrdering = 11, kSiblingOrderRank = 12;
}
namespace event_field {
constexpr std::uint32_t kDebugAnnotations = 4, kType = 9, kNameIid = 10, kTrackUuid = 11,
                        kCounterValue = 30, kFlowIds = 47, kTerminatingFlowIds = 48;
}
namespace annotation_field {
constexpr std::uint32_t kNameIid = 1, kUint = 3, kStringIid = 17;
}
namespace interned_field {
constexpr std::uint32_t kEventNames = 2, kAnnotationNames = 3, kAnnotationStrings = 29;
constexpr std::uint32_t kIid = 1, kText = 2;  // the same in all three
}  // namespace interned_field

constexpr std::uint64_t kStateCleared = 1, kNeedsState = 2;  // sequence_flags
constexpr std::uint64_t kOrderExplicit = 3;                  // child_ordering
constexpr std::uint64_t kUnitSizeBytes = 3;                  // CounterDescriptor.unit
constexpr std::uint32_t kSequence = 1;

enum class EventType : std::uint64_t { kSliceBegin = 1, kSliceEnd = 2, kCounter = 4 };

/// Track uuids; children appear in the order of their value.
enum Track : std::uint64_t {
  kProcessTrack = 1,
  kDeviceBytes,
  kResidentBytes,
  kCompressedBytes,
  kHostBytes,
  kHeadroomBytes,
  kComputeTrack,
  kOffloadTrack,
  kPrefetchTrack,
  kPhaseTrack,
  kStallTrack,
};

/// Ids of texts in one interned table; new entries wait for the packet that first uses them.
class InternedTexts {
 public:
  explicit InternedTexts(std::uint32_t field) : field_(field) {}

  std::uint64_t id(std::string_view text, ProtobufWriter& interned) {
    constexpr std::size_t kMostBytes = 1000;  // hostile names may be megabytes long
    std::string clean = clean_text(text.substr(0, kMostBytes));
    const auto [entry, fresh] = ids_.try_emplace(std::move(clean), ids_.size() + 1);
    if (fresh) {
      ProtobufWriter message;
      message.varint(interned_field::kIid, entry->second);
      message.bytes(interned_field::kText, entry->first);
      interned.message(field_, message);
    }
    return entry->second;
  }

 private:
  std::uint32_t field_;
  std::unordered_map<std::string, std::uint64_t> ids_;
};

struct Annotation {
  const char* name;
  std::string text;
  std::uint64_t number = 0;
  bool is_number = false;
};

Annotation note(const char* name, std::string_view text) {
  return {name, std::string(text), 0, false};
}
Annotation note(const char* name, std::uint64_t number) { return {name, {}, number, true}; }

struct Flows {
  std::vector<std::uint64_t> through;
  std::vector<std::uint64_t> ending;
};

class TraceWriter {
 public:
  void describe(Track track, std::string_view name, bool counter) {
    ProtobufWriter descriptor;
    descriptor.varint(track_field::kUuid, track);
    descriptor.bytes(track_field::kName, name);
    descriptor.varint(track_field::kParentUuid, kProcessTrack);
    descriptor.varint(track_field::kSiblingOrderRank, track);
    if (counter) {
      constexpr std::uint32_t kUnit = 3;
      ProtobufWriter unit;
      unit.varint(kUnit, kUnitSizeBytes);
      descriptor.message(track_field::kCounter, unit);
    }
    emit_descriptor(descriptor);
  }

  void describe_process(std::string_view name) {
    constexpr std::uint32_t kPid = 1, kProcessName = 6;
    ProtobufWriter process;
    process.varint(kPid, 1);
    process.bytes(kProcessName, name);
    ProtobufWriter descriptor;
    descriptor.varint(track_field::kUuid, kProcessTrack);
    descriptor.bytes(track_field::kName, name);
    descriptor.message(track_field::kProcess, process);
    descriptor.varint(track_field::kChildOrdering, kOrderExplicit);
    emit_descriptor(descriptor);
  }

  void begin(Track track,
             std::int64_t at_ns,
             std::string_view name,
             const std::vector<Annotation>& notes = {},
             const Flows& flows = {}) {
    ProtobufWriter event = event_of(track, EventType::kSliceBegin);
    event.varint(event_field::kNameIid, names_.id(name, interned_));
    for (const Annotation& annotation : notes) {
      ProtobufWriter message;
      message.varint(annotation_field::kNameIid, note_names_.id(annotation.name, interned_));
      if (annotation.is_number) {
        message.varint(annotation_field::kUint, annotation.number);
      } else {
        message.varint(annotation_field::kStringIid, note_texts_.id(annotation.text, interned_));
      }
      event.message(event_field::kDebugAnnotations, message);
    }
    for (const std::uint64_t flow : flows.through) event.fixed64(event_field::kFlowIds, flow);
    for (const std::uint64_t flow : flows.ending)
      event.fixed64(event_field::kTerminatingFlowIds, flow);
    emit_event(at_ns, event);
  }

  void end(Track track, std::int64_t at_ns) {
    emit_event(at_ns, event_of(track, EventType::kSliceEnd));
  }

  void count(Track track, std::int64_t at_ns, std::int64_t value) {
    ProtobufWriter event = event_of(track, EventType::kCounter);
    event.varint(event_field::kCounterValue, static_cast<std::uint64_t>(value));
    emit_event(at_ns, event);
  }

  std::string take() { return file_.take(); }

 private:
  static ProtobufWriter event_of(Track track, EventType type) {
    ProtobufWriter event;
    event.varint(event_field::kType, static_cast<std::uint64_t>(type));
    event.varint(event_field::kTrackUuid, track);
    return event;
  }

  void emit_descriptor(const ProtobufWriter& descriptor) {
    ProtobufWriter packet;
    packet.message(packet_field::kTrackDescriptor, descriptor);
    emit(packet);
  }

  void emit_event(std::int64_t at_ns, const ProtobufWriter& event) {
    ProtobufWriter packet;
    packet.varint(packet_field::kTimestamp,
                  static_cast<std::uint64_t>(std::max<std::int64_t>(0, at_ns)));
    if (!interned_.empty()) packet.message(packet_field::kInternedData, interned_);
    interned_.clear();
    packet.message(packet_field::kTrackEvent, event);
    emit(packet);
  }

  void emit(ProtobufWriter& packet) {
    constexpr std::uint32_t kPacket = 1;  // Trace.packet
    packet.varint(packet_field::kSequenceId, kSequence);
    packet.varint(packet_field::kSequenceFlags, first_ ? kStateCleared | kNeedsState : kNeedsState);
    first_ = false;
    file_.message(kPacket, packet);
  }

  ProtobufWriter file_;
  ProtobufWriter interned_;  // InternedData that the next event carries
  InternedTexts names_{interned_field::kEventNames};
  InternedTexts note_names_{interned_field::kAnnotationNames};
  InternedTexts note_texts_{interned_field::kAnnotationStrings};
  bool first_ = true;
};

class PerfettoTrace {
 public:
  PerfettoTrace(const RunContext& context, const PolicyResult& result)
      : context_(context),
        profile_(*context.profile),
        result_(result),
        axis_(step_axis(profile_, result.sim)) {}

  std::string render() {
    const bool plan = result_.sim.timeline.has_value();
    trace_.describe_process("GPU " + clean_text(context_.device->name) + ", " +
                            (plan ? clean_text(result_.policy) : std::string("keep-all")) +
                            " (predicted)");
    trace_.describe(kDeviceBytes, "device bytes", true);
    trace_.describe(kResidentBytes, "resident", true);
    trace_.describe(kCompressedBytes, "compressed", true);
    trace_.describe(kHostBytes, "on host (pinned)", true);
    if (result_.budget_bytes > 0) trace_.describe(kHeadroomBytes, "budget headroom", true);
    trace_.describe(kComputeTrack, "compute stream", false);
    trace_.describe(kOffloadTrack, "D2H engine", false);
    trace_.describe(kPrefetchTrack, "H2D engine", false);
    trace_.describe(kPhaseTrack, "phases and layers", false);
    trace_.describe(kStallTrack, "stalls", false);
    counters();
    number_flows();
    compute();
    copies(Lane::kOffloadCopy, kOffloadTrack);
    copies(Lane::kPrefetchCopy, kPrefetchTrack);
    phases();
    stalls();
    return trace_.take();
  }

 private:
  static constexpr std::size_t kAll = std::numeric_limits<std::size_t>::max();

  void counters() {
    const std::vector<PlaceChange> changes = place_changes(profile_, result_.sim, axis_);
    const MemorySeries series = memory_series(profile_, result_.sim, axis_, changes, kAll);
    std::unordered_map<std::uint64_t, std::int64_t> last;
    const auto count = [&](Track track, std::int64_t at_ns, std::int64_t value) {
      const auto [entry, fresh] = last.try_emplace(track, value);
      if (!fresh && entry->second == value) return;
      entry->second = value;
      trace_.count(track, at_ns, value);
    };
    for (const MemorySample& sample : series.samples) {
      const auto total = static_cast<std::int64_t>(sample.device_bytes());
      const auto compressed =
          static_cast<std::int64_t>(sample.by_place[static_cast<std::size_t>(Place::kCompressed)]);
      count(kDeviceBytes, sample.at_ns, total);
      count(kResidentBytes, sample.at_ns, total - compressed);
      count(kCompressedBytes, sample.at_ns, compressed);
      count(kHostBytes, sample.at_ns, static_cast<std::int64_t>(sample.host_bytes));
      if (result_.budget_bytes > 0)
        count(
            kHeadroomBytes, sample.at_ns, static_cast<std::int64_t>(result_.budget_bytes) - total);
    }
  }

  /// The n-th prefetch of a storage brings back what its n-th offload took away: one flow id for
  /// both and for the use after.
  void number_flows() {
    if (!result_.sim.timeline) return;
    std::unordered_map<std::uint32_t, std::deque<std::uint64_t>> away;
    std::uint64_t next = 1;
    for (const Lane lane : {Lane::kOffloadCopy, Lane::kPrefetchCopy}) {
      for (const Slice& slice : result_.sim.timeline->slices) {
        if (slice.lane != lane) continue;
        std::uint64_t flow = 0;
        if (lane == Lane::kOffloadCopy) {
          flow = next++;
          away[slice.target].push_back(flow);
        } else if (!away[slice.target].empty()) {
          flow = away[slice.target].front();
          away[slice.target].pop_front();
          arrivals_[slice.target].push_back({slice.end_ns, flow});
        }
        copy_flows_.emplace(&slice, flow);
      }
    }
  }

  /// Flows that end in a use of `storage` at `at_ns`.
  void take_arrivals(std::uint32_t storage, std::int64_t at_ns, Flows& flows) {
    const auto found = arrivals_.find(storage);
    if (found == arrivals_.end()) return;
    while (!found->second.empty() && found->second.front().at_ns <= at_ns) {
      flows.ending.push_back(found->second.front().flow);
      found->second.pop_front();
    }
  }

  std::vector<Annotation> op_notes(std::uint32_t op) const {
    const Op& it = profile_.ops[op];
    std::vector<Annotation> notes = {note("op", std::uint64_t{op}),
                                     note("kind", name_of(it.tag.kind)),
                                     note("phase", name_of(it.tag.phase))};
    if (it.tag.layer != kNoLayer) notes.push_back(note("layer", std::uint64_t{it.tag.layer}));
    if (it.flops > 0) notes.push_back(note("flops", it.flops));
    if (it.workspace_bytes > 0) notes.push_back(note("workspace bytes", it.workspace_bytes));
    return notes;
  }

  std::vector<Annotation> storage_notes(std::uint32_t s) const {
    const Storage& storage = profile_.storages[s];
    std::vector<Annotation> notes = {note("tensor", storage_name(s)),
                                     note("bytes", storage.bytes),
                                     note("dtype", name_of(storage.tag.dtype))};
    if (s < result_.plan.decisions.size()) {
      const Decision decision = result_.plan.decisions[s];
      notes.push_back(note("decision", name_of(decision.action)));
      if (decision.codec != Codec::kNone) notes.push_back(note("codec", name_of(decision.codec)));
    }
    if (storage.tag.layer != kNoLayer)
      notes.push_back(note("layer", std::uint64_t{storage.tag.layer}));
    return notes;
  }

  std::string storage_name(std::uint32_t s) const {
    const std::string_view name = profile_.text(profile_.storages[s].name);
    return name.empty() ? "tensor " + std::to_string(s) : std::string(name);
  }
  std::string op_name(std::uint32_t op) const {
    const Op& it = profile_.ops[op];
    if (const std::string_view name = profile_.text(it.name); !name.empty())
      return std::string(name);
    // An op made up from an allocation goes by what it allocates.
    for (const Use use : profile_.uses_of(it))
      if (use.creates()) return storage_name(profile_.storage_of(use).value);
    return std::string(name_of(it.tag.kind));
  }

  void compute() {
    if (!result_.sim.timeline) {
      for (std::uint32_t op = 0; op < profile_.ops.size(); ++op) {
        trace_.begin(kComputeTrack, axis_.op_begin_ns[op], op_name(op), op_notes(op));
        trace_.end(kComputeTrack, axis_.op_end_ns[op]);
      }
      return;
    }
    for (const Slice& slice : result_.sim.timeline->slices) {
      if (slice.lane != Lane::kCompute) continue;
      Flows flows;
      const bool op =
          slice.kind == InstructionKind::kCompute || slice.kind == InstructionKind::kRecompute;
      if (op && slice.target < profile_.ops.size()) {
        for (const Use use : profile_.uses_of(profile_.ops[slice.target]))
          if (!use.creates()) take_arrivals(profile_.storage_of(use).value, slice.begin_ns, flows);
        const bool again = slice.kind == InstructionKind::kRecompute;
        trace_.begin(kComputeTrack,
                     slice.begin_ns,
                     (again ? "recompute " : "") + op_name(slice.target),
                     op_notes(slice.target),
                     flows);
      } else if (!op && slice.target < profile_.storages.size()) {
        take_arrivals(slice.target, slice.begin_ns, flows);
        const bool encode = slice.kind == InstructionKind::kCompress;
        trace_.begin(kComputeTrack,
                     slice.begin_ns,
                     (encode ? "compress " : "decompress ") + storage_name(slice.target),
                     storage_notes(slice.target),
                     flows);
      } else {
        continue;
      }
      trace_.end(kComputeTrack, slice.end_ns);
    }
  }

  void copies(Lane lane, Track track) {
    if (!result_.sim.timeline) return;
    const char* verb = lane == Lane::kOffloadCopy ? "offload " : "prefetch ";
    for (const Slice& slice : result_.sim.timeline->slices) {
      if (slice.lane != lane || slice.target >= profile_.storages.size()) continue;
      const std::uint64_t flow = copy_flows_.at(&slice);
      Flows flows;
      if (flow != 0) flows.through.push_back(flow);
      trace_.begin(track,
                   slice.begin_ns,
                   verb + storage_name(slice.target),
                   storage_notes(slice.target),
                   flows);
      trace_.end(track, slice.end_ns);
    }
  }

  void phases() {
    const std::vector<Band> layers = layer_bands(profile_, axis_, kAll);
    std::size_t next = 0;
    for (const Band& phase : phase_bands(profile_, axis_, kAll)) {
      trace_.begin(kPhaseTrack, phase.begin_ns, name_of(phase.phase));
      for (; next < layers.size() && layers[next].begin_ns >= phase.begin_ns &&
             layers[next].end_ns <= phase.end_ns && layers[next].phase == phase.phase;
           ++next) {
        trace_.begin(
            kPhaseTrack, layers[next].begin_ns, "layer " + std::to_string(layers[next].layer));
        trace_.end(kPhaseTrack, layers[next].end_ns);
      }
      trace_.end(kPhaseTrack, phase.end_ns);
    }
  }

  void stalls() {
    if (!result_.sim.timeline) return;
    std::int64_t free_ns = 0;
    for (const Stall& stall : result_.sim.timeline->stalls) {
      if (stall.begin_ns < free_ns) continue;  // a track's slices may not overlap
      free_ns = stall.begin_ns + stall.ns;
      std::vector<Annotation> notes;
      if (stall.storage < profile_.storages.size()) notes = storage_notes(stall.storage);
      if (stall.op < profile_.ops.size()) notes.push_back(note("before op", op_name(stall.op)));
      trace_.begin(kStallTrack, stall.begin_ns, name_of(stall.cause), notes);
      trace_.end(kStallTrack, free_ns);
    }
  }

  struct Arrival {
    std::int64_t at_ns;
    std::uint64_t flow;
  };

  const RunContext& context_;
  const Profile& profile_;
  const PolicyResult& result_;
  StepAxis axis_;
  TraceWriter trace_;
  std::unordered_map<const Slice*, std::uint64_t> copy_flows_;       // 0: no counterpart
  std::unordered_map<std::uint32_t, std::deque<Arrival>> arrivals_;  // by storage, in time order
};

}  // namespace

std::string render_perfetto(const RunContext& context, const PolicyResult& result) {
  return PerfettoTrace(context, result).render();
}

}  // namespace spillway
