// SPDX-License-Identifier: Apache-2.0
// Lagrangian of one op: prices for a byte at the op and for a second of either link make every
// storage's choice its own. Any prices give a valid bound; ascent finds good ones.
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
  [[nodiscard]] std::int64_t best_ns() const;
  [[nodiscard]] bool empty() const { return choices_.empty(); }

 private:
  /// What the prices prove; `links` false: as if nothing could be copied.
  [[nodiscard]] Value at(const std::array<double, 3>& price, bool links) const;
  /// The best price of a byte up to `most`, the others given; the value that it proves.
  double best_byte_price(double most, bool links, std::array<double, 3>* price) const;
  [[nodiscard]] double climb(double most_per_byte) const;
  [[nodiscard]] double proven(const Value& value) const {
    return value.value - 1e-12 * value.error;
  }

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

Value Knapsack::at(const std::array<double, 3>& price, bool links) const {
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
      if (c.host && links) offer(out * c.out + back * in * c.in, {0, c.out, back * c.in});
      if (c.host && links && c.coded)
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

double Knapsack::best_byte_price(double most, bool links, std::array<double, 3>* price) const {
  double best = 0, low = 0, high = most;
  std::array<double, 3> at_best = *price;
  for (int n = 0; n < 40; ++n) {
    (*price)[kByte] = 0.5 * (low + high);
    const Value value = at(*price, links);
    if (proven(value) > best) {
      best = proven(value);
      at_best = *price;
    }
    (value.slope[kByte] > 0 ? low : high) = (*price)[kByte];
  }
  *price = at_best;
  return best;
}

// The value is concave in the three prices: the ellipsoid method, which needs slopes only and no
// luck with the directions, then one bisection for the byte's price.
double Knapsack::climb(double most_per_byte) const {
  constexpr int kSteps = 160;
  // In units of the box: centre and squared half axes of a ball around it.
  std::array<double, 3> centre = {0.5, 0.5, 0.5};
  std::array<std::array<double, 3>, 3> shape = {};
  for (std::size_t p = 0; p < 3; ++p) shape[p][p] = 0.75;
  const std::array<double, 3> scale = {most_per_byte, 1, 1};
  double best = 0;
  std::array<double, 3> at_best = {0, 0, 0};
  for (int n = 0; n < kSteps; ++n) {
    std::array<double, 3> up = {0, 0, 0};  // where larger values can lie
    bool inside = true;
    for (std::size_t p = 0; p < 3 && inside; ++p) {
      if (centre[p] >= 0 && centre[p] <= 1) continue;
      up[p] = centre[p] < 0 ? 1 : -1;
      inside = false;
    }
    if (inside) {
      std::array<double, 3> price = {0, 0, 0};
      for (std::size_t p = 0; p < 3; ++p) price[p] = centre[p] * scale[p];
      const Value value = at(price, true);
      if (proven(value) > best) {
        best = proven(value);
        at_best = price;
      }
      for (std::size_t p = 0; p < 3; ++p) up[p] = value.slope[p] * scale[p];
    }
    std::array<double, 3> step = {0, 0, 0};
    double length = 0;
    for (std::size_t p = 0; p < 3; ++p) {
      for (std::size_t q = 0; q < 3; ++q) step[p] += shape[p][q] * up[q];
      length += step[p] * up[p];
    }
    if (!(length > 0)) break;
    length = std::sqrt(length);
    for (std::size_t p = 0; p < 3; ++p) step[p] /= length;
    for (std::size_t p = 0; p < 3; ++p) centre[p] += step[p] / 4;
    for (std::size_t p = 0; p < 3; ++p)
      for (std::size_t q = 0; q < 3; ++q)
        shape[p][q] = 9.0 / 8.0 * (shape[p][q] - 0.5 * step[p] * step[q]);
  }
  return std::max(best, best_byte_price(most_per_byte, true, &at_best));
}

std::int64_t Knapsack::best_ns() const {
  // Links only make a byte cheaper, so that its price without them limits the search.
  std::array<double, 3> price = {0, 0, 0};
  double best = best_byte_price(2 * most_per_byte_, false, &price);
  if (choices_.front().host) best = climb(2 * std::max(price[kByte], 1e-12 * most_per_byte_));
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
