// SPDX-License-Identifier: Apache-2.0
// Classes by the logarithm of price per byte; the class of everything that is free is the lowest.
#include "policy/victim_index.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace spillway {
namespace {

constexpr int kFreeClass = std::numeric_limits<int>::min();

}  // namespace

int VictimIndex::class_of(double price_ns, std::uint64_t bytes) {
  if (!(price_ns > 0) || bytes == 0) return kFreeClass;
  // An infinite price is a class like any other: the last.
  const double exponent = std::clamp(std::log2(price_ns / static_cast<double>(bytes)), -1e6, 1e6);
  return static_cast<int>(std::floor(exponent * kClassesPerDoubling));
}

void VictimIndex::insert(std::uint32_t id,
                         double price_ns,
                         std::uint64_t bytes,
                         std::int64_t last_use_ns) {
  if (bytes == 0) return;
  const Entry entry{class_of(price_ns, bytes), bytes, last_use_ns};
  if (!entries_.emplace(id, entry).second) return;
  classes_[entry.price_class].emplace(last_use_ns, id);
}

void VictimIndex::erase(std::uint32_t id) {
  const auto found = entries_.find(id);
  if (found == entries_.end()) return;
  const auto its_class = classes_.find(found->second.price_class);
  its_class->second.erase({found->second.last_use_ns, id});
  if (its_class->second.empty()) classes_.erase(its_class);
  entries_.erase(found);
}

void VictimIndex::reprice(std::uint32_t id, double price_ns) {
  const auto found = entries_.find(id);
  if (found == entries_.end()) return;
  const Entry entry = found->second;
  if (class_of(price_ns, entry.bytes) == entry.price_class) return;
  erase(id);
  insert(id, price_ns, entry.bytes, entry.last_use_ns);
}

std::optional<std::uint32_t> VictimIndex::best(std::int64_t now_ns) const {
  std::optional<std::uint32_t> victim;
  double best_score = std::numeric_limits<double>::infinity();
  std::int64_t best_last_ns = 0;
  for (const auto& [price_class, members] : classes_) {
    const auto& [last_ns, id] = *members.begin();
    ++compared_;
    // A class's edge stands for its members, so that which of them is first does not matter.
    const double price = price_class == kFreeClass
                             ? 0.0
                             : std::exp2(static_cast<double>(price_class) / kClassesPerDoubling);
    const auto stale = static_cast<double>(now_ns - last_ns);
    const double score = stale > 0 ? price / stale : std::numeric_limits<double>::infinity();
    const bool better =
        !victim || score < best_score || (score == best_score && last_ns < best_last_ns);
    if (!better) continue;
    victim = id;
    best_score = score;
    best_last_ns = last_ns;
  }
  return victim;
}

}  // namespace spillway
