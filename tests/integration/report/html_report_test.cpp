// SPDX-License-Identifier: Apache-2.0
// The page as a text: complete, self-contained, small, and no name can leave its place. What it
// looks like and how it behaves is judged in a browser (tests/browser).
#include "integration/report/html_report.hpp"

#include "tests/support/made_up_run.hpp"
#include "tests/support/paths.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <string>

using namespace spillway;
using Json = nlohmann::json;

namespace {

std::string render(const test::MadeUpRun& run) {
  return render_html_report(run.context, run.chosen, run.all, run.curve);
}

std::string data_text(const std::string& page) {
  const std::string open = "<script type=\"application/json\" id=\"spillway-data\">";
  const std::size_t begin = page.find(open);
  REQUIRE(begin != std::string::npos);
  const std::size_t end = page.find("</script>", begin);
  REQUIRE(end != std::string::npos);
  return page.substr(begin + open.size(), end - begin - open.size());
}

std::size_t count_of(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
    ++count;
  return count;
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("the page holds every asset and leaves no mark unfilled") {
    const std::string page = render(test::made_up_run());
    std::size_t count = 0;
    const std::filesystem::path folder = test::source_dir() / "integration/report/assets";
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      const std::string name = entry.path().filename().string();
      if (name == "report.html" || name.rfind("arena", 0) == 0) continue;  // the arena page's own
      CAPTURE(entry.path().string());
      std::ifstream in(entry.path(), std::ios::binary);
      const std::string text{std::istreambuf_iterator<char>(in), {}};
      CHECK(text.size() > 100);
      CHECK(page.find(text) != std::string::npos);
      ++count;
    }
    CHECK(count > 5);
    CHECK(page.find("{{") == std::string::npos);
    CHECK(count_of(page, "</html>") == 1);
  }

  TEST_CASE("the page refers to nothing outside of itself") {
    std::string page = render(test::made_up_run());
    const std::string svg_namespace = "http://www.w3.org/2000/svg";  // a name, never fetched
    const std::size_t at = page.find(svg_namespace);
    REQUIRE(at != std::string::npos);
    page.erase(at, svg_namespace.size());
    for (const char* reference :
         {"http:", "https:", "src=", "@import", "url(", "fetch(", "XMLHttpRequest", "import("}) {
      CAPTURE(reference);
      CHECK(page.find(reference) == std::string::npos);
    }
    CHECK(page.find("default-src 'none'") != std::string::npos);
  }

  TEST_CASE("names cannot end the data, open markup or break the JSON") {
    const std::string hostile =
        "</script><script>alert(1)</script><!--<img src=x "
        "onerror=alert(1)>&amp;\"'\\\xE2\x80\xA8\xE2\x80\xA9\xff{{data}}";
    const std::string clean = render(test::made_up_run());
    test::MadeUpRun run = test::made_up_run({6, hostile});
    run.context.trace = hostile;
    run.context.command = hostile;
    run.context.warning = hostile;
    run.profile->notes.push_back(hostile);
    run.all[4].infeasible_at = hostile;
    const std::string page = render(run);
    CHECK(count_of(page, "<script") == count_of(clean, "<script"));
    CHECK(count_of(page, "</script") == count_of(clean, "</script"));
    const std::string data = data_text(page);
    for (const char c : data) {
      const bool plain = c >= ' ' && c <= '~' && c != '<' && c != '>' && c != '&';
      if (!plain) FAIL("byte " << static_cast<int>(c) << " in the data");
    }
    const Json parsed = Json::parse(data);
    CHECK(parsed["result"]["trace"].get<std::string>().find("</script>") == 0);
    bool found = false;
    for (const Json& text : parsed["strings"])
      found = found || text.get<std::string>().find("layer1.attention</script>") == 0;
    CHECK(found);
  }

  TEST_CASE("the data carries the run's figures") {
    const test::MadeUpRun run = test::made_up_run();
    const Json data = Json::parse(data_text(render(run)));
    CHECK(data["result"]["peak_bytes"] == run.chosen.sim.peak_bytes);
    CHECK(data["result"]["measured"] == false);
    CHECK(data["axis"]["plan"] == true);
    CHECK(data["axis"]["end_ns"] == run.chosen.sim.step_ns);
    CHECK(data["tensors"]["name"].size() == run.profile->storages.size());
    CHECK(data["lanes"]["compute"]["gap"].size() > run.profile->ops.size());
    CHECK(data["stalls"]["count"] == run.chosen.sim.timeline->stalls.size());
    CHECK(data["tradeoff"]["policies"].size() == run.all.size());
    CHECK(data["tradeoff"]["curve"].size() == run.curve.size());
    CHECK(data["heat"]["rows"].size() == 6);
    std::uint64_t peak = 0;
    for (const Json& kind : data["peak"]["kinds"]) peak += kind[1].get<std::uint64_t>();
    CHECK(peak == data["peak"]["bytes"].get<std::uint64_t>());
    CHECK(data["peak"]["lines"][0][0].get<std::string>().find("layers.py") != std::string::npos);
  }

  TEST_CASE("an infeasible result shows the step under keep-all") {
    test::MadeUpRun run = test::made_up_run();
    run.chosen = run.all[4];
    run.chosen.budget_bytes = 1 << 20;
    const Json data = Json::parse(data_text(render(run)));
    CHECK(data["axis"]["plan"] == false);
    CHECK(data["axis"]["end_ns"] == run.summary->compute_ns);
    CHECK(data["result"]["peak_bytes"].is_null());
    CHECK(data["memory"]["t"].size() > 10);
  }

  TEST_CASE("a profile without ops or storages gives a page too") {
    test::MadeUpRun run = test::made_up_run();
    *run.profile = Profile();
    run.chosen = PolicyResult();
    run.all.clear();
    run.curve.clear();
    const Json data = Json::parse(data_text(render(run)));
    CHECK(data["tensors"]["name"].empty());
    CHECK(data["axis"]["end_ns"] == 0);
  }

  TEST_CASE("a long step stays below 3 MB") {
    const test::MadeUpRun run = test::made_up_run({1200, ""});
    REQUIRE(run.profile->ops.size() > 10'000);
    REQUIRE(run.profile->storages.size() > 5'000);
    REQUIRE(run.chosen.sim.timeline->changes.size() > 10'000);
    const std::string page = render(run);
    CHECK(page.size() < 3'000'000);
    const Json data = Json::parse(data_text(page));
    CHECK(data["memory"]["t"].size() <= 4'600);
    CHECK(data["memory"]["reduced"] == true);
  }
}
