// SPDX-License-Identifier: Apache-2.0
// Which codecs a storage may take, and which of them a planner offers: its tag and dtype decide,
// then `--lossy`, then the largest error wanted, then the caller's rules by name. Planners, the
// bound and the explanation all ask here.
#pragma once

#include "core/codec.hpp"
#include "core/status.hpp"
#include "policy/plan.hpp"
#include "policy/planner.hpp"
#include "policy/profile.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace spillway {

/// A wish for storages by name: this codec or none. kNone: no codec.
struct CodecRule {
  std::string pattern;  // '*' stands for any text, '?' for one character
  Codec codec = Codec::kNone;
};

/// From "PATTERN=NAME"; the last '=' divides. kInvalidArgument lists the names.
Result<CodecRule> parse_codec_rule(std::string_view text);

/// Does the whole of `name` match? Time is at most the product of the lengths.
bool matches_pattern(std::string_view pattern, std::string_view name);

/// PlanRequest::codecs for `rules`: of those that match a storage and that its tag, dtype,
/// `request.allow_lossy` and `request.max_error` permit, the last counts. kInvalidArgument: a rule
/// that matches no movable storage, or that none of those it matches may follow; says why.
Result<std::vector<CodecSet>> resolve_codec_rules(const Profile& profile,
                                                  std::span<const CodecRule> rules,
                                                  const PlanRequest& request);

/// The larger of the relative parts of error_bound(): what PlanRequest::max_error limits.
double relative_error_bound(Codec codec);

/// Every codec that a plan may use on `storage` under the request's rules.
CodecSet allowed_codecs(const Profile& profile, std::uint32_t storage, const PlanRequest& request);

/// The allowed codec with the smallest payload; kNone if none saves bytes. int4 only where a rule
/// names it. `exact`: of those after which every value is as before, which is what a recompute may
/// read.
Codec best_codec(const Profile& profile,
                 std::uint32_t storage,
                 const PlanRequest& request,
                 bool exact = false);

/// kInvalidArgument when `plan` uses a codec that the request does not allow; names the storage.
Status check_codecs(const Profile& profile, const Plan& plan, const PlanRequest& request);

}  // namespace spillway
