// SPDX-License-Identifier: Apache-2.0
// PyTorch memory snapshots (torch.cuda.memory._dump_snapshot) as traces. Order is the order of the
// list, never the time: thousands of events share a microsecond. Phases, layers and kinds are
// concluded from stacks and marked as inferred.
#include "core/units.hpp"
#include "integration/trace/formats.hpp"
#include "integration/trace/snapshot_model.hpp"
#include "integration/trace/snapshot_phases.hpp"
#include "integration/trace/utf8.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

namespace spillway {
namespace {

constexpr std::uint64_t kLiveBytesMax = std::uint64_t{1} << 60;

class SnapshotEmitter {
 public:
  SnapshotEmitter(const PickleDocument& document,
                  const SnapshotModel& model,
                  const SnapshotPhases& phases,
                  SnapshotStacks& stacks,
                  TraceSink& sink)
      : document_(document), model_(model), phases_(phases), stacks_(stacks), out_(sink) {}

  Result<TraceInfo> run(const std::string& source_name) {
    SPW_RETURN_IF_ERROR(check_sizes(source_name));
    out_.set_device(model_.device);
    header();
    for (const SnapshotSegment& segment : model_.preexisting_segments)
      out_.record(
          RecordKind::kMap, segment.address, segment.bytes, segment.stream, kRecordPreexisting);
    for (std::size_t i = 0; i < model_.preexisting.size(); ++i) preexisting(i);
    for (std::uint32_t i = 0; i < model_.events.size(); ++i) event(i);
    finish();
    TraceInfo info;
    info.format = "pytorch-snapshot";
    info.event_count = out_.record_count();
    info.notes = model_.notes;
    describe(info);
    return info;
  }

 private:
  /// Sums of live bytes stay far from overflow for everyone downstream.
  Status check_sizes(const std::string& source_name) const {
    std::uint64_t total = 0;
    const auto too_much = [&total](std::uint64_t bytes) {
      return (total += bytes) > kLiveBytesMax;
    };
    bool over = false;
    for (const SnapshotPreexisting& storage : model_.preexisting)
      over = over || too_much(storage.bytes);
    for (const SnapshotEvent& event : model_.events) {
      if (event.action == SnapshotAction::kAlloc) over = over || too_much(event.bytes);
    }
    if (!over) return {};
    return {Code::kBadInput,
            source_name + ": offset 0: expected allocations below 2^60 bytes together, found more"};
  }

  static std::string_view range_text(Phase phase) {
    switch (phase) {
      case Phase::kForward:
        return "forward";
      case Phase::kBackward:
        return "backward";
      case Phase::kOptimizer:
        return "optimizer";
      default:
        return {};
    }
  }

  std::uint64_t id_of(SnapshotStorage storage) const {
    return 1 + storage.number + (storage.preexisting != 0 ? 0 : model_.preexisting.size());
  }

  void header() {
    out_.meta("source", "pytorch-snapshot");
    out_.meta("times_from", "host timestamps of the snapshot");
    for (const auto& [key, value] : model_.settings) out_.meta("allocator_settings." + key, value);
    const StringId device_name = out_.string("cuda:" + std::to_string(model_.device));
    out_.record(RecordKind::kDevice, 0, device_name.value);
    for (std::uint32_t i = 1; i < model_.streams.size(); ++i) {
      std::array<char, 32> text{};
      std::snprintf(text.data(),
                    text.size(),
                    "stream 0x%llx",
                    static_cast<unsigned long long>(model_.streams[i]));
      out_.record(RecordKind::kStream, 0, out_.string(text.data()).value, i);
    }
    out_.step(0);
  }

  void born(std::uint64_t id,
            std::uint64_t bytes,
            std::uint64_t address,
            std::uint32_t stack,
            std::uint32_t stream,
            std::uint8_t flags) {
    out_.alloc(id, bytes, stream, flags);
    out_.record(RecordKind::kAddress, id, address, stream);
    const StackId node = stacks_.emit(stack, out_);
    if (node.value != 0) out_.record(RecordKind::kStackOf, id, node.value);
    if (const std::string& name = stacks_.name(stack); !name.empty()) out_.name(id, name);
  }

