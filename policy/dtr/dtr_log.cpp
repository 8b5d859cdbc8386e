// SPDX-License-Identifier: Apache-2.0
// Invariants of a DTR log. Bytes and times are bounded so that no sum in the engine overflows.
#include "policy/dtr/dtr_log.hpp"

#include <string>

namespace spillway {
namespace {

constexpr std::uint64_t kTotalBytesMax = std::uint64_t{1} << 60;
constexpr std::int64_t kTotalNsMax = std::int64_t{1} << 60;

Status broken(const char* what, std::size_t index) {
  return {Code::kBadInput,
          std::string(what) + " " + std::to_string(index) +
              ": expected indices in order and in range, found others"};
}

}  // namespace

std::int64_t DtrLog::model_ns() const {
  std::int64_t sum = 0;
  for (const Op& op : ops) sum += op.cost_ns;
  return sum;
}

Status check_invariants(const DtrLog& log) {
  std::uint32_t next_output = 0;
  std::uint32_t next_storage = 0;
  std::uint64_t total_bytes = 0;
  std::int64_t total_ns = 0;
  for (std::size_t i = 0; i < log.ops.size(); ++i) {
    const DtrLog::Op& op = log.ops[i];
    if (op.cost_ns < 0 || op.cost_ns > kTotalNsMax || (total_ns += op.cost_ns) > kTotalNsMax)
      return {Code::kBadInput, "op " + std::to_string(i) + ": expected times from 0 to 2^60 ns"};
    if (op.workspace_bytes > kTotalBytesMax)
      return {Code::kBadInput, "op " + std::to_string(i) + ": expected at most 2^60 bytes"};
    if (op.outputs_begin != next_output || op.outputs_end < op.outputs_begin ||
        op.outputs_end > log.tensors.size() || op.inputs_end < op.inputs_begin ||
        op.inputs_end > log.inputs.size())
      return broken("op", i);
    for (const std::uint32_t input : log.inputs_of(op))
      if (input >= op.outputs_begin) return broken("inputs of op", i);
    for (; next_output < op.outputs_end; ++next_output) {
      const DtrLog::Tensor& tensor = log.tensors[next_output];
      if (tensor.op != i || tensor.storage >= log.storages.size())
        return broken("tensor", next_output);
      const DtrLog::Storage& storage = log.storages[tensor.storage];
      const bool is_root = tensor.storage == next_storage;
      if (is_root ? storage.root != next_output : tensor.storage > next_storage)
        return broken("storage", tensor.storage);
      if (!is_root) continue;
      ++next_storage;
      if (storage.bytes > kTotalBytesMax || (total_bytes += storage.bytes) > kTotalBytesMax)
        return {Code::kBadInput, "expected storages of at most 2^60 bytes together"};
    }
  }
  if (next_output != log.tensors.size()) return broken("tensor", next_output);
  if (next_storage != log.storages.size()) return broken("storage", next_storage);
  std::uint32_t next_op = 0;
  for (std::size_t i = 0; i < log.events.size(); ++i) {
    const DtrLog::Event& event = log.events[i];
    if (event.kind == DtrLog::EventKind::kCompute) {
      if (event.target != next_op++ || event.target >= log.ops.size()) return broken("event", i);
    } else if (event.target >= log.tensors.size() || log.tensors[event.target].op >= next_op) {
      return broken("event", i);
    }
  }
  if (next_op != log.ops.size()) return broken("op", next_op);
  for (std::size_t i = 0; i < log.results.size(); ++i)
    if (log.results[i] >= log.tensors.size()) return broken("result", i);
  return {};
}

}  // namespace spillway
