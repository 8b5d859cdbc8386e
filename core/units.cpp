// SPDX-License-Identifier: Apache-2.0
// Number parsing without locale, and the unit tables.
#include "core/units.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

namespace spillway {
namespace {

std::string_view trim(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (lower(a[i]) != lower(b[i])) return false;
  return true;
}

struct Number {
  double value;
  std::string_view rest;
  bool integral;
  std::uint64_t integer;
};

Result<Number> parse_number(std::string_view whole) {
  const std::string_view text = trim(whole);
  Number number{0, {}, false, 0};
  const char* begin = text.data();
  const char* end = begin + text.size();
  const auto real = std::from_chars(begin, end, number.value, std::chars_format::fixed);
  if (real.ec != std::errc{} || !std::isfinite(number.value))
    return Status(Code::kInvalidArgument, "expected a number, found '" + std::string(whole) + "'");
  if (number.value < 0)
    return Status(Code::kInvalidArgument,
                  "expected a number >= 0, found '" + std::string(whole) + "'");
  const auto whole_number = std::from_chars(begin, end, number.integer);
  number.integral = whole_number.ec == std::errc{} && whole_number.ptr == real.ptr;
  number.rest = trim(std::string_view(real.ptr, static_cast<std::size_t>(end - real.ptr)));
  return number;
}

struct Unit {
  std::string_view name;
  double factor;
};

constexpr double kKi = 1024.0;
constexpr std::array<Unit, 25> kByteUnits = {{{"", 1},
                                              {"B", 1},
                                              {"K", kKi},
                                              {"M", kKi* kKi},
                                              {"G", kKi* kKi* kKi},
                                              {"T", kKi* kKi* kKi* kKi},
                                              {"P", kKi* kKi* kKi* kKi* kKi},
                                              {"Ki", kKi},
                                              {"Mi", kKi* kKi},
                                              {"Gi", kKi* kKi* kKi},
                                              {"Ti", kKi* kKi* kKi* kKi},
                                              {"Pi", kKi* kKi* kKi* kKi* kKi},
                                              {"KiB", kKi},
                                              {"MiB", kKi* kKi},
                                              {"GiB", kKi* kKi* kKi},
                                              {"TiB", kKi* kKi* kKi* kKi},
                                              {"PiB", kKi* kKi* kKi* kKi* kKi},
                                              {"EiB", kKi* kKi* kKi* kKi* kKi* kKi},
                                              {"kB", 1e3},
                                              {"MB", 1e6},
                                              {"GB", 1e9},
                                              {"TB", 1e12},
                                              {"PB", 1e15},
                                              {"byte", 1},
                                              {"bytes", 1}}};
constexpr std::array<Unit, 10> kTimeUnits = {{{"", 1e9},
                                              {"s", 1e9},
                                              {"sec", 1e9},
                                              {"ms", 1e6},
                                              {"us", 1e3},
                                              {"ns", 1},
                                              {"min", 60e9},
                                              {"m", 60e9},
                                              {"h", 3600e9},
                                              {"hour", 3600e9}}};

template <std::size_t N>
const Unit* find_unit(const std::array<Unit, N>& units, std::string_view name) {
  for (const Unit& unit : units)
    if (equal_ignoring_case(unit.name, name)) return &unit;
  return nullptr;
}

std::string significant(double value, const char* unit) {
  std::array<char, 48> buffer{};
  const int digits = value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  std::snprintf(buffer.data(), buffer.size(), "%.*f %s", digits, value, unit);
  return buffer.data();
}

}  // namespace

Result<std::uint64_t> parse_bytes(std::string_view text) {
  SPW_ASSIGN_OR_RETURN(const Number number, parse_number(text));
  const Unit* unit = find_unit(kByteUnits, number.rest);
  if (unit == nullptr)
    return Status(Code::kInvalidArgument,
                  "expected bytes such as 512, 20GiB or 1.5GB, found '" + std::string(text) + "'");
  if (number.integral && unit->factor == 1) return number.integer;
  const double bytes = std::round(number.value * unit->factor);
  if (bytes >= 0x1p63)
    return Status(Code::kInvalidArgument, "'" + std::string(text) + "' is more than 2^63 bytes");
  return static_cast<std::uint64_t>(bytes);
}

std::string format_bytes(std::uint64_t bytes) {
  if (bytes < 1024) return std::to_string(bytes) + " B";
  constexpr std::array<const char*, 6> kNames = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes) / kKi;
  std::size_t i = 0;
  while (value >= 1023.5 && i + 1 < kNames.size()) {
    value /= kKi;
    ++i;
  }
  return significant(value, kNames[i]);
}