  BufferKind kind_of(const SnapshotPreexisting& storage) const {
    if (storage.freed_at == SnapshotPreexisting::kNever) {
      const std::uint8_t flags = stacks_.stack(storage.stack).flags;
      if ((flags & kStackOptimizer) != 0) return BufferKind::kOptimizer;
      return (flags & kStackBackward) != 0 ? BufferKind::kGradient : BufferKind::kParameter;
    }
    const SnapshotEvent& freed = model_.events[storage.freed_at];
    if ((stacks_.stack(freed.stack).flags & kStackZeroGrad) != 0) return BufferKind::kGradient;
    switch (freed.phase) {
      case Phase::kOptimizer:
        return BufferKind::kOptimizer;  // replaced by its successor
      case Phase::kBackward:
        return BufferKind::kActivation;  // the history begins after its forward pass
      default:
        return BufferKind::kOther;
    }
  }

  void preexisting(std::size_t index) {
    const SnapshotPreexisting& storage = model_.preexisting[index];
    const std::uint64_t id = index + 1;
    born(id, storage.bytes, storage.address, storage.stack, storage.stream, kRecordPreexisting);
    Tag tag;
    tag.kind = kind_of(storage);
    tag.flags = kTagInferred | kPreexisting;
    out_.tag(id, tag);
    ++kinds_[static_cast<std::size_t>(tag.kind)];
    preexisting_bytes_ += storage.bytes;
    if (storage.pending_free) out_.free_requested(id, storage.stream);
  }

  void event(std::uint32_t index) {
    const SnapshotEvent& event = model_.events[index];
    out_.set_time_ns(event.time_us * 1000);
    annotations_up_to(index);
    if (event.begins_step) begin_step();
    change_phase(event.phase);
    change_metadata(event.metadata);
    for (;
         next_replaced_ < model_.replaced.size() && model_.replaced[next_replaced_].event == index;
         ++next_replaced_) {
      const SnapshotReplaced& old = model_.replaced[next_replaced_];
      if (!old.requested)
        out_.record(
            RecordKind::kFreeRequested, id_of(old.storage), 0, event.stream, kRecordInferred);
      out_.record(RecordKind::kFreeCompleted, id_of(old.storage), 0, event.stream, kRecordInferred);
    }
    switch (event.action) {
      case SnapshotAction::kAlloc:
        allocate(event);
        break;
      case SnapshotAction::kFreeRequested:
        if (event.storage.valid()) out_.free_requested(id_of(event.storage), event.stream);
        break;
      case SnapshotAction::kFreeCompleted:
      case SnapshotAction::kFree:
        complete(event);
        break;
      case SnapshotAction::kMap:
        out_.record(RecordKind::kMap, event.address, event.bytes, event.stream);
        break;
      case SnapshotAction::kUnmap:
        out_.record(RecordKind::kUnmap, event.address, event.bytes, event.stream);
        break;
      case SnapshotAction::kOom:
        out_.record(RecordKind::kOom, event.bytes, event.address, event.stream);
        break;
      case SnapshotAction::kOther:
        break;
    }
  }

  void allocate(const SnapshotEvent& event) {
    const std::uint64_t id = id_of(event.storage);
    born(id, event.bytes, event.address, event.stack, event.stream, 0);
    Tag tag;
    tag.phase = event.phase;
    tag.layer = event.layer;
    tag.flags = kTagInferred;
    const std::uint32_t run = event.forward_run - phases_.first_run_of_step[step_];
    if (phases_.runs_of_step[step_] > 1 && run > 0 && run < kNoMicroBatch)
      tag.micro_batch = static_cast<std::uint8_t>(run - 1);
    out_.tag(id, tag);
  }

  void complete(const SnapshotEvent& event) {
    if (!event.storage.valid()) return;
    const std::uint64_t id = id_of(event.storage);
    if (event.request_missing) {
      const auto flags =
          static_cast<std::uint8_t>(event.action == SnapshotAction::kFree ? 0 : kRecordInferred);
      out_.record(RecordKind::kFreeRequested, id, 0, event.stream, flags);
    }
    out_.free_completed(id, event.stream);
  }

