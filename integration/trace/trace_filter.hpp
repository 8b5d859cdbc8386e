// SPDX-License-Identifier: Apache-2.0
// Keeps the records of one device, for readers of our own formats, whose files may hold several; or
// passes on all of them and says when there are several.
#pragma once

#include "core/trace.hpp"
#include "integration/trace/reader.hpp"

#include <cstdint>
#include <map>
#include <string>
#include <utility>

namespace spillway {

/// Passes on strings, the records of `device`, and those that belong to no device: kMeta, kThread,
/// kClock, kFrame, kStep.
class DeviceFilterSink final : public TraceSink {
 public:
  DeviceFilterSink(std::uint64_t device, TraceSink& sink) : device_(device), sink_(sink) {}

  void string(StringId id, std::string_view text) override { sink_.string(id, text); }
  void record(const Record& record) override {
    switch (record.kind) {
      case RecordKind::kMeta:
      case RecordKind::kThread:
      case RecordKind::kClock:
      case RecordKind::kFrame:
      case RecordKind::kStep:
        break;
      default:
        if (record.device != device_) {
          ++dropped_count_;
          return;
        }
    }
    sink_.record(record);
  }
  [[nodiscard]] std::uint64_t dropped_count() const { return dropped_count_; }

 private:
  std::uint64_t device_;
  TraceSink& sink_;
  std::uint64_t dropped_count_ = 0;
};

/// Passes on everything and counts allocations by device.
class DeviceCountSink final : public TraceSink {
 public:
  explicit DeviceCountSink(TraceSink& sink) : sink_(sink) {}

  void string(StringId id, std::string_view text) override { sink_.string(id, text); }
  void record(const Record& record) override {
    if (record.kind == RecordKind::kAlloc) ++counts_[record.device];
    sink_.record(record);
  }
  /// "" for one device, else a note that lists them.
  [[nodiscard]] std::string note() const {
    if (counts_.size() < 2) return {};
    std::string text;
    for (const auto& [device, count] : counts_)
      text += (text.empty() ? "allocations of several devices, all of them passed on: " : ", ") +
              std::to_string(count) + " on device " + std::to_string(device);
    return text + "; choose one to plan for it";
  }

 private:
  TraceSink& sink_;
  std::map<std::uint16_t, std::uint64_t> counts_;
};

/// Runs `read(sink)`; with `device` >= 0 only that device's records pass, and the result says how
/// many did not; otherwise all pass, and the result says when they are of several devices.
template <typename Read>
Result<TraceInfo> read_one_device(int device, TraceSink& sink, Read&& read) {
  if (device < 0) {
    DeviceCountSink counter(sink);
    Result<TraceInfo> info = read(counter);
    if (info.ok()) {
      std::string note = counter.note();
      if (!note.empty()) info.value().notes.push_back(std::move(note));
    }
    return info;
  }
  DeviceFilterSink filter(static_cast<std::uint64_t>(device), sink);
  Result<TraceInfo> info = read(filter);
  if (info.ok() && filter.dropped_count() != 0) {
    info.value().event_count -= filter.dropped_count();
    info.value().notes.push_back("left out: " + std::to_string(filter.dropped_count()) +
                                 " records of other devices");
  }
  return info;
}

}  // namespace spillway
