// SPDX-License-Identifier: Apache-2.0
// Rows, and weak duality.
#include "policy/bound/linear_program.hpp"

#include <cmath>

namespace spillway {

std::uint32_t LinearProgram::add_column(double cost, double upper) {
  cost_.push_back(cost);
  upper_.push_back(upper);
  return static_cast<std::uint32_t>(cost_.size() - 1);
}

void LinearProgram::add_row(std::span<const Entry> entries, double at_least) {
  entries_.insert(entries_.end(), entries.begin(), entries.end());
  row_begin_.push_back(entries_.size());
  at_least_.push_back(at_least);
}

double LinearProgram::proven_by(std::span<const double> prices) const {
  if (prices.size() != rows()) return 0;
  // For y >= 0 and any feasible x: cost x >= y at_least + (cost - y A) x, and the last product is
  // least at a corner of the box. `error` grows with everything that was ever added.
  std::vector<long double> reduced(cost_.begin(), cost_.end());
  std::vector<long double> added(columns(), 0);
  long double value = 0, error = 0;
  for (std::size_t i = 0; i < rows(); ++i) {
    const long double price = prices[i];
    if (!(price > 0) || !std::isfinite(prices[i])) continue;
    value += price * static_cast<long double>(at_least_[i]);
    error += std::fabs(price * static_cast<long double>(at_least_[i]));
    for (const Entry& entry : row(i)) {
      const long double part = price * static_cast<long double>(entry.value);
      reduced[entry.column] -= part;
      added[entry.column] += std::fabs(part);
    }
  }
  for (std::size_t k = 0; k < columns(); ++k) {
    if (reduced[k] < 0) value += reduced[k] * static_cast<long double>(upper_[k]);
    error += (added[k] + std::fabs(static_cast<long double>(cost_[k]))) *
             static_cast<long double>(upper_[k]);
  }
  // Long doubles carry 64 bits; 1e-15 of all that was added covers millions of roundings.
  return static_cast<double>(value - error * 1e-15L);
}

}  // namespace spillway
