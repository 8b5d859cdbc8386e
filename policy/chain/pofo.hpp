// SPDX-License-Identifier: Apache-2.0
// POFO: a chain with recompute and offload together (Beaumont, Eyraud-Dubois, Shilova 2021, NeurIPS
// "Efficient Combination of Rematerialization and Offloading for Training DNNs"). Forward is cut in
// groups: one stage in "save all" mode, or a stretch of which only the input stays and whose
// backward is a rotor schedule. What a group leaves to the one before it is kept or offloaded. The
// link is a fluid: bytes leave while later stages run, and come back, in mirrored time, the same
// way.
#pragma once

#include "policy/chain/rotor.hpp"
#include "policy/chain/schedule.hpp"

#include <cstdint>
#include <optional>
#include <vector>

namespace spillway {

struct PofoGroup {
  std::uint32_t first = 0;  // stages first..last
  std::uint32_t last = 0;
  bool save_all = true;           // one stage; otherwise the stretch is run again in backward
  bool offload_input = false;     // what the group before it left goes to the host
  std::uint32_t rotor_slots = 0;  // memory for the stretch's backward, beside what is held
};

struct PofoPlan {
  double time_ns = 0;
  std::vector<PofoGroup> groups;  // in forward order; they cover the chain
};

struct PofoOptions {
  std::uint64_t memory_bytes = 0;    // without the chain's own input
  double offload_bytes_per_ns = 1;   // > 0
  double prefetch_bytes_per_ns = 1;  // > 0
  std::uint32_t beam = 0;            // partial plans kept per position; 0: all that may be best
};

/// The fastest plan, by labels (time, bytes kept, backlog out, backlog back) per position, of which
/// those that are worse in all four are left out. Exact with beam 0. `table` is the rotor table of
/// `chain`; groups of it use memories of whole slots. None when nothing fits.
std::optional<PofoPlan> pofo(const Chain& chain,
                             const RotorTable& table,
                             const PofoOptions& options);

/// The steps of the plan, offload left aside.
ChainSchedule schedule_of(const PofoPlan& plan, const RotorTable& table);

/// Memories, in slots up to `limit`, at which the rotor time of stages first..last changes.
std::vector<std::uint32_t> rotor_breakpoints(const RotorTable& table,
                                             std::uint32_t first,
                                             std::uint32_t last,
                                             std::uint64_t limit);

}  // namespace spillway
