// SPDX-License-Identifier: Apache-2.0
// Marks are replaced in the template only, never in what was put in.
#include "integration/report/page_template.hpp"

#include "integration/report/embedded_assets.hpp"

#include <optional>

namespace spillway {
namespace {

std::string_view asset(std::string_view name) {
  return find_embedded(embedded::assets(), name).value_or(std::string_view());
}

/// JSON that may stand inside of a script element.
std::string script_safe(const nlohmann::ordered_json& value) {
  const std::string text =
      value.dump(-1, ' ', true, nlohmann::ordered_json::error_handler_t::replace);
  std::string out;
  out.reserve(text.size() + text.size() / 64);
  for (const char c : text) {
    // These three occur in JSON only inside of strings, where an escape means the same.
    if (c == '<' || c == '>' || c == '&') {
      out += c == '<' ? "\\u003c" : c == '>' ? "\\u003e" : "\\u0026";
    } else {
      out += c;
    }
  }
  return out;
}

std::string scripts_of(std::span<const std::string_view> names) {
  std::string out = "(() => {\n\"use strict\";\n";
  for (const std::string_view name : names) out += asset(name);
  return out + "})();\n";
}

}  // namespace

std::string render_page(std::string_view template_name,
                        std::span<const std::string_view> scripts,
                        const nlohmann::ordered_json& data) {
  std::string out;
  std::string_view rest = asset(template_name);
  constexpr std::string_view kOpen = "<!--{{";
  constexpr std::string_view kClose = "}}-->";
  while (true) {
    const std::size_t open = rest.find(kOpen);
    const std::size_t close = open == std::string_view::npos ? open : rest.find(kClose, open);
    if (close == std::string_view::npos) break;
    const std::string_view mark = rest.substr(open + kOpen.size(), close - open - kOpen.size());
    out += rest.substr(0, open);
    if (mark == "style") out += "<style>\n" + std::string(asset("report.css")) + "</style>";
    if (mark == "data")
      out += "<script type=\"application/json\" id=\"spillway-data\">" + script_safe(data) +
             "</script>";
    if (mark == "scripts") out += "<script>\n" + scripts_of(scripts) + "</script>";
    rest.remove_prefix(close + kClose.size());
  }
  return out + std::string(rest);
}

}  // namespace spillway
