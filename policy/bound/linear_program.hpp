// SPDX-License-Identifier: Apache-2.0
// A linear program over box-bounded columns, and the value that any row prices prove. Whoever finds
// the prices need not be trusted: with every column between finite limits each price vector gives a
// valid bound, so a solver that stops early or rounds badly costs tightness, never truth.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace spillway {

/// Minimise cost * x with rows `sum of coefficients * x >= at_least` and 0 <= x <= upper.
class LinearProgram {
 public:
  struct Entry {
    std::uint32_t column;
    double value;
  };

  std::uint32_t add_column(double cost, double upper);
  void add_row(std::span<const Entry> entries, double at_least);

  [[nodiscard]] std::size_t columns() const { return cost_.size(); }
  [[nodiscard]] std::size_t rows() const { return at_least_.size(); }
  [[nodiscard]] std::size_t entries() const { return entries_.size(); }
  [[nodiscard]] const std::vector<double>& cost() const { return cost_; }
  [[nodiscard]] const std::vector<double>& upper() const { return upper_; }
  [[nodiscard]] const std::vector<double>& at_least() const { return at_least_; }
  [[nodiscard]] std::span<const Entry> row(std::size_t i) const {
    return std::span<const Entry>(entries_).subspan(row_begin_[i],
                                                    row_begin_[i + 1] - row_begin_[i]);
  }

  /// What `prices` (one per row) prove the minimum to be at least: weak duality, with negative
  /// prices taken as 0 and the arithmetic's own error subtracted.
  [[nodiscard]] double proven_by(std::span<const double> prices) const;

 private:
  std::vector<double> cost_;
  std::vector<double> upper_;
  std::vector<double> at_least_;
  std::vector<std::size_t> row_begin_ = {0};
  std::vector<Entry> entries_;
};

struct LpPrices {
  std::vector<double> prices;  // per row; empty when there is no solver or it failed
  bool finished = false;       // optimal by the solver's own word
  std::uint64_t steps = 0;     // simplex steps
};

/// Row prices by CLP's dual simplex, at most `step_limit` steps. Deterministic.
LpPrices solve(const LinearProgram& program, std::uint64_t step_limit);

}  // namespace spillway
