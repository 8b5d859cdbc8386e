// SPDX-License-Identifier: Apache-2.0
// Builds records field by field as core/trace.hpp defines them.
#include "integration/trace/emitter.hpp"

namespace spillway {

StringId TraceEmitter::string(std::string_view text) {
  const std::size_t before = strings_.size();
  const StringId id = strings_.intern(text);
  if (strings_.size() != before) sink_.string(id, text);
  return id;
}

StackId TraceEmitter::frame(StackId parent, std::string_view frame_text) {
  const StringId text = string(frame_text);
  const std::uint64_t key = static_cast<std::uint64_t>(parent.value) << 32 | text.value;
  const auto [place, fresh] = frames_.try_emplace(key, last_frame_ + 1);
  if (fresh) {
    ++last_frame_;
    record(RecordKind::kFrame, last_frame_, key);
  }
  return StackId(place->second);
}

void TraceEmitter::record(RecordKind kind,
                          std::uint64_t id,
                          std::uint64_t arg,
                          std::uint32_t stream,
                          std::uint8_t flags) {
  Record record;
  record.time_ns = time_ns_;
  record.kind = kind;
  record.flags = flags;
  record.device = device_;
  record.stream = stream;
  record.id = id;
  record.arg = arg;
  ++record_count_;
  sink_.record(record);
}

void TraceEmitter::meta(std::string_view key, std::string_view value) {
  const StringId key_id = string(key);
  record(RecordKind::kMeta, key_id.value, string(value).value);
}

void TraceEmitter::step(std::uint64_t number) { record(RecordKind::kStep, number, 0); }

void TraceEmitter::alloc(std::uint64_t storage,
                         std::uint64_t bytes,
                         std::uint32_t stream,
                         std::uint8_t flags) {
  record(RecordKind::kAlloc, storage, bytes, stream, flags);
}

void TraceEmitter::free_requested(std::uint64_t storage, std::uint32_t stream) {
  record(RecordKind::kFreeRequested, storage, 0, stream);
}

void TraceEmitter::free_completed(std::uint64_t storage, std::uint32_t stream) {
  record(RecordKind::kFreeCompleted, storage, 0, stream);
}

void TraceEmitter::free(std::uint64_t storage, std::uint32_t stream) {
  free_requested(storage, stream);
  free_completed(storage, stream);
}

void TraceEmitter::tag(std::uint64_t storage, const Tag& tag) {
  const auto flags = static_cast<std::uint8_t>(tag.has(kTagInferred) ? kRecordInferred : 0);
  record(RecordKind::kTag, storage, pack(tag), 0, flags);
}

void TraceEmitter::name(std::uint64_t storage, std::string_view text) {
  record(RecordKind::kName, storage, string(text).value);
}

void TraceEmitter::view(std::uint64_t tensor, std::uint64_t storage) {
  record(RecordKind::kView, tensor, storage);
}

void TraceEmitter::op_begin(std::uint64_t op,
                            std::string_view name,
                            const OpTag& tag,
                            std::uint32_t stream) {
  record(RecordKind::kOpBegin, op, string(name).value, stream);
  record(RecordKind::kOpTag, op, pack(tag), stream);
}

void TraceEmitter::op_end(std::uint64_t op, std::uint32_t stream) {
  record(RecordKind::kOpEnd, op, 0, stream);
}

void TraceEmitter::use(std::uint64_t op, std::uint64_t tensor, std::uint8_t flags) {
  record(RecordKind::kUse, tensor, op, 0, flags);
}

void TraceEmitter::range_push(std::string_view domain, std::string_view text, std::uint8_t flags) {
  const StringId domain_id = string(domain);
  record(RecordKind::kRangePush, 0, string(text).value, domain_id.value, flags);
}

void TraceEmitter::range_pop(std::string_view domain, std::uint8_t flags) {
  record(RecordKind::kRangePop, 0, 0, string(domain).value, flags);
}

void TraceEmitter::mark(std::string_view domain, std::string_view text) {
  const StringId domain_id = string(domain);
  record(RecordKind::kMark, 0, string(text).value, domain_id.value);
}

}  // namespace spillway
