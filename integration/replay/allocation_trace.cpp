// SPDX-License-Identifier: Apache-2.0
// Records to blocks and events. Frees of unknown or already free storages are left out and counted:
// a trace is outside input, and an allocator must see a legal program.
#include "integration/replay/allocation_trace.hpp"

#include "integration/trace/reader.hpp"

#include <algorithm>
#include <map>
#include <memory>
#include <unordered_map>
#include <utility>

namespace spillway {
namespace {

// What is larger is damage, not a device; sums below it cannot overflow.
constexpr std::uint64_t kBlockBytesMax = std::uint64_t{1} << 48;
constexpr std::uint64_t kTotalBytesMax = std::uint64_t{1} << 60;

}  // namespace

struct AllocationTraceSink::State {
  enum class Life : std::uint8_t { kLive, kFreed };

  std::vector<std::string> strings{std::string()};
  std::unordered_map<std::uint64_t, std::uint32_t> block_of;  // storage id -> block
  std::unordered_map<std::uint32_t, std::uint32_t> stream_of;
  std::vector<Life> life;
  std::vector<bool> preexisting;
  std::map<std::uint16_t, std::uint64_t> allocations;  // per device
  std::uint64_t mapped_bytes = 0;
  std::uint64_t live_bytes = 0;
  std::uint64_t duplicate_count = 0;
  std::uint64_t stray_count = 0;
  std::uint64_t empty_count = 0;
  std::uint64_t oversize_count = 0;
  AllocationTrace trace;

  std::uint32_t stream(std::uint32_t number) {
    const auto [place, fresh] =
        stream_of.try_emplace(number, static_cast<std::uint32_t>(trace.streams.size()));
    if (fresh) trace.streams.push_back(number);
    return place->second;
  }

  const std::string& text(std::uint64_t id) const {
    return id < strings.size() ? strings[id] : strings[0];
  }

  ReplayBlock* block(std::uint64_t id) {
    const auto place = block_of.find(id);
    return place == block_of.end() ? nullptr : &trace.blocks[place->second];
  }

  void alloc(const Record& record) {
    if (record.arg == 0) {
      ++empty_count;
      return;
    }
    if (record.arg > kBlockBytesMax || live_bytes + record.arg > kTotalBytesMax) {
      ++oversize_count;
      return;
    }
    const auto number = static_cast<std::uint32_t>(trace.blocks.size());
    if (!block_of.try_emplace(record.id, number).second) {
      ++duplicate_count;
      return;
    }
    ReplayBlock block;
    block.bytes = record.arg;
    block.stream = stream(record.stream);
    trace.blocks.push_back(std::move(block));
    life.push_back(Life::kLive);
    // Only what stands in front of every other event can have been there before.
    const bool before = (record.flags & kRecordPreexisting) != 0 && trace.events.empty();
    preexisting.push_back(before);
    live_bytes += record.arg;
    trace.live_peak_bytes = std::max(trace.live_peak_bytes, live_bytes);
    if (!before) event(record, number, true);
  }

  void free(const Record& record) {
    const auto place = block_of.find(record.id);
    if (place == block_of.end() || life[place->second] == Life::kFreed) {
      ++stray_count;
      return;
    }
    life[place->second] = Life::kFreed;
    live_bytes -= trace.blocks[place->second].bytes;
    event(record, place->second, false);
  }

  void event(const Record& record, std::uint32_t number, bool is_alloc) {
    ReplayEvent event;
    event.time_ns = record.time_ns;
    event.block = number;
    event.stream = stream(record.stream);
    event.is_alloc = is_alloc;
    trace.events.push_back(event);
  }

  void map(const Record& record) {
    if (record.arg > kBlockBytesMax || mapped_bytes + record.arg > kTotalBytesMax) {
      ++oversize_count;
      return;
    }
    if ((record.flags & kRecordPreexisting) != 0 && trace.events.empty())
      trace.segments.push_back({record.id, record.arg, stream(record.stream)});
    mapped_bytes += record.arg;
    trace.recorded_reserved_bytes = std::max(trace.recorded_reserved_bytes, mapped_bytes);
  }

  void meta(const Record& record) {
    if (text(record.id) == "allocator_settings.expandable_segments")
      trace.recorded_expandable_segments = text(record.arg) == "true";
  }

  /// What lives from forward into backward is an activation, what backward leaves behind a
  /// gradient, what the optimizer leaves behind its state; what dies where it was born is a
  /// workspace.
  void conclude_kinds() {
    std::vector<Phase> freed_in(trace.blocks.size(), Phase::kUnknown);
    Phase now = Phase::kUnknown;
    for (const ReplayEvent& event : trace.events) {
      const Phase phase = trace.blocks[event.block].tag.phase;
      if (event.is_alloc && phase != Phase::kUnknown) now = phase;
      if (!event.is_alloc) freed_in[event.block] = now;
    }
    std::size_t count = 0;
    for (std::size_t i = 0; i < trace.blocks.size(); ++i) {
      ReplayBlock& block = trace.blocks[i];
      block.shown_kind = block.tag.kind;
      const Phase born = block.tag.phase;
      if (block.shown_kind != BufferKind::kUnknown || born == Phase::kUnknown) continue;
      ++count;
      const Phase died = freed_in[i];
      if (died == born) {
        block.shown_kind = BufferKind::kWorkspace;
      } else if (born == Phase::kForward && died == Phase::kBackward) {
        block.shown_kind = BufferKind::kActivation;
      } else if (born == Phase::kBackward) {
        block.shown_kind = BufferKind::kGradient;
      } else {
        block.shown_kind = born == Phase::kOptimizer ? BufferKind::kOptimizer : BufferKind::kOther;
      }
    }
    if (count != 0)
      trace.inferred.push_back("kinds of " + std::to_string(count) +
                               " blocks in the pictures: from the phases in which they are "
                               "allocated and freed");
  }

