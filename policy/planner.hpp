// SPDX-License-Identifier: Apache-2.0
// Planners: pure, deterministic functions of profile, device numbers and request, all of one
// signature, found by name.
#pragma once

#include "core/status.hpp"
#include "policy/device_model.hpp"
#include "policy/plan.hpp"
#include "policy/profile.hpp"

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace spillway {

/// One bit per Codec, bit 0 being kNone's.
using CodecSet = std::uint8_t;
inline constexpr CodecSet kAnyCodec = 0xff;

struct PlanRequest {
  std::uint64_t budget_bytes = 0;   // 0: no limit
  std::uint64_t pinned_bytes = 0;   // host memory for offload; 0: no limit
  ActionSet actions = kAllActions;  // what the planner may use
  bool allow_lossy = false;
  // Lossy codecs whose relative_error_bound() (policy/codec_choice.hpp) is larger are not used.
  double max_error = std::numeric_limits<double>::infinity();
  std::vector<CodecSet> codecs;  // per storage, from resolve_codec_rules(); empty: no rules
  std::uint32_t k = 0;     // number after the policy's name ("every-k:4"); 0: the policy's default
  std::string variant;     // word after the policy's name ("dtr:h_eq"); "": the policy's default
  std::uint64_t seed = 1;  // of randomised searches; the same seed gives the same plan
  std::uint32_t work_limit = 0;  // effort of searches, in steps of their own; 0: the default
};

/// What may follow a policy's name and a colon.
enum class Parameter : std::uint8_t {
  kNone,
  kCount,     // a whole number from 1 on, in PlanRequest::k
  kFraction,  // a number from 0 to 1, as text in PlanRequest::variant
  kWord,      // one of Planner::words, in PlanRequest::variant
};

using PlanFunction = PlanOutcome (*)(const Profile& profile,
                                     const ProfileSummary& summary,
                                     const DeviceModel& device,
                                     const PlanRequest& request);

struct Planner {
  std::string_view name;
  std::string_view summary;      // one line for --help and docs
  std::string_view source;       // paper or system
  ActionSet uses = kAllActions;  // what its plans may contain
  bool budgeted = false;  // decides by the budget; otherwise the plan is the same for every budget
  PlanFunction plan = nullptr;
  Parameter parameter = Parameter::kNone;
  std::vector<std::string_view> words = {};  // for Parameter::kWord
};

/// All planners in the order in which tables show them.
const std::vector<Planner>& planners();

/// By name, with an optional parameter: "every-k:4", "dtr:h_eq". kInvalidArgument lists the known
/// names, or what the parameter may be.
Result<const Planner*> find_planner(std::string_view name, PlanRequest* request);

}  // namespace spillway
