// SPDX-License-Identifier: Apache-2.0
// The words of the race checker: who (agent, epoch), what (kind), where (range), and a pair of
// accesses that nothing orders. Plain data, shared by shadow memory, clocks and reports.
#pragma once

#include <cstdint>

namespace spillway::sim {

/// A host thread or a stream: an index into the clocks. Never reused before reset.
using AgentId = std::uint32_t;

/// The `tick`-th step of `agent`. Ticks start at 1; tick 0 means "never".
struct Epoch {
  AgentId agent = 0;
  std::uint64_t tick = 0;

  friend bool operator==(const Epoch&, const Epoch&) = default;
};

/// What is done to the bytes. The last four are lifetime events: they count as writes, but reports
/// word them differently.
enum class AccessKind : std::uint8_t { kRead, kWrite, kAllocate, kFree, kMap, kUnmap };

constexpr bool is_write(AccessKind kind) { return kind != AccessKind::kRead; }
constexpr bool is_lifetime(AccessKind kind) { return kind >= AccessKind::kAllocate; }

/// Who did it. Two accesses with the same epoch, op and kind are taken for one.
struct Site {
  const char* call = "";  // static name of the API call or kernel; never freed
  std::uint64_t op = 0;   // the engine's number of the operation
  Epoch epoch;
  AccessKind kind = AccessKind::kRead;
};

/// Bytes [begin, end) of the flat 64-bit space that the caller chose: physical device offsets and
/// pinned host memory lie in one space, so that two mappings of the same memory meet.
struct Range {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;

  [[nodiscard]] constexpr bool empty() const { return begin >= end; }
  friend bool operator==(const Range&, const Range&) = default;
};

/// Two accesses to the same bytes, at least one a write, that no synchronisation orders. `earlier`
/// was submitted first; on a GPU they may run in either order.
struct Conflict {
  Site earlier;
  Site later;
  Range range;  // the bytes that both touch
  /// Newest tick of earlier's agent that later does come after: 0 when it never synchronised with
  /// that agent. INVARIANT: covered_tick < earlier.epoch.tick.
  std::uint64_t covered_tick = 0;
};

}  // namespace spillway::sim
