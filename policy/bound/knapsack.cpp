// SPDX-License-Identifier: Apache-2.0
// Lagrangian of one op: prices for a byte at the op and for a second of either link make every
// storage's choice its own. Any prices give a valid bound; coordinate ascent finds good ones.
#include "policy/bound/knapsack.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace spillway {
namespace {

enum Price : std::uint8_t { kByte, kOut, kIn };

/// A needed storage that the op does not touch, or the op that could make some of them again.
struct Choice {
  double bytes = 0, payload = 0;
  double once = 0, out = 0, in = 0, coded_out = 0, coded_in = 0;
  bool coded = false, host = false, read = false;
};
struct Group {
  std::size_t begin = 0, end = 0;
  double rerun = 0;
  bool may_rerun = false;
};

struct Value {
  double value = 0;
  double error = 0;                         // of adding up
  std::array<double, 3> slope = {0, 0, 0};  // by price
};

class Knapsack {
 public:
  Knapsack(const BoundStep& step, std::uint32_t op, std::uint64_t budget_bytes);
  std::int64_t best_ns() const;
  bool empty() const { return choices_.empty(); }

 private:
  Value at(const std::array<double, 3>& price) const;
  double climb(std::array<double, 3> price) const;
  double proven(const Value& value) const { return value.value - 1e-12 * value.error; }

  std::vector<Choice> choices_;
  std::vector<Group> groups_;
  double room_bytes_ = 0;
  double before_ns_ = 0, after_ns_ = 0;
  double most_per_byte_ = 0;
};

Knapsack::Knapsack(const BoundStep& step, std::uint32_t op, std::uint64_t budget_bytes) {
  room_bytes_ = static_cast<double>(budget_bytes - step.fixed_bytes[op]);
  before_ns_ = static_cast<double>(step.begin_ns[op]);
  after_ns_ = static_cast<double>(step.begin_ns.back() - step.begin_ns[op]);
  for (std::uint32_t maker = 0; maker < op; ++maker) {
    Group group;
    group.begin = choices_.size();
    group.rerun = static_cast<double>(step.ops[maker].duration_ns);
    group.may_rerun = step.ops[maker].may_rerun && step.ops[maker].rerun_until > op;
    for (const std::uint32_t input : step.inputs.of(maker))
      if (step.items[input].created_by == BoundStep::kNone && !step.alive(input, op))
        group.may_rerun = false;
    for (const std::uint32_t item : step.outputs.of(maker)) {
      const BoundStep::Item& i = step.items[item];
      const auto readers = step.readers.of(item);
      if (!i.movable || !step.needed_after(item, op) ||
          std::binary_search(readers.begin(), readers.end(), op))
        continue;
      Choice choice;
      choice.bytes = static_cast<double>(i.bytes);
      choice.payload = static_cast<double>(i.payload_bytes);
      choice.once = static_cast<double>(i.once_ns);
      choice.out = static_cast<double>(i.out_ns);
      choice.in = static_cast<double>(i.in_ns);
      choice.coded_out = static_cast<double>(i.coded_out_ns);
      choice.coded_in = static_cast<double>(i.coded_in_ns);
      choice.coded = i.coded;
      choice.host = step.offload;
      choice.read = !readers.empty() && readers.back() > op;
      choices_.push_back(choice);
      most_per_byte_ = std::max(
          most_per_byte_, (group.rerun + 2 * choice.once + choice.out + choice.in) / choice.bytes);
    }
    group.end = choices_.size();
    // A guarded storage may be made again once its life is over; nobody needs it then, so that only
    // its siblings gain, and they are free to.
    if (group.end > group.begin) groups_.push_back(group);
  }
}

Value Knapsack::at(const std::array<double, 3>& price) const {
  const double byte = price[kByte], out = price[kOut], in = price[kIn];
  Value v;
  const auto add = [&v](double part) {
    v.value += part;
    v.error += std::fabs(part);
  };
  add(-byte * room_bytes_);
  add(-out * before_ns_);
  add(-in * after_ns_);
  v.slope = {-room_bytes_, -before_ns_, -after_ns_};
  for (const Group& group : groups_) {
    double sum = 0;
    std::array<double, 3> slope = {0, 0, 0};
    for (std::size_t n = group.begin; n < group.end; ++n) {
      const Choice& c = choices_[n];
      double best = byte * c.bytes;
      std::array<double, 3> s = {c.bytes, 0, 0};
      const auto offer = [&best, &s](double cost, const std::array<double, 3>& by) {
        if (cost >= best) return;
        best = cost;
        s = by;
      };
      const double back = c.read ? 1 : 0;
      const double codec = (1 - out) * c.once + back * (1 - in) * c.once;
      if (c.coded) offer(byte * c.payload + codec, {c.payload, -c.once, -back * c.once});
      if (c.host) offer(out * c.out + back * in * c.in, {0, c.out, back * c.in});
      if (c.host && c.coded)
        offer(codec + out * c.coded_out + back * in * c.coded_in,
              {0, c.coded_out - c.once, back * (c.coded_in - c.once)});
      sum += best;
      for (std::size_t p = 0; p < 3; ++p) slope[p] += s[p];
    }
    if (group.may_rerun && (1 - in) * group.rerun < sum) {
      sum = (1 - in) * group.rerun;
      slope = {0, 0, -group.rerun};
    }
    add(sum);
    for (std::size_t p = 0; p < 3; ++p) v.slope[p] += slope[p];
  }
  return v;
}

// Concave in each price: bisection on the slope, one price after the other.
double Knapsack::climb(std::array<double, 3> price) const {
  double best = 0;
  const std::array<double, 3> most = {2 * most_per_byte_, 1, 1};
  for (int round = 0; round < 3; ++round) {
    for (std::size_t p = 0; p < 3; ++p) {
      double low = 0, high = most[p];
      for (int n = 0; n < 30; ++n) {
        price[p] = 0.5 * (low + high);
        const Value value = at(price);
        best = std::max(best, proven(value));
        (value.slope[p] > 0 ? low : high) = price[p];
      }
      if (choices_.empty() || !choices_.front().host) break;  // no link to price
    }
  }
  return best;
}

std::int64_t Knapsack::best_ns() const {
  double best = 0;
  constexpr std::array<std::array<double, 3>, 3> kStarts = {{{0, 0, 0}, {0, 1, 0}, {0, 0.5, 0.5}}};
  const std::size_t starts = choices_.front().host ? kStarts.size() : 1;
  for (std::size_t n = 0; n < starts; ++n) best = std::max(best, climb(kStarts[n]));
  return static_cast<std::int64_t>(std::floor(best * (1 - 1e-9)));
}

}  // namespace

std::int64_t knapsack_extra_ns(const BoundStep& step,
                               std::uint32_t op,
                               std::uint64_t budget_bytes) {
  if (step.fixed_bytes[op] > budget_bytes || step.wanted_bytes[op] <= budget_bytes) return 0;
  const Knapsack knapsack(step, op, budget_bytes);
  return knapsack.empty() ? 0 : knapsack.best_ns();
}

}  // namespace spillway
