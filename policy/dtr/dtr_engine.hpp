// SPDX-License-Identifier: Apache-2.0
// Dynamic tensor rematerialisation over a recorded step (Kirisame et al., "Dynamic Tensor
// Rematerialization", ICLR 2021): evict the storage of least score when the budget is full, run ops
// again when what they made is needed. Same rules, same order of every decision and same arithmetic
// as the authors' simulator (its second runtime, eager eviction), so that results are equal to the
// nanosecond and byte.
#pragma once

#include "core/status.hpp"
#include "policy/dtr/dtr_log.hpp"

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace spillway {

/// With s bytes, c cost of a storage's own ops, t time since its last use:
enum class DtrScore : std::uint8_t {
  kDtr,    // (c + cost of all evicted ancestors + of all evicted descendants) / (s t)
  kEq,     // (c + cost of the union-find components of evicted neighbours) / (s t)
  kLocal,  // c / (s t)
  kLru,    // 1 / t
  kSize,   // 1 / s
  kMsps,   // (c + cost of all evicted ancestors) / s   (Capuchin, ASPLOS 2020)
};
inline constexpr int kDtrScoreCount = 6;
/// As in policy names: h_DTR, h_eq, h_local, LRU, size, MSPS.
std::string_view name_of(DtrScore score);
/// As in the simulator's own tables: DTR, DTREqClass, DTRLocal, LRU, LargestStorage, MSPS.
std::string_view simulator_name_of(DtrScore score);
/// By its name in policies.
std::optional<DtrScore> find_dtr_score(std::string_view name);

enum class DtrEnd : std::uint8_t {
  kOk,
  kOutOfMemory,  // nothing left to evict
  kThrash,       // more time spent on running ops again than the whole step takes
};
/// "ok", "OOM", "THRASH".
std::string_view name_of(DtrEnd end);

struct DtrResult {
  DtrEnd end = DtrEnd::kOk;
  std::int64_t clock_ns = 0;  // 1 + model_ns + remat_ns: the reference's clock starts at 1
  std::int64_t model_ns = 0;  // first runs, as far as it came
  std::int64_t remat_ns = 0;  // runs again
  std::int64_t log_ns = 0;    // the whole log's ops once
  std::uint64_t peak_bytes = 0;
  std::uint64_t eviction_count = 0;  // made to find room; not those of storages without a name
  std::uint64_t evicted_bytes = 0;
  std::uint64_t remat_count = 0;
};

struct DtrOptions {
  /// Most storages looked at per search for a victim, taken in turn round the pool; 0: all, as the
  /// reference does. The DTR prototype looks at about sqrt(n), at random.
  std::size_t scan_limit = 0;
  /// Most evicted storages walked through, in each direction, to price one candidate; 0: all.
  std::size_t walk_limit = 0;
  /// Runs again after which a step counts as thrashing even if they cost no time; 0: a million and
  /// a hundred per op, which no recorded log comes near.
  std::uint64_t remat_count_max = 0;
  std::vector<std::uint32_t>* order = nullptr;  // gets the ops as they ran, first and later runs
};

/// Runs `log` in `budget_bytes`. Fails with kBadInput when the log breaks an invariant.
Result<DtrResult> run_dtr(const DtrLog& log,
                          DtrScore score,
                          std::uint64_t budget_bytes,
                          const DtrOptions& options = {});

}  // namespace spillway
