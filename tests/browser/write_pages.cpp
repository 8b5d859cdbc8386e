// SPDX-License-Identifier: Apache-2.0
// Writes the report pages that tests/browser/report_test.py opens: an ordinary run with hostile
// names, one without a plan, a long one, and allocators over random calls.
#include "integration/replay/allocators.hpp"
#include "integration/report/arena_page.hpp"
#include "integration/report/html_report.hpp"
#include "tests/integration/replay/calls.hpp"
#include "tests/support/made_up_run.hpp"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

namespace {

bool write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary);
  out << text;
  return static_cast<bool>(out.flush());
}

/// Two allocators over random calls with phases, and one that runs out of memory.
std::string arena_page(const std::string& hostile) {
  using namespace spillway;
  test::Calls calls;
  Random random(11);
  std::vector<std::uint64_t> live;
  for (int i = 0; i < 3000; ++i) {
    if (live.size() > 400 || (!live.empty() && random.below(3) == 0)) {
      const std::size_t victim = random.below(live.size());
      calls.free(live[victim]);
      live[victim] = live.back();
      live.pop_back();
      continue;
    }
    live.push_back(calls.alloc(1 + random.below(std::uint64_t{8} << 20)));
    Tag tag;
    tag.phase = i < 1200 ? Phase::kForward : i < 2400 ? Phase::kBackward : Phase::kOptimizer;
    calls.emitter().tag(live.back(), tag);
    calls.emitter().name(live.back(), hostile);
  }
  const AllocationTrace trace = calls.take();
  std::vector<AllocatorRun> runs;
  for (const char* name : {"pytorch", "best-fit", "first-fit"}) {
    AllocatorRunOptions options;
    options.pictures = true;
    options.sample_count = 500;
    options.budget_bytes = runs.size() < 2 ? 0 : 1 << 24;
    const auto allocator = make_allocator(name, trace, options.budget_bytes);
    auto run = run_allocator(trace, *allocator.value(), options);
    if (!run.ok()) return {};
    runs.push_back(std::move(run).value());
  }
  return render_arena_page("a/" + hostile, hostile, trace, runs);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace spillway;
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
    return 1;
  }
  const std::filesystem::path folder = argv[1];
  // Were any of it taken for markup, the page would ask for an image and run a script: the test
  // sees both.
  const std::string hostile =
      "<img src=x onerror=\"window.broken = 1\"></script><script>window.broken = 1</script>&lt;b>";
  test::MadeUpRun run = test::made_up_run({12, hostile});
  run.context.command += " " + hostile;
  run.profile->notes.push_back(hostile);
  bool ok =
      write(folder / "plan.html", render_html_report(run.context, run.chosen, run.all, run.curve));

  PolicyResult unfit = run.all[4];
  unfit.budget_bytes = std::uint64_t{1} << 29;
  unfit.infeasible_at = hostile;
  ok = write(folder / "no_plan.html", render_html_report(run.context, unfit, run.all, {})) && ok;

  const test::MadeUpRun large = test::made_up_run({1200, ""});
  ok = write(folder / "large.html",
             render_html_report(large.context, large.chosen, large.all, large.curve)) &&
       ok;
  ok = write(folder / "arena.html", arena_page(hostile)) && ok;
  if (!ok) std::fprintf(stderr, "%s: cannot write\n", argv[1]);
  return ok ? 0 : 2;
}
