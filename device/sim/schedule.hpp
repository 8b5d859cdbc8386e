// SPDX-License-Identifier: Apache-2.0
// The one place where chance enters: picks who goes next among the entities that may (host threads
// and device streams), and answers the small free choices of the model. Deterministic in (mode,
// seed, choices).
#pragma once

#include "core/random.hpp"
#include "device/sim/options.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace spillway::sim {

/// Host thread t is entity t, stream s is entity kDeviceEntity + s.
inline constexpr std::uint32_t kDeviceEntity = 0x80000000u;

class Schedule {
 public:
  Schedule() : random_(0) {}

  void reset(const Options& options);

  /// Index into `entities` of who goes next. Host entities come first, the running one foremost.
  /// REQUIRES: not empty.
  std::size_t pick(std::span<const std::uint32_t> entities);

  /// A free choice of the model in [0, n): how often a query lies, whether a handle is reused.
  /// Eager and lazy runs answer 0.
  std::uint32_t choose(std::uint32_t n);

  /// In [0, 1), for fault rules of a given probability. Zero in exhaustive runs.
  double unit() { return mode_ == Mode::kReplay ? 0.0 : random_.unit(); }

  /// kReplay: the choices taken and how many there were at each, from which the next run of an
  /// exhaustive search is derived.
  struct Branch {
    std::uint32_t taken = 0;
    std::uint32_t count = 0;
  };
  [[nodiscard]] const std::vector<Branch>& branches() const { return branches_; }

 private:
  std::size_t pick_pct(std::span<const std::uint32_t> entities);
  std::uint32_t replay(std::uint32_t count);
  std::uint64_t& priority_of(std::uint32_t entity);

  Mode mode_ = Mode::kRandom;
  Random random_;
  std::uint64_t host_bias_ = 1;  // in eighths: how often the host wins against the device
  std::uint64_t step_ = 0;
  std::vector<std::uint64_t> change_points_;  // kPct: ascending steps
  std::size_t next_change_ = 0;
  std::vector<std::uint64_t> host_priority_, device_priority_;  // 0: not drawn yet
  std::vector<std::uint32_t> choices_;
  std::vector<Branch> branches_;
};

}  // namespace spillway::sim
