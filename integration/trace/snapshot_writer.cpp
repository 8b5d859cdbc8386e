// SPDX-License-Identifier: Apache-2.0
// Field names and their order are those of torch/csrc/cuda/memory_snapshot.cpp's output.
#include "integration/trace/snapshot_writer.hpp"

#include "integration/trace/pickle_writer.hpp"
#include "integration/trace/utf8.hpp"

#include <optional>
#include <string_view>

namespace spillway {
namespace {

std::string_view state_text(SnapshotBlockState state) {
  switch (state) {
    case SnapshotBlockState::kAllocated:
      return "active_allocated";
    case SnapshotBlockState::kPendingFree:
      return "active_pending_free";
    case SnapshotBlockState::kFree:
      break;
  }
  return "inactive";
}

std::string_view action_text(SnapshotEventKind kind) {
  switch (kind) {
    case SnapshotEventKind::kAlloc:
      return "alloc";
    case SnapshotEventKind::kFreeRequested:
      return "free_requested";
    case SnapshotEventKind::kFreeCompleted:
      return "free_completed";
    case SnapshotEventKind::kSegmentAlloc:
      return "segment_alloc";
    case SnapshotEventKind::kSegmentFree:
      return "segment_free";
    case SnapshotEventKind::kSegmentMap:
      return "segment_map";
    case SnapshotEventKind::kSegmentUnmap:
      return "segment_unmap";
    case SnapshotEventKind::kOom:
      break;
  }
  return "oom";
}

class Writer {
 public:
  Writer(const SnapshotContents& contents, ByteSink& out)
      : contents_(contents), pickle_(out), memo_of_stack_(contents.stacks.size()) {}

  Status run() {
    SPW_RETURN_IF_ERROR(check());
    pickle_.begin_dict();
    pickle_.text("segments");
    pickle_.begin_list();
    for (const SnapshotSegmentOut& segment : contents_.segments) write(segment);
    pickle_.end_list();
    pickle_.text("device_traces");
    pickle_.begin_list();
    for (const auto& events : contents_.device_events) {
      pickle_.begin_list();
      for (const SnapshotEventOut& event : events) write(event);
      pickle_.end_list();
    }
    pickle_.end_list();
    write_settings();
    pickle_.text("external_annotations");
    pickle_.empty_list();
    pickle_.end_dict();
    return pickle_.finish();
  }

 private:
  [[nodiscard]] Status check() const {
    const std::size_t stacks = contents_.stacks.size();
    for (const SnapshotSegmentOut& segment : contents_.segments) {
      std::uint64_t bytes = 0;
      bool stacks_known = segment.stack < stacks;
      for (const SnapshotBlockOut& block : segment.blocks) {
        bytes += block.bytes;
        stacks_known = stacks_known && block.stack < stacks;
      }
      if (bytes != segment.bytes)
        return {Code::kInvalidArgument,
                "the blocks of the segment at " + std::to_string(segment.address) + " fill " +
                    std::to_string(bytes) + " of its " + std::to_string(segment.bytes) + " bytes"};
      if (!stacks_known) return unknown_stack();
    }
    for (const auto& events : contents_.device_events)
      for (const SnapshotEventOut& event : events)
        if (event.stack >= stacks) return unknown_stack();
    return {};
  }

  static Status unknown_stack() {
    return {Code::kInvalidArgument, "a block or event names a stack that is not in the list"};
  }

  void field(std::string_view name, std::uint64_t value) {
    pickle_.text(name);
    pickle_.number(value);
  }

  void field(std::string_view name, std::string_view value) {
    pickle_.text(name);
    pickle_.text(value);
  }

  /// Equal stacks are one list, as in the original: most of a snapshot is frames.
  void write_frames(std::uint32_t stack) {
    pickle_.text("frames");
    std::optional<std::uint32_t>& memo = memo_of_stack_[stack];
    if (memo) {
      pickle_.same_as(*memo);
      return;
    }
    pickle_.begin_list();
    for (const SnapshotFrameText& frame : contents_.stacks[stack]) {
      pickle_.begin_dict();
      field("name", clean_utf8(frame.name));
      field("filename", clean_utf8(frame.file));
      field("line", frame.line);
      pickle_.end_dict();
    }
    pickle_.end_list();
    memo = pickle_.memorise();
  }

  void write(const SnapshotSegmentOut& segment) {
    std::uint64_t allocated = 0;
    std::uint64_t active = 0;
    std::uint64_t requested = 0;
    for (const SnapshotBlockOut& block : segment.blocks) {
      if (block.state == SnapshotBlockState::kAllocated) allocated += block.bytes;
      if (block.state == SnapshotBlockState::kFree) continue;
      active += block.bytes;
      requested += block.requested_bytes;
    }
    pickle_.begin_dict();
    field("device", segment.device);
    field("address", segment.address);
    field("total_size", segment.bytes);
    field("allocated_size", allocated);
    field("active_size", active);
    field("requested_size", requested);
    field("stream", segment.stream);
    field("segment_type", segment.small ? "small" : "large");
    pickle_.text("segment_pool_id");
    pickle_.pair(0, 0);
    pickle_.text("is_expandable");
    pickle_.flag(segment.expandable);
    write_frames(segment.stack);
    pickle_.text("blocks");
    pickle_.begin_list();
    std::uint64_t address = segment.address;
    for (const SnapshotBlockOut& block : segment.blocks) {
      pickle_.begin_dict();
      field("address", address);
      field("size", block.bytes);
      field("requested_size", block.requested_bytes);
      field("state", state_text(block.state));
      write_frames(block.stack);
      pickle_.end_dict();
      address += block.bytes;
    }
    pickle_.end_list();
    pickle_.end_dict();
  }

  void write(const SnapshotEventOut& event) {
    pickle_.begin_dict();
    field("action", action_text(event.kind));
    field(event.kind == SnapshotEventKind::kOom ? "device_free" : "addr", event.address);
    field("size", event.bytes);
    field("stream", event.stream);
    field("time_us", event.time_us);
    write_frames(event.stack);
    pickle_.end_dict();
  }

  void write_settings() {
    pickle_.text("allocator_settings");
    pickle_.begin_dict();
    field("PYTORCH_CUDA_ALLOC_CONF", "");
    pickle_.text("max_split_size");
    pickle_.signed_number(-1);
    pickle_.text("garbage_collection_threshold");
    pickle_.real(0.0);
    pickle_.text("expandable_segments");
    pickle_.flag(contents_.expandable_segments);
    pickle_.text("roundup_power2_divisions");
    pickle_.empty_dict();
    pickle_.end_dict();
  }

  const SnapshotContents& contents_;
  PickleWriter pickle_;
  std::vector<std::optional<std::uint32_t>> memo_of_stack_;
};

}  // namespace

std::vector<SnapshotFrameText> frames_of(const Tag& tag, std::string_view name) {
  std::string words;
  if (tag.kind != BufferKind::kUnknown) words = name_of(tag.kind);
  if (tag.layer != kNoLayer)
    words += (words.empty() ? "layer " : ", layer ") + std::to_string(tag.layer);
  if (tag.phase != Phase::kUnknown)
    words += (words.empty() ? "" : ", ") + std::string(name_of(tag.phase));
  std::vector<SnapshotFrameText> frames;
  if (!name.empty()) frames.push_back({"trace", 0, std::string(name)});
  if (!words.empty()) frames.push_back({"tag", 0, words});
  return frames;
}

Status write_snapshot(const SnapshotContents& contents, ByteSink& out) {
  return Writer(contents, out).run();
}

}  // namespace spillway
