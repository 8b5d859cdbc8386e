// SPDX-License-Identifier: Apache-2.0
// Writes the report pages that tests/browser/report_test.py opens: an ordinary run with hostile
// names, one without a plan, a long one.
#include "integration/report/html_report.hpp"
#include "tests/support/made_up_run.hpp"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

namespace {

bool write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary);
  out << text;
  return static_cast<bool>(out.flush());
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
  if (!ok) std::fprintf(stderr, "%s: cannot write\n", argv[1]);
  return ok ? 0 : 2;
}
