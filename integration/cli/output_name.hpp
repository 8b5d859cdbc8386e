// SPDX-License-Identifier: Apache-2.0
// Output file names with `%p` (process id), `%h` (host name), `%q{VAR}` (environment), `%%`.
#pragma once

#include "core/status.hpp"

#include <string>
#include <string_view>

namespace spillway::cli {

/// kInvalidArgument for an unknown `%` form or an unset variable.
Result<std::string> expand_output_name(std::string_view pattern);

}  // namespace spillway::cli
