// SPDX-License-Identifier: Apache-2.0
// Any bytes as a hand-written layer table: header, quotes, numbers with units.
#include "integration/trace/formats.hpp"
#include "tests/support/checking_sink.hpp"

#include <cstddef>
#include <cstdint>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto source = spillway::memory_source(bytes, "fuzz");
  // A small window, so that its edge falls everywhere.
  spillway::BufferedInput input(*source, 64);
  spillway::test::CheckingSink sink;
  const auto info = spillway::read_layer_csv(input, {}, sink);
  if (!info.ok()) {
    spillway::test::CheckingSink::check_error(info.status(), "fuzz");
  } else {
    spillway::test::CheckingSink::require(info.value().event_count == sink.record_count,
                                          "the reader counts its records");
  }
  return 0;
}
