// SPDX-License-Identifier: Apache-2.0
// Local search over orders: place in an order, move the buffers that ended too high to an earlier
// place, place again, keep what is no worse.
#pragma once

#include "allocator/packing_greedy.hpp"
#include "core/random.hpp"

#include <cstdint>
#include <functional>
#include <vector>

namespace spillway {

class OrderClimber {
 public:
  /// Starts from `layout`, which lowest fits in `order` gave. REQUIRES: piece outlives it.
  OrderClimber(const PackPiece& piece,
               std::vector<std::uint32_t> order,
               PieceLayout layout,
               std::uint64_t seed);

  /// Until about `step_limit` steps more are spent, `goal` (units) is reached or `stop` says so.
  /// Returns the steps spent.
  std::uint64_t run(std::uint64_t step_limit, std::int64_t goal, const std::function<bool()>& stop);

  /// The best so far.
  [[nodiscard]] const PieceLayout& best() const { return best_; }

 private:
  void propose(std::int64_t goal);

  const PackPiece& piece_;
  Random random_;
  AddressIndex index_;
  std::vector<std::uint32_t> order_;     // of current_
  std::vector<std::uint32_t> proposal_;  // the next to try
  std::vector<double> places_;           // scratch: where a buffer wants to be in the order
  PieceLayout current_;
  PieceLayout best_;
  std::uint64_t tries_ = 0;
};

}  // namespace spillway
