// SPDX-License-Identifier: Apache-2.0
// Reading of what-ifs, and scaling. Limits keep every sum of times within 63 bits.
#include "policy/sensitivity.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace spillway {
namespace {

constexpr double kLargestFactor = 1024;
constexpr double kLargestGbps = 1e9;
constexpr double kSmallestGbps = 1e-3;  // a terabyte then takes 1e15 ns: sums stay far from 63 bits
constexpr double kLargestStepNs = 4e18;
constexpr std::string_view kForms =
    "link, hbm, compute, pinned or budget, '=', and a factor such as 2x or a value such as 26GB/s";

Status wrong(std::string_view text, const std::string& expected) {
  return {Code::kInvalidArgument,
          "what-if '" + std::string(text.substr(0, 80)) + "': expected " + expected};
}

Result<Knob> parse_knob(std::string_view name, std::string_view text) {
  for (int i = 0; i < kKnobCount; ++i)
    if (name_of(static_cast<Knob>(i)) == name) return static_cast<Knob>(i);
  return wrong(text, std::string(kForms));
}

Result<double> parse_factor(std::string_view digits, std::string_view text) {
  double factor = 0;
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), factor);
  if (parsed.ec != std::errc{} || parsed.ptr != digits.data() + digits.size() ||
      !(factor >= 1 / kLargestFactor && factor <= kLargestFactor))
    return wrong(text, "a factor from 1/1024 to 1024 before the x");
  return factor;
}

Result<double> parse_gbps(std::string_view value, std::string_view text) {
  constexpr std::string_view kPerSecond = "/s";
  const std::string expected = "a rate such as 26GB/s or a factor such as 2x";
  if (value.size() <= kPerSecond.size() ||
      value.substr(value.size() - kPerSecond.size()) != kPerSecond)
    return wrong(text, expected);
  const auto bytes = parse_bytes(value.substr(0, value.size() - kPerSecond.size()));
  if (!bytes.ok() || bytes.value() == 0) return wrong(text, expected);
  const double gbps = static_cast<double>(bytes.value()) / 1e9;
  return gbps;
}

Result<Change> parse_change(std::string_view word, std::string_view text) {
  const std::size_t equals = word.find('=');
  if (equals == std::string_view::npos) return wrong(text, std::string(kForms));
  Change change;
  SPW_ASSIGN_OR_RETURN(change.knob, parse_knob(word.substr(0, equals), text));
  const std::string_view value = word.substr(equals + 1);
  if (!value.empty() && (value.back() == 'x' || value.back() == 'X')) {
    SPW_ASSIGN_OR_RETURN(change.factor, parse_factor(value.substr(0, value.size() - 1), text));
    return change;
  }
  change.is_factor = false;
  switch (change.knob) {
    case Knob::kLink:
    case Knob::kHbm: {
      SPW_ASSIGN_OR_RETURN(change.gbps, parse_gbps(value, text));
      return change;
    }
    case Knob::kCompute:
      return wrong(text, "a factor such as 2x: op times are the trace's, not a rate's");
    case Knob::kPinned: {
      const auto bytes = parse_bytes(value);
      if (!bytes.ok() || bytes.value() == 0)
        return wrong(text, "bytes such as 64GiB or a factor such as 2x");
      change.bytes = bytes.value();
      return change;
    }
    case Knob::kBudget: {
      const auto budget = parse_budget(value);
      if (!budget.ok()) return wrong(text, "a budget such as 20GiB or 60%, or a factor such as 2x");
      change.budget = budget.value();
      return change;
    }
  }
  return wrong(text, std::string(kForms));
}

Status scale_rate(const WhatIf& what_if, const Change& change, double* gbps) {
  const double rate = change.is_factor ? *gbps * change.factor : change.gbps;
  if (!(rate >= kSmallestGbps && rate <= kLargestGbps))
    return wrong(what_if.text, "a rate from 1 MB/s to 1e18 bytes per second");
  *gbps = rate;
  return {};
}

Status scale_bytes(const WhatIf& what_if, double factor, const char* name, std::uint64_t* bytes) {
  if (*bytes == 0)
    return wrong(what_if.text, std::string("a value, since no ") + name + " is set to be scaled");
  const double scaled = std::floor(static_cast<double>(*bytes) * factor);
  if (scaled < 1 || scaled > 9e18)
    return wrong(what_if.text, std::string("a ") + name + " between 1 byte and 9e18");
  *bytes = static_cast<std::uint64_t>(scaled);
  return {};
}

