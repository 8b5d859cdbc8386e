// SPDX-License-Identifier: Apache-2.0
// A TraceSink that keeps a generated step in plain tables and checks the rules of a well-formed one
// as records arrive.
#pragma once

#include "core/tag.hpp"
#include "core/trace.hpp"

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
  std::uint64_t bytes_of(BufferKind kind) const;
  /// Bytes of activations of a layer and micro-batch whose name does or does not end with `suffix`.
  std::uint64_t saved_bytes(std::uint16_t layer, std::string_view suffix, bool with) const;

 private:
  void fault(const std::string& what);
  CollectedStorage* live(std::uint64_t id, const char* where);

  std::vector<std::string> strings_{""};
  bool in_op_ = false;
  std::uint64_t last_ns_ = 0;
  std::size_t range_depth_ = 0;
};

}  // namespace spillway
