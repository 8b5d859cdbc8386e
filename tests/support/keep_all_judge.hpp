// SPDX-License-Identifier: Apache-2.0
// Follows a trace of an op graph the simple way, without the profile builder: live bytes, peak,
// times, and whether every use is of something that lives.
#pragma once

#include "core/tag.hpp"
#include "core/trace.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace spillway::test {

class KeepAllJudge final : public TraceSink {
 public:
  struct OpSeen {
    std::string name;
    OpTag tag;
    std::uint64_t begin_ns = 0;
    std::uint64_t duration_ns = 0;
    std::vector<std::uint64_t> reads, creates;
    std::uint64_t workspace_bytes = 0;
  };

  void string(StringId, std::string_view text) override { texts.emplace_back(text); }

  void record(const Record& record) override {
    switch (record.kind) {
      case RecordKind::kAlloc:
        if (!root_of.emplace(record.id, record.id).second) complain("id used twice");
        live[record.id] = record.arg;
        live_bytes += record.arg;
        peak_bytes = std::max(peak_bytes, live_bytes);
        break;
      case RecordKind::kView:
        if (root_of.count(record.arg) == 0 ||
            !root_of.emplace(record.id, root_of[record.arg]).second)
          complain("bad view");
        ++view_count;
        break;
      case RecordKind::kFreeCompleted:
        if (open_op) complain("free inside an op");
        if (live.count(record.id) == 0) complain("free of what does not live");
        live_bytes -= live[record.id];
        live.erase(record.id);
        break;
      case RecordKind::kOpBegin:
        if (open_op) complain("op inside an op");
        open_op = true;
        op_id = record.id;
        ops.push_back({texts.at(record.arg), {}, record.time_ns, 0, {}, {}, 0});
        break;
      case RecordKind::kOpTag:
        ops.back().tag = unpack_op_tag(record.arg);
        break;
      case RecordKind::kOpWorkspace:
        ops.back().workspace_bytes = record.arg;
        break;
      case RecordKind::kUse:
        if (!open_op || record.arg != op_id) complain("use outside of its op");
        if (root_of.count(record.id) == 0 || live.count(root_of[record.id]) == 0)
          complain("use of what does not live");
        ((record.flags & kRecordCreate) != 0 ? ops.back().creates : ops.back().reads)
            .push_back(record.id);
        break;
      case RecordKind::kOpEnd:
        open_op = false;
        ops.back().duration_ns = record.time_ns - ops.back().begin_ns;
        compute_ns += ops.back().duration_ns;
        break;
      case RecordKind::kTag:
        tags[record.id] = unpack_tag(record.arg);
        if (tags[record.id].kind == BufferKind::kConstant) constant_bytes += live[record.id];
        break;
      case RecordKind::kMeta:
        meta[texts.at(record.id)] = texts.at(record.arg);
        break;
      default:
        break;
    }
  }

  std::vector<std::string> texts{""};
  std::vector<OpSeen> ops;
  std::map<std::uint64_t, std::uint64_t> root_of;  // tensor -> storage
  std::map<std::uint64_t, std::uint64_t> live;     // storage -> bytes
  std::map<std::uint64_t, Tag> tags;
  std::map<std::string, std::string> meta;
  std::uint64_t live_bytes = 0, peak_bytes = 0, compute_ns = 0, constant_bytes = 0;
  std::size_t view_count = 0;
  std::set<std::string> complaints;

 private:
  void complain(const char* what) { complaints.insert(what); }
  bool open_op = false;
  std::uint64_t op_id = 0;
};

}  // namespace spillway::test
