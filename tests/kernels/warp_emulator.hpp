// SPDX-License-Identifier: Apache-2.0
// A warp on the host: 32 fibers of one thread that meet at every shuffle and vote, as the lanes of
// a GPU's warp do, and run in a random order between two meetings. It runs the drivers of the CUDA
// kernels themselves; lanes that would wait for each other for ever are reported.
#pragma once

#include "core/random.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <ucontext.h>
#include <utility>
#include <vector>

namespace spillway::test {

class WarpEmulator {
 public:
  static constexpr std::uint32_t kLanes = 32;
  enum class Meeting : std::uint8_t { kNone, kGroupMax, kAny, kExclusiveSum, kValueOf, kSum };

  explicit WarpEmulator(std::uint64_t seed) : random_(seed), stacks_(kLanes * kStackBytes) {}
  WarpEmulator(const WarpEmulator&) = delete;
  WarpEmulator& operator=(const WarpEmulator&) = delete;

  /// What work gets: the interface of kernels/body/warp_lanes.cuh.
  class Lanes {
   public:
    static constexpr std::uint32_t kValues = 8;
    static constexpr std::uint32_t kStepValues = 256;

    Lanes(WarpEmulator* warp, std::uint32_t index) : warp_(warp), index_(index) {}
    [[nodiscard]] std::uint32_t lane() const { return index_; }
    [[nodiscard]] std::uint32_t first() const { return index_ * kValues; }
    [[nodiscard]] std::uint32_t group_max(std::uint32_t value) const {
      const Values& all = warp_->meet(index_, Meeting::kGroupMax, value);
      std::uint64_t most = 0;
      for (std::uint32_t i = index_ / 16 * 16, n = 0; n < 16; ++n, ++i)
        most = all[i] > most ? all[i] : most;
      return static_cast<std::uint32_t>(most);
    }
    [[nodiscard]] bool any(bool value) const {
      const Values& all = warp_->meet(index_, Meeting::kAny, value ? 1 : 0);
      for (const std::uint64_t one : all)
        if (one != 0) return true;
      return false;
    }
    std::uint32_t exclusive_sum(std::uint32_t value, std::uint32_t* total) const {
      const Values& all = warp_->meet(index_, Meeting::kExclusiveSum, value);
      std::uint32_t before = 0;
      *total = 0;
      for (std::uint32_t i = 0; i < kLanes; ++i) {
        if (i == index_) before = *total;
        *total += static_cast<std::uint32_t>(all[i]);
      }
      return before;
    }
    [[nodiscard]] std::uint64_t value_of(std::uint64_t value, std::uint32_t from) const {
      return warp_->meet(index_, Meeting::kValueOf, value)[from];
    }
    [[nodiscard]] std::uint64_t sum(std::uint64_t value) const {
      std::uint64_t all = 0;
      for (const std::uint64_t one : warp_->meet(index_, Meeting::kSum, value)) all += one;
      return all;
    }
    void add(std::uint64_t* to, std::uint64_t value) const { *to += value; }

   private:
    WarpEmulator* warp_;
    std::uint32_t index_;
  };

  /// Calls work(lanes) once for each lane. False when lanes did not meet alike: one was at another
  /// kind of meeting than the others, or at its end.
  template <typename Work>
  [[nodiscard]] bool run(const Work& work) {
    work_ = &work;
    call_ = [](const void* to_do, Lanes lanes) { (*static_cast<const Work*>(to_do))(lanes); };
    return run_all();
  }

 private:
  using Values = std::array<std::uint64_t, kLanes>;
  static constexpr std::size_t kStackBytes = 64 << 10;

  struct Fiber {
    ucontext_t context;
    Meeting at = Meeting::kNone;
    bool done = false;
  };

  const Values& meet(std::uint32_t lane, Meeting kind, std::uint64_t value);
  bool run_all();
  static void enter(unsigned int high, unsigned int low, unsigned int lane);

  Random random_;
  std::vector<std::byte> stacks_;
  std::array<Fiber, kLanes> fibers_;
  ucontext_t scheduler_;
  Values offered_{};  // to the next meeting
  Values met_{};      // at the last one
  const void* work_ = nullptr;
  void (*call_)(const void*, Lanes) = nullptr;
};

inline const WarpEmulator::Values& WarpEmulator::meet(std::uint32_t lane,
                                                      Meeting kind,
                                                      std::uint64_t value) {
  Fiber& fiber = fibers_[lane];
  fiber.at = kind;
  offered_[lane] = value;
  swapcontext(&fiber.context, &scheduler_);
  return met_;
}

// makecontext() passes integers only.
inline void WarpEmulator::enter(unsigned int high, unsigned int low, unsigned int lane) {
  auto* const warp =
      reinterpret_cast<WarpEmulator*>(static_cast<std::uintptr_t>(std::uint64_t{high} << 32 | low));
  warp->call_(warp->work_, Lanes(warp, lane));
  warp->fibers_[lane].done = true;
  swapcontext(&warp->fibers_[lane].context, &warp->scheduler_);
}

inline bool WarpEmulator::run_all() {
  const auto self = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(this));
  std::array<std::uint32_t, kLanes> order{};
  for (std::uint32_t lane = 0; lane < kLanes; ++lane) {
    order[lane] = lane;
    Fiber& fiber = fibers_[lane];
    fiber.at = Meeting::kNone;
    fiber.done = false;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = stacks_.data() + lane * kStackBytes;
    fiber.context.uc_stack.ss_size = kStackBytes;
    fiber.context.uc_link = nullptr;
    using Entry = void (*)();
    makecontext(&fiber.context,
                reinterpret_cast<Entry>(reinterpret_cast<void*>(&WarpEmulator::enter)),
                3,
                static_cast<unsigned int>(self >> 32),
                static_cast<unsigned int>(self),
                lane);
  }
  for (;;) {
    for (std::uint32_t i = kLanes - 1; i > 0; --i) std::swap(order[i], order[random_.below(i + 1)]);
    for (const std::uint32_t lane : order) swapcontext(&scheduler_, &fibers_[lane].context);
    for (const Fiber& fiber : fibers_)
      if (fiber.done != fibers_[0].done || (!fiber.done && fiber.at != fibers_[0].at)) return false;
    if (fibers_[0].done) return true;
    met_ = offered_;
  }
}

}  // namespace spillway::test
