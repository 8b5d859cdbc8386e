// SPDX-License-Identifier: Apache-2.0
// Plan files (.spwp): one JSON document, versioned, readable in a review; storages and ops are
// named by step keys (policy/step_key.hpp). docs/plan_format.md describes every field.
#pragma once

#include "core/status.hpp"
#include "policy/device_model.hpp"
#include "policy/plan.hpp"
#include "policy/profile.hpp"

#include <string>
#include <string_view>

namespace spillway {

/// The text of the file.
std::string plan_text(const Profile& profile, const DeviceModel& device, const Plan& plan);

/// Writes it whole or not at all. kIo names the path.
Status write_plan_file(const std::string& path,
                       const Profile& profile,
                       const DeviceModel& device,
                       const Plan& plan);

/// The plan for `profile`. kBadInput names file, offset or field and what was expected: not a plan,
/// an unknown version, a key or size that the step does not have. The program is not judged here:
/// policy/validator.hpp does that.
Result<Plan> read_plan_file(const std::string& path, const Profile& profile);
Result<Plan> parse_plan(std::string_view text,
                        std::string_view source_name,
                        const Profile& profile);

}  // namespace spillway
