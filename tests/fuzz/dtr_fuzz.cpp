// SPDX-License-Identifier: Apache-2.0
// Any bytes as a DTR op log: JSON lines, names, views, mutations, reference counts; then as events
// through the engine, with every score in little memory.
#include "integration/trace/dtr_events.hpp"
#include "integration/trace/formats.hpp"
#include "policy/dtr/dtr_engine.hpp"
#include "tests/support/checking_sink.hpp"

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace {

void replay(std::string_view bytes) {
  using spillway::DtrEnd;
  using spillway::test::CheckingSink;
  const auto source = spillway::memory_source(bytes, "fuzz");
  const auto log = spillway::read_dtr_events(*source);
  if (!log.ok()) return CheckingSink::check_error(log.status(), "fuzz");
  CheckingSink::require(check_invariants(log.value()).ok(), "the reader keeps the invariants");
  const std::uint64_t all = std::uint64_t{1} << 62;
  const auto whole = run_dtr(log.value(), spillway::DtrScore::kLru, all);
  CheckingSink::require(whole.ok() && whole.value().end == DtrEnd::kOk, "all memory is enough");
  spillway::DtrOptions options;
  options.remat_count_max = 1000;
  for (int i = 0; i < spillway::kDtrScoreCount; ++i) {
    const std::uint64_t budget = whole.value().peak_bytes / 2;
    const auto half = run_dtr(log.value(), static_cast<spillway::DtrScore>(i), budget, options);
    CheckingSink::require(half.ok(), "a log that ran once runs again");
    CheckingSink::require(half.value().peak_bytes <= budget, "the budget holds");
    CheckingSink::require(
        half.value().clock_ns == 1 + half.value().model_ns + half.value().remat_ns,
        "the clock is what ran");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto source = spillway::memory_source(bytes, "fuzz");
  // A small window, so that its edge falls everywhere.
  spillway::BufferedInput input(*source, 64);
  spillway::test::CheckingSink sink;
  const auto info = spillway::read_dtr_log(input, {}, sink);
  if (!info.ok()) {
    spillway::test::CheckingSink::check_error(info.status(), "fuzz");
  } else {
    spillway::test::CheckingSink::require(info.value().event_count == sink.record_count,
                                          "the reader counts its records");
  }
  replay(bytes);
  return 0;
}
