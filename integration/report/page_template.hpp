// SPDX-License-Identifier: Apache-2.0
// Puts data, style and scripts into one of the embedded page templates. The data is ASCII JSON in
// which no '<' is left, so it cannot end its script element, and the page's policy
// (Content-Security-Policy) forbids every request.
#pragma once

#include <nlohmann/json.hpp>

#include <span>
#include <string>
#include <string_view>

namespace spillway {

/// The whole page. `scripts` are assets in the order in which the page runs them; they share one
/// scope.
std::string render_page(std::string_view template_name,
                        std::span<const std::string_view> scripts,
                        const nlohmann::ordered_json& data);

}  // namespace spillway
