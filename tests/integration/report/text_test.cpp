// SPDX-License-Identifier: Apache-2.0
// The table and the summary: their figures, their width, and that names from a trace cannot break
// out of a line.
#include "integration/report/text.hpp"

#include "core/units.hpp"
#include "integration/report/clean_text.hpp"
#include "tests/support/made_up_run.hpp"

#include <doctest/doctest.h>

#include <sstream>
#include <string>
#include <vector>

using namespace spillway;

namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::string line_starting_with(const std::string& text, const std::string& start) {
  for (const std::string& line : lines_of(text))
    if (line.compare(0, start.size(), start) == 0) return line;
  return {};
}

void check_width(const std::string& text) {
  for (const std::string& line : lines_of(text)) {
    CAPTURE(line);
    CHECK(columns_of(line) <= 100);
    CHECK(line.find('\x1b') == std::string::npos);
  }
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("the table has one row per policy, in order, with aligned right edges") {
    const test::MadeUpRun run = test::made_up_run();
    const std::string table = render_table(run.context, run.all);
    check_width(table);
    const std::vector<std::string> lines = lines_of(table);
    const auto head = std::find_if(lines.begin(), lines.end(), [](const std::string& line) {
      return line.compare(0, 6, "policy") == 0;
    });
    REQUIRE(head != lines.end());
    REQUIRE(static_cast<std::size_t>(lines.end() - head) == 2 + run.all.size());
    for (std::size_t i = 0; i < run.all.size(); ++i) {
      const std::string& line = *(head + 2 + static_cast<std::ptrdiff_t>(i));
      CHECK(line.compare(0, run.all[i].policy.size(), run.all[i].policy) == 0);
      if (run.all[i].feasible) CHECK(line.size() == head->size());
    }
  }

  TEST_CASE("a row of the table shows peak, saving, step and overhead of its policy") {
    const test::MadeUpRun run = test::made_up_run();
    const std::string row = line_starting_with(render_table(run.context, run.all), "chen-sqrt");
    CHECK(row.find(" 30.0 ") != std::string::npos);  // saving and overhead are both 30 %
    CHECK(row.find("65.75") != std::string::npos);   // ms
    CHECK(row.find("1.07") != std::string::npos);    // GiB
  }

  TEST_CASE("an infeasible policy says the smallest budget that it needs and who holds it") {
    const test::MadeUpRun run = test::made_up_run();
    const std::string row = line_starting_with(render_table(run.context, run.all), "every-k");
    CHECK(row.find("needs " + format_bytes(run.all[4].min_budget_bytes)) != std::string::npos);
    CHECK(row.find("optimizer 672 MiB") != std::string::npos);
  }

  TEST_CASE("a policy that gave up is not called infeasible") {
    test::MadeUpRun run = test::made_up_run();
    run.all[4].gave_up = true;
    const std::string row = line_starting_with(render_table(run.context, run.all), "every-k");
    CHECK(row.find("gave up") != std::string::npos);
    CHECK(row.find("infeasible") == std::string::npos);
  }

  TEST_CASE("very large figures keep every line within 100 columns") {
    test::MadeUpRun run = test::made_up_run();
    for (PolicyResult& result : run.all) {
      result.policy = std::string(80, 'p');
      result.sim.step_ns = std::int64_t{1} << 62;
      result.sim.stall_ns[0] = std::int64_t{1} << 61;
      result.sim.peak_bytes = ~std::uint64_t{0};
      result.bytes = {~std::uint64_t{0}, 1, ~std::uint64_t{0} / 3, 77};
      result.holders.assign(40, Holder{"something long \xF0\x9F\x92\xA3", 12345});
    }
    run.context.trace = std::string(300, 'x');
    run.context.warning = std::string(250, 'w') + " " + std::string(30, 'v');
    check_width(render_table(run.context, run.all));
    for (const PolicyResult& result : run.all) check_width(render_summary(run.context, result));
  }

  TEST_CASE("names with control characters and bad UTF-8 stay inside their line") {
    test::MadeUpRun run = test::made_up_run({3, "\x1b[31m\n\xff\xc0\x80"});
    run.context.trace = "a\nb\x1b]0;title\x07.pickle";
    run.all[4].holders = {{"bad\r\n\xed\xa0\x80name", 5}};
    const std::string table = render_table(run.context, run.all);
    check_width(table);
    CHECK(lines_of(table).front().find("a\xEF\xBF\xBD"
                                       "b") == 0);
    check_width(render_summary(run.context, run.chosen));
    check_width(render_summary(run.context, run.all[4]));
  }

  TEST_CASE("colour appears only when asked for, and changes no figure") {
    const test::MadeUpRun run = test::made_up_run();
    const std::string plain = render_table(run.context, run.all);
    std::string colored = render_table(run.context, run.all, true);
    CHECK(colored != plain);
    for (std::size_t at = colored.find('\x1b'); at != std::string::npos; at = colored.find('\x1b'))
      colored.erase(at, colored.find('m', at) - at + 1);
    CHECK(colored == plain);
  }

  TEST_CASE("the summary names budget, peak, overhead, actions and inferred facts") {
    const test::MadeUpRun run = test::made_up_run();
    const std::string text = render_summary(run.context, run.chosen);
    check_width(text);
    CHECK(text.find("joint fits the budget of " + format_bytes(run.chosen.budget_bytes)) !=
          std::string::npos);
    CHECK(text.find("keep " + format_bytes(run.chosen.bytes.keep)) != std::string::npos);
    CHECK(text.find("offload " + format_bytes(run.chosen.bytes.offload)) != std::string::npos);
    CHECK(text.find("predicted for h200 (published)") != std::string::npos);
    CHECK(text.find("warning: compute times") != std::string::npos);
    CHECK(text.find("inferred: one gradient per parameter") != std::string::npos);
  }

  TEST_CASE("the summary of an infeasible policy lists the holders at the smallest budget") {
    test::MadeUpRun run = test::made_up_run();
    run.all[4].budget_bytes = std::uint64_t{1} << 29;
    const std::string text = render_summary(run.context, run.all[4]);
    check_width(text);
    CHECK(text.find("every-k does not fit the budget of 512 MiB") != std::string::npos);
    CHECK(text.find("at attention.backward") != std::string::npos);
    CHECK(text.find("672 MiB  optimizer") != std::string::npos);
  }
}