  void annotations_up_to(std::uint32_t position) {
    for (; next_annotation_ < model_.annotations.size() &&
           model_.annotations[next_annotation_].position <= position;
         ++next_annotation_) {
      const SnapshotAnnotation& annotation = model_.annotations[next_annotation_];
      const StringId domain = out_.string("pytorch");
      if (annotation.start) {
        const StringId text = out_.string(clean_utf8(document_.text(annotation.name)));
        out_.record(RecordKind::kRangeStart, annotation.number, text.value, domain.value);
      } else {
        out_.record(RecordKind::kRangeEnd, annotation.number, 0, domain.value);
      }
    }
  }

  void begin_step() {
    change_phase(Phase::kUnknown);
    out_.step(++step_);
  }

  void change_phase(Phase phase) {
    if (phase == phase_) return;
    if (!range_text(phase_).empty()) out_.range_pop("spillway", kRecordInferred);
    if (!range_text(phase).empty()) out_.range_push("spillway", range_text(phase), kRecordInferred);
    phase_ = phase;
  }

  void change_metadata(StringId metadata) {
    if (metadata == metadata_) return;
    if (metadata_.valid()) out_.range_pop("pytorch.user_metadata");
    if (metadata.valid())
      out_.range_push("pytorch.user_metadata", clean_utf8(document_.text(metadata)));
    metadata_ = metadata;
  }

  void finish() {
    annotations_up_to(static_cast<std::uint32_t>(model_.events.size()));
    change_phase(Phase::kUnknown);
    change_metadata(StringId::none());
  }

  void describe(TraceInfo& info) const {
    const auto count_of = [this](BufferKind kind) {
      return std::to_string(kinds_[static_cast<std::size_t>(kind)]) + " " +
             std::string(name_of(kind));
    };
    if (!model_.events.empty())
      info.inferred.push_back(
          phases_.has_backward
              ? "phases: forward, backward and optimizer, from call stacks and optimizer "
                "annotations"
              : "phases: forward only, no backward pass was found in the call stacks");
    if (phases_.first_run_of_step.size() > 1)
      info.inferred.push_back("steps: " + std::to_string(phases_.first_run_of_step.size()) +
                              ", a new one where forward begins after an optimizer");
    if (phases_.layer_count != 0)
      info.inferred.push_back(
          "layers: " + std::to_string(phases_.layer_count) + ", from stacks that repeat (" +
          std::to_string(phases_.layered_alloc_count) + " of " +
          std::to_string(phases_.forward_alloc_count) + " forward allocations)");
    if (!model_.preexisting.empty())
      info.inferred.push_back(
          "state before the first event: " + std::to_string(model_.preexisting.size()) +
          " storages, " + format_bytes(preexisting_bytes_) +
          ", from the final segments and from frees (" + count_of(BufferKind::kParameter) + ", " +
          count_of(BufferKind::kGradient) + ", " + count_of(BufferKind::kOptimizer) + ", " +
          count_of(BufferKind::kActivation) + ", " + count_of(BufferKind::kOther) + ")");
  }

  const PickleDocument& document_;
  const SnapshotModel& model_;
  const SnapshotPhases& phases_;
  SnapshotStacks& stacks_;
  TraceEmitter out_;
  std::size_t next_annotation_ = 0;
  std::size_t next_replaced_ = 0;
  std::uint32_t step_ = 0;
  Phase phase_ = Phase::kUnknown;
  StringId metadata_;
  std::array<std::size_t, 8> kinds_{};
  std::uint64_t preexisting_bytes_ = 0;
};

}  // namespace

bool matches_pytorch_snapshot(std::string_view head) {
  return head.size() >= 2 && head[0] == '\x80' && head[1] >= 2 && head[1] <= 5;
}

Result<TraceInfo> read_pytorch_snapshot(BufferedInput& input,
                                        const ReadOptions& options,
                                        TraceSink& sink) {
  SPW_ASSIGN_OR_RETURN(const PickleDocument document, parse_pickle(input));
  SnapshotStacks stacks(document);
  SPW_ASSIGN_OR_RETURN(SnapshotModel model,
                       decode_snapshot(document, input.source().name(), options.device, stacks));
  rebuild_lifetimes(model);
  const SnapshotPhases phases = infer_phases(model, stacks);
  return SnapshotEmitter(document, model, phases, stacks, sink).run(input.source().name());
}

}  // namespace spillway
