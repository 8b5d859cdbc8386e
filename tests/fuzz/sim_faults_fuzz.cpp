// SPDX-License-Identifier: Apache-2.0
// Any bytes as fault rules of the simulated GPU.
#include "device/sim/engine.hpp"
#include "device/sim/faults.hpp"
#include "tests/support/checking_sink.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using spillway::sim::FaultRule;
  using spillway::test::CheckingSink;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto rules = spillway::sim::parse_faults(bytes, "fuzz");
  if (!rules.ok()) {
    const std::string& text = rules.status().message();
    CheckingSink::require(rules.status().code() == spillway::Code::kBadInput, "it is bad input");
    CheckingSink::require(text.rfind("fuzz: line ", 0) == 0, "an error names source and line");
    CheckingSink::require(CheckingSink::is_utf8_line(text), "an error is one line of UTF-8");
    return 0;
  }
  CheckingSink::require(rules.value().size() <= size, "no rule that was not there");
  for (const FaultRule& rule : rules.value()) {
    CheckingSink::require(rule.api >= -1 && rule.api < static_cast<int>(spillway::sim::Api::kCount),
                          "a function");
    CheckingSink::require(rule.probability >= 0 && rule.probability <= 1, "a probability");
    CheckingSink::require(rule.factor >= 1 && rule.factor <= 1e6, "a factor");
    CheckingSink::require(rule.error >= 0 && rule.error <= 999, "an error");
  }
  return 0;
}
