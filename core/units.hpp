// SPDX-License-Identifier: Apache-2.0
// Reading and printing of bytes, times and budgets: the one parser that every door uses.
#pragma once

#include "core/status.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace spillway {

/// "20GiB", "1.5 GB", "512", "64k": binary units KiB..EiB (also K, M, G, T, P), decimal units kB,
/// MB, GB, TB, PB (case of the first letter is free). Rounds to the nearest byte. Fails on a
/// negative, non-finite or overflowing number, and on anything left over.
Result<std::uint64_t> parse_bytes(std::string_view text);

/// Three significant figures in binary units: "1.50 GiB", "512 B". For people; not parsed back
/// exactly.
std::string format_bytes(std::uint64_t bytes);

/// "12.3 ms", "981 ns", "2.41 s", "3 min 12 s". For people.
std::string format_ns(std::int64_t ns);

/// "12.3 %" from a ratio of 0.123, with a sign when `signed_text`.
std::string format_percent(double ratio, bool signed_text = false);

/// "5ms", "200us", "1.5s", "30" (seconds), "2min".
Result<std::int64_t> parse_time_ns(std::string_view text);

/// What percentages of a budget refer to, in bytes.
struct BudgetBasis {
  std::uint64_t keep_all_peak_bytes = 0;
  std::uint64_t unmovable_bytes = 0;
  std::uint64_t activation_bytes = 0;
  std::uint64_t device_bytes = 0;  // memory of the GPU; 0 when unknown
};

/// A budget as the user wrote it: `20GiB`, `60%` (of the keep-all peak), `40%act` (unmovable + 40 %
/// of the activation bytes), `80%gpu` (of device memory).
struct Budget {
  enum class Unit : std::uint8_t { kBytes, kPeak, kActivation, kDevice };
  Unit unit = Unit::kBytes;
  std::uint64_t bytes = 0;  // for kBytes
  double ratio = 0;         // for the others: 0.6 for 60 %

  friend bool operator==(const Budget&, const Budget&) = default;
};

Result<Budget> parse_budget(std::string_view text);

/// Prints what parse_budget reads: format(parse(x)) parses to the same Budget.
std::string format_budget(const Budget& budget);

/// Bytes of `budget`, rounded down. Fails with kInvalidArgument for `%gpu` when the device's memory
/// is unknown.
Result<std::uint64_t> resolve(const Budget& budget, const BudgetBasis& basis);

}  // namespace spillway