/// Divides the time of every op that is (not) bound by memory; no op becomes free.
Status scale_ops(const WhatIf& what_if, double rate_factor, bool memory_bound, Profile* profile) {
  double sum_ns = 0;
  for (Op& op : profile->ops) {
    if (is_memory_bound(op.tag.kind) == memory_bound && op.duration_ns != 0) {
      const double ns =
          std::max(1.0, std::round(static_cast<double>(op.duration_ns) / rate_factor));
      sum_ns += ns;
      if (!(sum_ns <= kLargestStepNs)) return wrong(what_if.text, "a step of less than a century");
      op.duration_ns = static_cast<std::uint64_t>(ns);
    } else {
      sum_ns += static_cast<double>(op.duration_ns);
    }
  }
  if (!(sum_ns <= kLargestStepNs)) return wrong(what_if.text, "a step of less than a century");
  return {};
}

}  // namespace

std::string_view name_of(Knob knob) {
  constexpr std::array<std::string_view, kKnobCount> kNames = {
      "link", "hbm", "compute", "pinned", "budget"};
  const auto i = static_cast<std::size_t>(knob);
  return i < kNames.size() ? kNames[i] : kNames[0];
}

bool is_memory_bound(OpKind kind) {
  switch (kind) {
    case OpKind::kNorm:
    case OpKind::kElementwise:
    case OpKind::kSoftmax:
    case OpKind::kDropout:
    case OpKind::kEmbedding:
    case OpKind::kLoss:
    case OpKind::kPool:
    case OpKind::kOptimizer:
    case OpKind::kView:
      return true;
    default:
      return false;
  }
}

Result<WhatIf> parse_what_if(std::string_view text) {
  WhatIf what_if;
  what_if.text = text;
  std::array<bool, kKnobCount> seen{};
  std::size_t at = 0;
  while (at <= text.size()) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    SPW_ASSIGN_OR_RETURN(const Change change, parse_change(text.substr(at, end - at), text));
    bool& known = seen[static_cast<std::size_t>(change.knob)];
    if (known) return wrong(text, "each knob once");
    known = true;
    what_if.changes.push_back(change);
    at = end + 1;
  }
  return what_if;
}

bool changes_profile(const WhatIf& what_if) {
  for (const Change& change : what_if.changes)
    if (change.knob == Knob::kCompute || change.knob == Knob::kHbm) return true;
  return false;
}

Result<Scenario> apply(const WhatIf& what_if,
                       const Profile& profile,
                       const DeviceModel& device,
                       const PlanRequest& request,
                       const BudgetBasis& basis) {
  Scenario scenario{profile, device, request};
  for (const Change& change : what_if.changes) {
    switch (change.knob) {
      case Knob::kLink:
        SPW_RETURN_IF_ERROR(scale_rate(what_if, change, &scenario.device.d2h_gbps));
        SPW_RETURN_IF_ERROR(scale_rate(what_if, change, &scenario.device.h2d_gbps));
        break;
      case Knob::kHbm: {
        const double before = device.hbm_gbps;
        SPW_RETURN_IF_ERROR(scale_rate(what_if, change, &scenario.device.hbm_gbps));
        if (!(before > 0)) break;  // nothing known to compare op times with
        SPW_RETURN_IF_ERROR(
            scale_ops(what_if, scenario.device.hbm_gbps / before, true, &scenario.profile));
        break;
      }
      case Knob::kCompute:
        SPW_RETURN_IF_ERROR(scale_ops(what_if, change.factor, false, &scenario.profile));
        break;
      case Knob::kPinned:
        if (change.is_factor) {
          SPW_RETURN_IF_ERROR(scale_bytes(
              what_if, change.factor, "limit of pinned bytes", &scenario.request.pinned_bytes));
        } else {
          scenario.request.pinned_bytes = change.bytes;
        }
        break;
      case Knob::kBudget:
        if (change.is_factor) {
          SPW_RETURN_IF_ERROR(
              scale_bytes(what_if, change.factor, "budget", &scenario.request.budget_bytes));
        } else {
          SPW_ASSIGN_OR_RETURN(scenario.request.budget_bytes, resolve(change.budget, basis));
          if (scenario.request.budget_bytes == 0)
            return wrong(what_if.text, "a budget above 0 bytes");
        }
        break;
    }
  }
  return scenario;
}

}  // namespace spillway
