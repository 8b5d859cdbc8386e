// SPDX-License-Identifier: Apache-2.0
// A step as the DTR prototype records it (Kirisame et al., ICLR 2021): ops over tensors, tensors in
// storages, and the moments at which the program names and forgets them. Input of the engine that
// follows the prototype's simulator to the nanosecond.
#pragma once

#include "core/status.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace spillway {

/// Invariants (check_invariants): the outputs of op i are the tensors [outputs_begin, outputs_end)
/// and those ranges follow one another; an op reads only tensors of earlier ops; the first tensor
/// of a storage is its root, later ones are views, which hold no bytes of their own.
struct DtrLog {
  static constexpr std::uint32_t kNone = 0xffffffffu;

  struct Op {
    std::int64_t cost_ns = 0;
    std::uint32_t inputs_begin = 0;  // [inputs_begin, inputs_end) in DtrLog::inputs
    std::uint32_t inputs_end = 0;
    std::uint32_t outputs_begin = 0;
    std::uint32_t outputs_end = 0;
    std::uint64_t workspace_bytes = 0;  // held only while it runs; recorded logs know none
  };
  struct Tensor {
    std::uint32_t op = 0;  // makes it
    std::uint32_t storage = 0;
  };
  struct Storage {
    std::uint64_t bytes = 0;
    std::uint32_t root = 0;  // its first tensor
    bool fixed = false;      // never evicted as long as it has a name; recorded logs know none
  };
  enum class EventKind : std::uint8_t {
    kCompute,  // target op runs for the first time; each of its outputs has one name
    kName,     // target tensor gets one more name
    kForget,   // target tensor loses a name
    kPin,      // target tensor never leaves the device from here on
  };
  struct Event {
    EventKind kind = EventKind::kCompute;
    std::uint32_t target = 0;
  };

  std::vector<Op> ops;  // in the order of their first run
  std::vector<Tensor> tensors;
  std::vector<Storage> storages;
  std::vector<std::uint32_t> inputs;  // tensors, per op in the order of the arguments
  std::vector<Event> events;
  std::vector<std::uint32_t> results;  // tensors that must be on the device when the step has ended

  [[nodiscard]] std::span<const std::uint32_t> inputs_of(const Op& op) const {
    return std::span<const std::uint32_t>(inputs).subspan(op.inputs_begin,
                                                          op.inputs_end - op.inputs_begin);
  }
  [[nodiscard]] bool is_view(std::uint32_t tensor) const {
    return storages[tensors[tensor].storage].root != tensor;
  }
  /// Sum of the ops' costs: the step without eviction.
  [[nodiscard]] std::int64_t model_ns() const;
};

/// The first invariant broken, as text; kBadInput.
Status check_invariants(const DtrLog& log);

}  // namespace spillway
