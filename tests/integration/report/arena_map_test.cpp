// SPDX-License-Identifier: Apache-2.0
// The grid of the arena map, cell by cell on small runs, and the bounds of the page on large ones.
#include "integration/report/arena_map.hpp"

#include "integration/replay/allocators.hpp"
#include "integration/report/arena_page.hpp"
#include "tests/integration/replay/calls.hpp"
#include "tests/support/paths.hpp"

#include <doctest/doctest.h>

#include <fstream>
#include <string>

using namespace spillway;
using namespace spillway::test;

namespace {

AllocatorRun run_of(std::string_view name, const AllocationTrace& trace) {
  const auto allocator = make_allocator(name, trace, 0);
  REQUIRE(allocator.ok());
  AllocatorRunOptions options;
  options.pictures = true;
  options.sample_count = 100;
  auto run = run_allocator(trace, *allocator.value(), options);
  REQUIRE_MESSAGE(run.ok(), run.status().message());
  return std::move(run).value();
}

/// Rows from the top: '.' not held, '-' hole, '#' a block.
std::string text_of(const ArenaMap& map) {
  std::string out;
  for (std::uint32_t row = map.rows; row-- > 0;) {
    for (std::uint32_t column = 0; column < map.columns; ++column) {
      const std::uint8_t cell = map.cells[std::size_t{row} * map.columns + column];
      out += cell == ArenaMap::kNotHeld ? '.' : cell == ArenaMap::kHole ? '-' : '#';
    }
    out += '\n';
  }
  return out;
}

}  // namespace

TEST_SUITE_BEGIN("unit");

TEST_CASE("a map shows blocks, holes and what is not held yet") {
  Calls calls;
  const auto a = calls.alloc(1024);
  const auto b = calls.alloc(1024);
  calls.free(a);
  calls.alloc(2048);
  calls.free(b);
  calls.alloc(512);
  const AllocationTrace trace = calls.take();
  const AllocatorRun run = run_of("first-fit", trace);
  const HeldAddresses held(run);
  CHECK(held.bytes() == 4096);
  const ArenaMap map = draw_arena(trace, run, held, 100, 4);
  CHECK(text_of(map) ==
        "...###\n"
        "...###\n"
        ".####-\n"
        "###--#\n");
}

TEST_CASE("addresses that were never held take no room") {
  AllocatorRun run;
  run.first_ranges = {{1000, 100}, {5000, 50}};
  run.changes = {{3, true, {1100, 10}}, {4, false, {5000, 50}}, {5, true, {9000, 40}}};
  const HeldAddresses held(run);
  CHECK(held.bytes() == 200);
  CHECK(held.place_of(1000) == 0);
  CHECK(held.place_of(1105) == 105);
  CHECK(held.place_of(5000) == 110);
  CHECK(held.place_of(9039) == 199);
  CHECK(held.place_of(3000) == 110);
  CHECK(held.place_of(0) == 0);
}

TEST_CASE(
    "the arena page holds its assets, leaves no mark unfilled and refers to nothing outside") {
  Calls calls;
  calls.alloc(100);
  const AllocationTrace trace = calls.take();
  const std::string page = render_arena_page("t", "c", trace, {run_of("best-fit", trace)});
  for (const char* name : {"arena_data.js", "arena.js", "format.js", "timeview.js", "report.css"}) {
    CAPTURE(name);
    std::ifstream in(source_dir() / "integration/report/assets" / name, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    CHECK(text.size() > 100);
    CHECK(page.find(text) != std::string::npos);
  }
  CHECK(page.find("{{") == std::string::npos);
  for (const char* reference :
       {"http:", "https:", "src=", "@import", "url(", "fetch(", "XMLHttpRequest", "import("})
    CHECK(page.find(reference) == std::string::npos);
}

TEST_CASE("an empty run has an empty map") {
  const AllocationTrace trace;
  const AllocatorRun run;
  const HeldAddresses held(run);
  CHECK(draw_arena(trace, run, held, 10, 10).cells.empty());
}

TEST_SUITE_END();

TEST_SUITE("property") {
  TEST_CASE("cells that are wholly held or wholly free of blocks agree with the run") {
    for (const std::string_view name : allocator_names()) {
      for (std::uint64_t seed = 1; seed <= 4; ++seed) {
        CAPTURE(name);
        CAPTURE(seed);
        const AllocationTrace trace = random_calls(seed, 400, 2);
        const AllocatorRun run = run_of(name, trace);
        const HeldAddresses held(run);
        // One column per call: the share of held rows is what is held after it.
        const ArenaMap map =
            draw_arena(trace, run, held, static_cast<std::uint32_t>(trace.events.size()), 64);
        REQUIRE(map.columns == trace.events.size());
        for (const FragmentationSample& sample : run.samples) {
          if (sample.event == 0) continue;
          std::uint32_t rows = 0;
          for (std::uint32_t row = 0; row < map.rows; ++row)
            rows +=
                map.cells[std::size_t{row} * map.columns + sample.event - 1] != ArenaMap::kNotHeld;
          const double share =
              static_cast<double>(sample.reserved_bytes) / static_cast<double>(held.bytes());
          CHECK(rows / 64.0 == doctest::Approx(share).epsilon(0.2));
        }
      }
    }
  }

  TEST_CASE("the page does not grow with the trace") {
    const auto page_bytes = [](int calls) {
      const AllocationTrace trace = random_calls(7, calls, 2);
      return render_arena_page("t", "c", trace, {run_of("best-fit", trace)}).size();
    };
    const std::size_t small = page_bytes(4000);
    const std::size_t large = page_bytes(80000);
    CHECK(large < small + 200'000);
    CHECK(large < 600'000);
  }

  TEST_CASE("what a trace calls its blocks is data on the page, never markup") {
    Calls calls;
    const auto block = calls.alloc(100);
    calls.emitter().name(block, "</script><script>alert(1)</script>");
    const AllocationTrace trace = calls.take();
    const std::string page = render_arena_page("<b>", "<i>", trace, {run_of("best-fit", trace)});
    CHECK(page.find("alert(1)") != std::string::npos);
    CHECK(page.find("</script><script>alert") == std::string::npos);
    CHECK(page.find("<b>") == std::string::npos);
    CHECK(page.find("<i>") == std::string::npos);
  }
}