std::string format_ns(std::int64_t ns) {
  if (ns < 0) return "-" + format_ns(-ns);
  const double value = static_cast<double>(ns);
  if (ns < 1000) return std::to_string(ns) + " ns";
  if (value < 999.5e3) return significant(value / 1e3, "us");
  if (value < 999.5e6) return significant(value / 1e6, "ms");
  if (value < 120e9) return significant(value / 1e9, "s");
  const std::int64_t seconds = ns / 1'000'000'000;
  return std::to_string(seconds / 60) + " min " + std::to_string(seconds % 60) + " s";
}

std::string format_percent(double ratio, bool signed_text) {
  std::array<char, 48> buffer{};
  std::snprintf(buffer.data(), buffer.size(), signed_text ? "%+.1f %%" : "%.1f %%", ratio * 100);
  return buffer.data();
}

Result<std::int64_t> parse_time_ns(std::string_view text) {
  SPW_ASSIGN_OR_RETURN(const Number number, parse_number(text));
  const Unit* unit = find_unit(kTimeUnits, number.rest);
  if (unit == nullptr)
    return Status(Code::kInvalidArgument,
                  "expected a time such as 5ms, 1.5s or 2min, found '" + std::string(text) + "'");
  const double ns = std::round(number.value * unit->factor);
  if (ns >= 0x1p62)
    return Status(Code::kInvalidArgument, "'" + std::string(text) + "' is too long a time");
  return static_cast<std::int64_t>(ns);
}

Result<Budget> parse_budget(std::string_view text) {
  const std::size_t percent = text.find('%');
  Budget budget;
  if (percent == std::string_view::npos) {
    auto bytes = parse_bytes(text);
    if (!bytes.ok())
      return Status(Code::kInvalidArgument,
                    "expected a budget such as 20GiB, 60%, 40%act or 80%gpu, found '" +
                        std::string(text) + "'");
    budget.bytes = bytes.value();
    return budget;
  }
  const auto number = parse_number(text.substr(0, percent));
  const std::string_view unit = trim(text.substr(percent + 1));
  if (!number.ok() || !number.value().rest.empty() || number.value().value > 1e6)
    return Status(Code::kInvalidArgument,
                  "expected a percentage, found '" + std::string(text) + "'");
  if (unit.empty()) {
    budget.unit = Budget::Unit::kPeak;
  } else if (equal_ignoring_case(unit, "act")) {
    budget.unit = Budget::Unit::kActivation;
  } else if (equal_ignoring_case(unit, "gpu")) {
    budget.unit = Budget::Unit::kDevice;
  } else {
    return Status(Code::kInvalidArgument,
                  "expected %, %act or %gpu, found '" + std::string(text) + "'");
  }
  budget.ratio = number.value().value / 100;
  return budget;
}

std::string format_budget(const Budget& budget) {
  if (budget.unit == Budget::Unit::kBytes) return std::to_string(budget.bytes);
  std::array<char, 64> buffer{};
  // 17 significant digits bring every double back; the shortest form that does is chosen.
  for (int digits = 1; digits <= 17; ++digits) {
    std::snprintf(buffer.data(), buffer.size(), "%.*g", digits, budget.ratio * 100);
    double back = 0;
    std::from_chars(buffer.data(), buffer.data() + buffer.size(), back);
    if (back / 100 == budget.ratio) break;
  }
  std::string text = buffer.data();
  if (text.find('e') != std::string::npos) {
    std::snprintf(buffer.data(), buffer.size(), "%.12f", budget.ratio * 100);
    text = buffer.data();
  }
  return text + (budget.unit == Budget::Unit::kPeak         ? "%"
                 : budget.unit == Budget::Unit::kActivation ? "%act"
                                                            : "%gpu");
}

Result<std::uint64_t> resolve(const Budget& budget, const BudgetBasis& basis) {
  const auto part = [&budget](std::uint64_t bytes) {
    const double scaled = static_cast<double>(bytes) * budget.ratio;
    return scaled >= 0x1p63 ? std::uint64_t{1} << 63 : static_cast<std::uint64_t>(scaled);
  };
  switch (budget.unit) {
    case Budget::Unit::kBytes:
      return budget.bytes;
    case Budget::Unit::kPeak:
      return part(basis.keep_all_peak_bytes);
    case Budget::Unit::kActivation:
      return basis.unmovable_bytes + part(basis.activation_bytes);
    case Budget::Unit::kDevice:
      if (basis.device_bytes == 0)
        return Status(Code::kInvalidArgument,
                      "a budget in %gpu needs a GPU whose memory is known (--gpu NAME)");
      return part(basis.device_bytes);
  }
  return Status(Code::kInternal, "unknown budget unit");
}

}  // namespace spillway
