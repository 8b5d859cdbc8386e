// SPDX-License-Identifier: Apache-2.0
// Names of record kinds, and which of their fields are strings.
#include "core/trace.hpp"

#include <array>
#include <utility>

namespace spillway {
namespace {

constexpr std::array<std::pair<RecordKind, std::string_view>, 38> kKinds = {{
    {RecordKind::kMeta, "meta"},
    {RecordKind::kThread, "thread"},
    {RecordKind::kDevice, "device"},
    {RecordKind::kStream, "stream"},
    {RecordKind::kClock, "clock"},
    {RecordKind::kFrame, "frame"},
    {RecordKind::kStep, "step"},
    {RecordKind::kAlloc, "alloc"},
    {RecordKind::kFreeRequested, "free_requested"},
    {RecordKind::kFreeCompleted, "free_completed"},
    {RecordKind::kAddress, "address"},
    {RecordKind::kTag, "tag"},
    {RecordKind::kName, "name"},
    {RecordKind::kStackOf, "stack_of"},
    {RecordKind::kView, "view"},
    {RecordKind::kMap, "map"},
    {RecordKind::kUnmap, "unmap"},
    {RecordKind::kOom, "oom"},
    {RecordKind::kOpBegin, "op_begin"},
    {RecordKind::kOpEnd, "op_end"},
    {RecordKind::kOpTag, "op_tag"},
    {RecordKind::kOpFlops, "op_flops"},
    {RecordKind::kOpTraffic, "op_traffic"},
    {RecordKind::kOpWorkspace, "op_workspace"},
    {RecordKind::kUse, "use"},
    {RecordKind::kKernel, "kernel"},
    {RecordKind::kCopy, "copy"},
    {RecordKind::kEventRecord, "event_record"},
    {RecordKind::kEventWait, "event_wait"},
    {RecordKind::kSync, "sync"},
    {RecordKind::kRangePush, "range_push"},
    {RecordKind::kRangePop, "range_pop"},
    {RecordKind::kRangeStart, "range_start"},
    {RecordKind::kRangeEnd, "range_end"},
    {RecordKind::kMark, "mark"},
    {RecordKind::kDecision, "decision"},
    {RecordKind::kStall, "stall"},
    {RecordKind::kCounter, "counter"},
}};

constexpr std::array<std::string_view, 256> make_names() {
  std::array<std::string_view, 256> names{};
  for (const auto& [kind, name] : kKinds) names[static_cast<std::uint8_t>(kind)] = name;
  return names;
}

// Indexed by kind: readers ask for every record.
constexpr std::array<std::string_view, 256> kNames = make_names();

}  // namespace

std::string_view name_of(RecordKind kind) { return kNames[static_cast<std::uint8_t>(kind)]; }

bool parse_record_kind(std::string_view text, RecordKind* kind) {
  for (const auto& [value, name] : kKinds) {
    if (name != text) continue;
    *kind = value;
    return true;
  }
  return false;
}

bool is_record_kind(std::uint8_t byte) { return !name_of(static_cast<RecordKind>(byte)).empty(); }

StringFields string_fields(RecordKind kind) {
  StringFields fields;
  switch (kind) {
    case RecordKind::kMeta:
      fields.id = fields.arg = true;
      break;
    case RecordKind::kThread:
    case RecordKind::kDevice:
    case RecordKind::kStream:
    case RecordKind::kName:
    case RecordKind::kOpBegin:
      fields.arg = true;
      break;
    case RecordKind::kFrame:
      fields.arg_low = true;
      break;
    case RecordKind::kRangePush:
    case RecordKind::kRangeStart:
    case RecordKind::kMark:
      fields.arg = fields.stream = true;
      break;
    case RecordKind::kRangePop:
    case RecordKind::kRangeEnd:
    case RecordKind::kStall:
      fields.stream = true;
      break;
    case RecordKind::kKernel:
    case RecordKind::kCounter:
      fields.id = true;
      break;
    default:
      break;
  }
  return fields;
}

}  // namespace spillway
