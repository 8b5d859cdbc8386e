// SPDX-License-Identifier: Apache-2.0
// Any bytes as a packing table: what is read is packed with little work, judged, written and read
// again.
#include "allocator/packing_check.hpp"
#include "integration/trace/packing_csv.hpp"
#include "tests/support/checking_sink.hpp"

#include <cstddef>
#include <cstdint>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using spillway::test::CheckingSink;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto source = spillway::memory_source(bytes, "fuzz");
  // A small window, so that its edge falls everywhere.
  spillway::BufferedInput input(*source, 64);
  const auto file = spillway::read_packing_csv(input);
  if (!file.ok()) {
    const std::string& text = file.status().message();
    CheckingSink::require(file.status().code() == spillway::Code::kBadInput, "it is bad input");
    CheckingSink::require(text.rfind("fuzz: ", 0) == 0, "an error names its source");
    CheckingSink::require(CheckingSink::is_utf8_line(text), "an error is one line of UTF-8");
    return 0;
  }
  const spillway::PackingFile& read = file.value();
  CheckingSink::require(read.ids.size() == read.problem.buffers.size(), "an id per buffer");
  if (read.ids.size() > 200) return 0;
  spillway::PackingOptions options;
  options.thread_count = 1;
  options.work_limit = 20000;
  for (const bool fixed : {false, true}) {
    spillway::PackingProblem problem = read.problem;
    if (fixed && read.offsets.empty()) break;
    for (std::size_t i = 0; fixed && i < read.offsets.size(); ++i)
      problem.buffers[i].fixed_offset = read.offsets[i];
    const auto packing = spillway::pack(problem, options);
    if (!packing.ok()) {
      CheckingSink::require(packing.status().code() == spillway::Code::kInvalidArgument,
                            "only the numbers can be at fault");
      continue;
    }
    CheckingSink::require(spillway::check_packing(problem, packing.value()).ok(),
                          "a packing passes its judge");
    spillway::StringSink sink;
    CheckingSink::require(spillway::write_packing_csv(read, packing.value().offsets, sink).ok(),
                          "it is written");
    const auto written = spillway::memory_source(sink.bytes(), "written");
    spillway::BufferedInput again(*written);
    const auto back = spillway::read_packing_csv(again);
    CheckingSink::require(back.ok(), "what is written can be read");
    CheckingSink::require(back.value().ids == read.ids, "with the same ids");
    for (std::size_t i = 0; i < read.ids.size(); ++i)
      CheckingSink::require(back.value().offsets[i] == packing.value().offsets[i],
                            "and the offsets of the packing");
  }
  return 0;
}
