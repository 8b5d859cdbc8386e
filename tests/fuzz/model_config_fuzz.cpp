// SPDX-License-Identifier: Apache-2.0
// Any bytes as a Hugging Face config.json; what is accepted must generate a step or be refused in
// words.
#include "integration/generator/generator.hpp"
#include "tests/support/checking_sink.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using spillway::test::CheckingSink;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  auto model = spillway::model_from_hf_config(bytes, "fuzz");
  if (!model.ok()) {
    const std::string& text = model.status().message();
    CheckingSink::require(model.status().code() == spillway::Code::kBadInput, "it is bad input");
    CheckingSink::require(text.rfind("fuzz: ", 0) == 0, "an error names its source");
    CheckingSink::require(CheckingSink::is_utf8_line(text), "an error is one line of UTF-8");
    return 0;
  }
  // Depth costs time and shows nothing new.
  for (spillway::StackConfig* stack : {&model.value().stack, &model.value().second})
    stack->layers = std::min<std::uint64_t>(stack->layers, 2);
  if (model.value().experts > 16) return 0;
  static const auto gpu = spillway::load_calibration("h200");
  CheckingSink sink;
  const spillway::Status status = spillway::generate(model.value(), {}, gpu.value(), sink);
  CheckingSink::require(status.ok() || status.code() == spillway::Code::kInvalidArgument,
                        "a step is written or refused");
  CheckingSink::require(status.ok() || sink.record_count == 0, "a refused step writes nothing");
  return 0;
}
