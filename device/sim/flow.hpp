// SPDX-License-Identifier: Apache-2.0
// Progress at a rate that changes: exact integers (bytes x 1e9 against bytes/s x ns), so that a run
// is the same on every compiler and rounding never adds up: only the end of a flow is rounded, up
// to the next nanosecond. And the fair division of a capacity that several flows want.
#pragma once

#include <cstdint>
#include <limits>
#include <span>

namespace spillway::sim {

// NOLINTNEXTLINE(modernize-use-using): an alias cannot carry __extension__.
__extension__ typedef unsigned __int128 Wide;

/// Later than anything that happens; sums of two such times still fit.
inline constexpr std::int64_t kNeverNs = std::int64_t{1} << 62;

/// An amount that drains at a rate. Invariant: drained + left == amount given to start().
class Flow {
 public:
  /// `amount` in units of rate x ns.
  void start(Wide amount, std::int64_t now_ns) {
    left_ = amount;
    rate_ = 0;
    settled_ns_ = now_ns;
    finish_ns_ = amount == 0 ? now_ns : kNeverNs;
    done_ = false;
  }

  /// From `now_ns` on. Does nothing when the rate stays as it is.
  void set_rate(std::uint64_t rate, std::int64_t now_ns) {
    if (rate == rate_ || done_) return;
    const Wide drained = Wide{rate_} * static_cast<std::uint64_t>(now_ns - settled_ns_);
    left_ = drained < left_ ? left_ - drained : 0;
    rate_ = rate;
    settled_ns_ = now_ns;
    finish_ns_ = finish_at();
  }

  /// Nothing is left; takes no more rate.
  void finish() {
    left_ = 0;
    rate_ = 0;
    done_ = true;
  }

  [[nodiscard]] bool done() const { return done_; }
  [[nodiscard]] std::uint64_t rate() const { return rate_; }
  /// First nanosecond at which nothing is left if the rate stays; kNeverNs at rate 0.
  [[nodiscard]] std::int64_t finish_ns() const { return finish_ns_; }

 private:
  [[nodiscard]] std::int64_t finish_at() const {
    if (left_ == 0) return settled_ns_;
    if (rate_ == 0) return kNeverNs;
    Wide duration;
    if (left_ <= std::numeric_limits<std::uint64_t>::max()) {  // 64-bit division is far cheaper
      const auto left = static_cast<std::uint64_t>(left_);
      duration = Wide{left / rate_} + (left % rate_ != 0 ? 1 : 0);
    } else {
      duration = (left_ + (rate_ - 1)) / rate_;
    }
    const auto room = static_cast<std::uint64_t>(kNeverNs - settled_ns_);
    return duration >= room ? kNeverNs : settled_ns_ + static_cast<std::int64_t>(duration);
  }

  Wide left_ = 0;
  std::uint64_t rate_ = 0;
  std::int64_t settled_ns_ = 0;  // left_ is what is left at this time
  std::int64_t finish_ns_ = 0;
  bool done_ = true;
};

/// One who wants a part of a capacity.
struct Share {
  std::uint64_t wanted = 0;
  std::uint64_t given = 0;
  bool settled = false;
};

/// Max-min fair: who wants less than an equal part gets all of it, the others divide the rest
/// equally, rounded down. Does not depend on the order of `shares`.
/// ENSURES: given <= wanted; the sum of given <= capacity.
void divide_fairly(std::uint64_t capacity, std::span<Share> shares);

}  // namespace spillway::sim
