// SPDX-License-Identifier: Apache-2.0
// The one file that knows CLP (Debian: coinor-libclp-dev, EPL-2.0), through its C interface. Built
// without it, there are no prices and the combinatorial bound stands alone.
#include "policy/bound.hpp"
#include "policy/bound/linear_program.hpp"

#ifdef SPILLWAY_HAVE_CLP
#include <coin/Clp_C_Interface.h>
#endif

#include <algorithm>
#include <limits>
#include <memory>

namespace spillway {

#ifdef SPILLWAY_HAVE_CLP

bool has_linear_program() { return true; }

LpPrices solve(const LinearProgram& program, std::uint64_t step_limit) {
  LpPrices result;
  const std::size_t columns = program.columns();
  const std::size_t rows = program.rows();
  constexpr std::size_t kMost = std::numeric_limits<int>::max() / 2;
  if (columns == 0 || rows == 0 || columns > kMost || rows > kMost || program.entries() > kMost)
    return result;
  std::vector<CoinBigIndex> start(columns + 1, 0);
  for (std::size_t i = 0; i < rows; ++i)
    for (const LinearProgram::Entry& entry : program.row(i)) ++start[entry.column + 1];
  for (std::size_t k = 0; k < columns; ++k) start[k + 1] += start[k];
  std::vector<CoinBigIndex> next(start.begin(), start.end() - 1);
  std::vector<int> index(program.entries());
  std::vector<double> value(program.entries());
  for (std::size_t i = 0; i < rows; ++i) {
    for (const LinearProgram::Entry& entry : program.row(i)) {
      const auto at = static_cast<std::size_t>(next[entry.column]++);
      index[at] = static_cast<int>(i);
      value[at] = entry.value;
    }
  }
  const std::vector<double> lower(columns, 0.0);
  const std::vector<double> no_limit(rows, std::numeric_limits<double>::max());

  const std::unique_ptr<Clp_Simplex, decltype(&Clp_deleteModel)> model(Clp_newModel(),
                                                                       &Clp_deleteModel);
  Clp_setLogLevel(model.get(), 0);
  Clp_loadProblem(model.get(),
                  static_cast<int>(columns),
                  static_cast<int>(rows),
                  start.data(),
                  index.data(),
                  value.data(),
                  lower.data(),
                  program.upper().data(),
                  program.cost().data(),
                  program.at_least().data(),
                  no_limit.data());
  constexpr std::uint64_t kMostSteps = std::numeric_limits<int>::max() / 2;
  Clp_setMaximumIterations(model.get(), static_cast<int>(std::min(step_limit, kMostSteps)));
  (void)Clp_dual(model.get(), 0);
  result.finished = Clp_status(model.get()) == 0;
  result.steps = static_cast<std::uint64_t>(std::max(0, Clp_numberIterations(model.get())));
  const double* prices = Clp_getRowPrice(model.get());
  if (prices != nullptr) result.prices.assign(prices, prices + rows);
  return result;
}

#else

bool has_linear_program() { return false; }

LpPrices solve(const LinearProgram&, std::uint64_t) { return {}; }

#endif

}  // namespace spillway
