// SPDX-License-Identifier: Apache-2.0
// A sink for fuzzing readers: stops the program when a reader breaks a promise of core/trace.hpp,
// whatever it was fed with. Errors must be one line of UTF-8 that names the source and an offset.
#pragma once

#include "core/status.hpp"
#include "core/tag.hpp"
#include "core/trace.hpp"
#include "integration/trace/utf8.hpp"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

namespace spillway::test {

class CheckingSink final : public TraceSink {
 public:
  static void require(bool holds, const char* promise) {
    if (holds) return;
    std::fprintf(stderr, "broken promise: %s\n", promise);
    std::abort();
  }

  static bool is_utf8_line(std::string_view text) {
    while (!text.empty()) {
      const std::size_t bytes = utf8_character_bytes(text);
      if (bytes == 0 || text.front() == '\n') return false;
      text.remove_prefix(bytes);
    }
    return true;
  }

  static void check_error(const Status& status, std::string_view source_name) {
    require(status.code() == Code::kBadInput || status.code() == Code::kNotFound,
            "a reader's error is bad input");
    require(is_utf8_line(status.message()), "an error is one line of UTF-8");
    require(status.message().substr(0, source_name.size()) == source_name,
            "an error names its source");
    require(
        status.code() == Code::kNotFound || status.message().find(": offset ") != std::string::npos,
        "an error names an offset");
  }

  void string(StringId id, std::string_view text) override {
    require(id.value == ++string_count_, "string ids are dense from 1");
    require(is_utf8_line(text), "a string is one line of UTF-8");
  }

  void record(const Record& record) override {
    ++record_count;
    require(is_record_kind(static_cast<std::uint8_t>(record.kind)), "a record has a known kind");
    const StringFields fields = string_fields(record.kind);
    require(!fields.id || record.id <= string_count_, "a string is announced before it is named");
    require(!fields.arg || record.arg <= string_count_, "a string is announced before it is named");
    require(!fields.arg_low || (record.arg & 0xffffffffu) <= string_count_,
            "a string is announced before it is named");
    require(!fields.stream || record.stream <= string_count_,
            "a string is announced before it is named");
    switch (record.kind) {
      case RecordKind::kAlloc:
        require(root_of_.emplace(record.id, record.id).second, "a storage id is never used twice");
        live_.insert(record.id);
        require((total_bytes_ += record.arg) <= std::uint64_t{1} << 61,
                "sums of bytes do not overflow");
        break;
      case RecordKind::kView:
        require(root_of_.count(record.arg) != 0, "a view looks into a known storage");
        require(root_of_.emplace(record.id, root_of_[record.arg]).second,
                "a tensor id is never used twice");
        break;
      case RecordKind::kFreeRequested:
        require(live_.count(record.id) != 0 && requested_.insert(record.id).second,
                "a free is requested once, of what lives");
        break;
      case RecordKind::kFreeCompleted:
        require(requested_.count(record.id) != 0 && live_.erase(record.id) != 0,
                "a free completes after its request");
        break;
      case RecordKind::kAddress:
      case RecordKind::kTag:
      case RecordKind::kName:
        require(live_.count(record.id) != 0, "a storage is described while it lives");
        break;
      case RecordKind::kStackOf:
        require(live_.count(record.id) != 0 && record.arg <= frame_count_,
                "a stack is a known node");
        break;
      case RecordKind::kFrame:
        require(record.id == frame_count_ + 1 && record.arg >> 32 <= frame_count_,
                "call-tree nodes are dense, parents first");
        ++frame_count_;
        break;
      case RecordKind::kOpBegin:
        require(open_op_ == kNoOp, "ops do not nest");
        open_op_ = record.id;
        break;
      case RecordKind::kOpEnd:
        require(open_op_ == record.id, "an op ends that began");
        open_op_ = kNoOp;
        break;
      case RecordKind::kUse:
        require(open_op_ == record.arg, "a use belongs to the open op");
        require(root_of_.count(record.id) != 0 && live_.count(root_of_[record.id]) != 0,
                "an op uses what lives");
        break;
      case RecordKind::kRangePush:
        ++range_depth_[record.stream];
        break;
      case RecordKind::kRangePop:
        require(range_depth_[record.stream]-- > 0, "a range is popped that was pushed");
        break;
      default:
        break;
    }
  }

  std::uint64_t record_count = 0;

 private:
  static constexpr std::uint64_t kNoOp = ~std::uint64_t{0};
  std::uint32_t string_count_ = 0;
  std::uint64_t frame_count_ = 0;
  std::uint64_t total_bytes_ = 0;
  std::uint64_t open_op_ = kNoOp;
  std::unordered_map<std::uint64_t, std::uint64_t> root_of_;
  std::unordered_set<std::uint64_t> live_, requested_;
  std::unordered_map<std::uint32_t, std::int64_t> range_depth_;
};

}  // namespace spillway::test
