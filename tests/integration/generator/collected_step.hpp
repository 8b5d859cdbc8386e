// SPDX-License-Identifier: Apache-2.0
// A TraceSink that keeps a generated step in plain tables and checks the rules of a well-formed one
// as records arrive.
#pragma once

#include "core/tag.hpp"
#include "core/trace.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace spillway {

struct CollectedStorage {
  std::string name;
  std::uint64_t bytes = 0;
  Tag tag;
  bool preexisting = false;
  bool alive = true;
  std::uint64_t creator = ~std::uint64_t{0};  // op
  std::uint64_t freed_after = ~std::uint64_t{0};
  std::vector<std::uint64_t> readers;
};

struct CollectedOp {
  std::string name;
  OpTag tag;
  std::uint64_t begin_ns = 0;
  std::uint64_t end_ns = 0;
  std::uint64_t flops = 0;
  std::uint64_t traffic_bytes = 0;
  std::uint64_t workspace_bytes = 0;
  std::vector<std::uint64_t> reads;
  std::vector<std::uint64_t> writes;
  std::vector<std::uint64_t> creates;
};

class CollectedStep : public TraceSink {
 public:
  void string(StringId id, std::string_view text) override;
  void record(const Record& record) override;

  std::map<std::uint64_t, CollectedStorage> storages;
  std::vector<CollectedOp> ops;
  std::map<std::string, std::string> metas;
  std::vector<std::string> faults;     // broken rules; empty for a well-formed step
  std::vector<std::string> range_log;  // "+text" and "-" in order
  std::uint64_t live_bytes = 0;
  std::uint64_t peak_bytes = 0;  // over ops: live + outputs + workspace
  std::uint64_t records = 0;
  std::uint64_t steps = 0;
  std::vector<Record> raw;

  /// Preexisting storages of a kind, in elements of `dtype_size` bytes.
  [[nodiscard]] std::uint64_t bytes_of(BufferKind kind) const;
  /// Bytes of activations of a layer and micro-batch whose name does or does not end with `suffix`.
  [[nodiscard]] std::uint64_t saved_bytes(std::uint16_t layer,
                                          std::string_view suffix,
                                          bool with) const;

 private:
  void fault(const std::string& what);
  CollectedStorage* live(std::uint64_t id, const char* where);

  std::vector<std::string> strings_{""};
  bool in_op_ = false;
  std::uint64_t last_ns_ = 0;
  std::size_t range_depth_ = 0;
};

inline void CollectedStep::fault(const std::string& what) {
  if (faults.size() < 20) faults.push_back(what);
}

inline void CollectedStep::string(StringId id, std::string_view text) {
  if (id.index() != strings_.size()) fault("string ids are not dense");
  strings_.emplace_back(text);
}

inline CollectedStorage* CollectedStep::live(std::uint64_t id, const char* where) {
  const auto found = storages.find(id);
  if (found == storages.end() || !found->second.alive) {
    fault(std::string(where) + " of storage " + std::to_string(id) + ", which is not live");
    return nullptr;
  }
  return &found->second;
}

inline void CollectedStep::record(const Record& r) {
  ++records;
  raw.push_back(r);
  if (r.time_ns < last_ns_) fault("time runs backwards");
  last_ns_ = r.time_ns;
  switch (r.kind) {
    case RecordKind::kMeta:
      metas[strings_.at(r.id)] = strings_.at(r.arg);
      break;
    case RecordKind::kStep:
      ++steps;
      break;
    case RecordKind::kAlloc: {
      if (storages.count(r.id) != 0) fault("storage id used twice");
      CollectedStorage& s = storages[r.id];
      s.bytes = r.arg;
      s.preexisting = (r.flags & kRecordPreexisting) != 0;
      if (s.preexisting == in_op_) fault("storage is neither preexisting nor an op's output");
      live_bytes += r.arg;
      break;
    }
    case RecordKind::kTag:
      if (CollectedStorage* s = live(r.id, "tag")) s->tag = unpack_tag(r.arg);
      break;
    case RecordKind::kName:
      if (CollectedStorage* s = live(r.id, "name")) s->name = strings_.at(r.arg);
      break;
    case RecordKind::kFreeRequested:
      if (in_op_) fault("free inside an op");
      break;
    case RecordKind::kFreeCompleted:
      if (CollectedStorage* s = live(r.id, "free")) {
        s->alive = false;
        s->freed_after = ops.size() - 1;
        live_bytes -= s->bytes;
      }
      break;
    case RecordKind::kOpBegin:
      if (in_op_) fault("op inside an op");
      if (r.id != ops.size()) fault("op ids are not dense from 0");
      in_op_ = true;
      ops.emplace_back();
      ops.back().name = strings_.at(r.arg);
      ops.back().begin_ns = r.time_ns;
      break;
    case RecordKind::kOpTag:
      ops.back().tag = unpack_op_tag(r.arg);
      break;
    case RecordKind::kOpFlops:
      ops.back().flops = r.arg;
      break;
    case RecordKind::kOpTraffic:
      ops.back().traffic_bytes = r.arg;
      break;
    case RecordKind::kOpWorkspace:
      ops.back().workspace_bytes = r.arg;
      break;
    case RecordKind::kUse: {
      if (!in_op_ || r.arg + 1 != ops.size()) fault("use outside its op");
      CollectedStorage* s = live(r.id, "use");
      if (s == nullptr) break;
      const std::uint64_t op = ops.size() - 1;
      if ((r.flags & kRecordCreate) != 0) {
        if (s->creator != ~std::uint64_t{0} || s->preexisting)
          fault("storage created twice: " + s->name);
        s->creator = op;
        ops.back().creates.push_back(r.id);
        break;
      }
      if (!s->preexisting && s->creator >= op) fault("read before it is made: " + s->name);
      if ((r.flags & kRecordWrite) != 0) {
        ops.back().writes.push_back(r.id);
      } else {
        ops.back().reads.push_back(r.id);
      }
      s->readers.push_back(op);
      break;
    }
    case RecordKind::kOpEnd:
      if (!in_op_ || r.id + 1 != ops.size()) fault("op end without its begin");
      in_op_ = false;
      ops.back().end_ns = r.time_ns;
      peak_bytes = std::max(peak_bytes, live_bytes + ops.back().workspace_bytes);
      for (const std::uint64_t id : ops.back().creates) {
        if (storages[id].creator + 1 != ops.size()) fault("output not created by its op");
      }
      break;
    case RecordKind::kRangePush:
      ++range_depth_;
      range_log.push_back("+" + strings_.at(r.arg));
      break;
    case RecordKind::kRangePop:
      if (range_depth_ == 0) fault("range popped that was not pushed");
      --range_depth_;
      range_log.emplace_back("-");
      break;
    default:
      break;
  }
}

inline std::uint64_t CollectedStep::bytes_of(BufferKind kind) const {
  std::uint64_t sum = 0;
  for (const auto& [id, s] : storages) {
    if (s.preexisting && s.tag.kind == kind) sum += s.bytes;
  }
  return sum;
}

inline std::uint64_t CollectedStep::saved_bytes(std::uint16_t layer,
                                                std::string_view suffix,
                                                bool with) const {
  std::uint64_t sum = 0;
  for (const auto& [id, s] : storages) {
    const bool ends =
        s.name.size() >= suffix.size() && s.name.substr(s.name.size() - suffix.size()) == suffix;
    if (s.tag.kind == BufferKind::kActivation && s.tag.layer == layer && ends == with)
      sum += s.bytes;
  }
  return sum;
}

}  // namespace spillway
