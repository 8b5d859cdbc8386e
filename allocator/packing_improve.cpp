// SPDX-License-Identifier: Apache-2.0
// The idea of squeaky wheels: what suffers gets its turn earlier.
#include "allocator/packing_improve.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace spillway {

OrderClimber::OrderClimber(const PackPiece& piece,
                           std::vector<std::uint32_t> order,
                           PieceLayout layout,
                           std::uint64_t seed)
    : piece_(piece),
      random_(seed),
      index_(piece.section_count),
      order_(std::move(order)),
      places_(piece.count()),
      current_(std::move(layout)),
      best_(current_) {}

std::uint64_t OrderClimber::run(std::uint64_t step_limit,
                                std::int64_t goal,
                                const std::function<bool()>& stop) {
  std::uint64_t steps = 0;
  while (steps < step_limit && best_.height > goal && !(stop && stop())) {
    propose(goal);
    // A little worse is let in now and then, so that one bad neighbourhood is not the end.
    const std::int64_t room = ++tries_ % 16 == 0 ? (best_.height - goal) / 8 : 0;
    const std::int64_t height_max = std::max(current_.height, best_.height + room);
    PieceLayout next =
        place_in_order(piece_, proposal_, PlaceRule::kLowest, height_max, &index_, &steps);
    steps += 16 * piece_.count();  // proposing
    if (next.height > height_max) continue;
    if (next.height < best_.height) best_ = next;
    current_ = std::move(next);
    std::swap(order_, proposal_);
  }
  return steps;
}

void OrderClimber::propose(std::int64_t goal) {
  // Blame what ends above a level between the goal and the top: from all that is too high to only
  // the highest.
  const std::int64_t above = current_.height - goal;
  const auto share = static_cast<std::int64_t>(random_.unit() * static_cast<double>(above));
  const std::int64_t level = goal + std::min(share, above - 1);
  const double reach = random_.unit();
  for (std::size_t place = 0; place < order_.size(); ++place) {
    const std::uint32_t buffer = order_[place];
    const auto now = static_cast<double>(place);
    const bool blamed = current_.offsets[buffer] + piece_.size[buffer] > level;
    places_[buffer] =
        blamed ? now * (reach + (1 - reach) * random_.unit() * random_.unit()) - 0.5 : now;
  }
  proposal_ = order_;
  std::stable_sort(proposal_.begin(), proposal_.end(), [this](std::uint32_t a, std::uint32_t b) {
    return places_[a] < places_[b];
  });
}

}  // namespace spillway