  /// Blocks that were there come first, in address order; every index follows.
  void order_preexisting() {
    std::vector<std::uint32_t> order(trace.blocks.size());
    for (std::uint32_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(), [this](std::uint32_t a, std::uint32_t b) {
      if (preexisting[a] != preexisting[b]) return preexisting[a] && !preexisting[b];
      return preexisting[a] && trace.blocks[a].recorded_address < trace.blocks[b].recorded_address;
    });
    std::vector<std::uint32_t> place(order.size());
    std::vector<ReplayBlock> blocks(order.size());
    for (std::uint32_t i = 0; i < order.size(); ++i) {
      place[order[i]] = i;
      blocks[i] = std::move(trace.blocks[order[i]]);
    }
    trace.blocks = std::move(blocks);
    for (ReplayEvent& event : trace.events) event.block = place[event.block];
    trace.preexisting_count =
        static_cast<std::size_t>(std::count(preexisting.begin(), preexisting.end(), true));
    std::sort(trace.segments.begin(), trace.segments.end(), [](const auto& a, const auto& b) {
      return a.address < b.address;
    });
  }
};

AllocationTraceSink::AllocationTraceSink() : state_(std::make_unique<State>().release()) {}

AllocationTraceSink::~AllocationTraceSink() { delete state_; }

void AllocationTraceSink::string(StringId, std::string_view text) {
  state_->strings.emplace_back(text);
}

void AllocationTraceSink::record(const Record& record) {
  State& state = *state_;
  switch (record.kind) {
    case RecordKind::kAlloc:
      ++state.allocations[record.device];
      state.alloc(record);
      break;
    case RecordKind::kFreeCompleted:
      state.free(record);
      break;
    case RecordKind::kAddress:
      if (ReplayBlock* block = state.block(record.id)) block->recorded_address = record.arg;
      break;
    case RecordKind::kTag:
      if (ReplayBlock* block = state.block(record.id)) block->tag = unpack_tag(record.arg);
      break;
    case RecordKind::kName:
      if (ReplayBlock* block = state.block(record.id)) block->name = state.text(record.arg);
      break;
    case RecordKind::kMap:
      state.map(record);
      break;
    case RecordKind::kUnmap:
      state.mapped_bytes -= std::min(state.mapped_bytes, record.arg);
      break;
    case RecordKind::kOom:
      ++state.trace.oom_count;
      break;
    case RecordKind::kMeta:
      state.meta(record);
      break;
    default:
      break;
  }
}

int AllocationTraceSink::busiest_of_several() const {
  const auto& counts = state_->allocations;
  if (counts.size() < 2) return -1;
  return std::max_element(counts.begin(),
                          counts.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

AllocationTrace AllocationTraceSink::take() {
  State& state = *state_;
  state.order_preexisting();
  state.conclude_kinds();
  const auto note = [&state](std::uint64_t count, const char* text) {
    if (count != 0) state.trace.notes.push_back(std::to_string(count) + text);
  };
  note(state.duplicate_count, " allocations reuse a storage's number and were left out");
  note(state.stray_count, " frees name no live storage and were left out");
  note(state.oversize_count, " sizes are beyond any device and were left out");
  note(state.empty_count, " allocations of 0 bytes were left out");
  return std::move(state.trace);
}

Result<AllocationTrace> read_allocation_trace(const std::string& path, int device) {
  ReadOptions options;
  options.device = device;
  auto sink = std::make_unique<AllocationTraceSink>();
  SPW_ASSIGN_OR_RETURN(TraceInfo info, read_trace(path, options, *sink));
  if (const int busiest = sink->busiest_of_several(); device < 0 && busiest >= 0) {
    options.device = busiest;
    sink = std::make_unique<AllocationTraceSink>();
    SPW_ASSIGN_OR_RETURN(info, read_trace(path, options, *sink));
  }
  AllocationTrace trace = sink->take();
  if (trace.events.empty())
    return Status(Code::kUnsupported,
                  path + ": --allocator needs a trace of allocations and frees; this " +
                      info.format + " has none");
  trace.format = info.format;
  trace.inferred.insert(trace.inferred.begin(), info.inferred.begin(), info.inferred.end());
  trace.notes.insert(trace.notes.begin(), info.notes.begin(), info.notes.end());
  return trace;
}

}  // namespace spillway
