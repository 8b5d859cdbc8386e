// SPDX-License-Identifier: Apache-2.0
// The objects for machines: keys are an interface, bytes by action add up, and no text can make
// printing fail.
#include "integration/report/json.hpp"

#include "tests/support/made_up_run.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using namespace spillway;
using Json = nlohmann::ordered_json;

namespace {

const std::vector<std::string> kKeys = {"schema",
                                        "trace",
                                        "policy",
                                        "feasible",
                                        "gave_up",
                                        "min_budget_bytes",
                                        "budget_bytes",
                                        "peak_bytes",
                                        "keep_all_peak_bytes",
                                        "activation_bytes",
                                        "unmovable_bytes",
                                        "step_ns",
                                        "keep_all_step_ns",
                                        "bound_ns",
                                        "bound_method",
                                        "trivial_bound_ns",
                                        "overhead",
                                        "gap",
                                        "stall_ns",
                                        "stall_ns_by_cause",
                                        "plan_ms",
                                        "tensors",
                                        "measured",
                                        "inferred",
                                        "gpu",
                                        "calibration",
                                        "times_from",
                                        "link_from",
                                        "bytes"};

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("a feasible result has every promised key, and its figures") {
    const test::MadeUpRun run = test::made_up_run();
    const Json object = result_json(run.context, run.chosen, "spillway.replay/1");
    for (const std::string& key : kKeys) {
      CAPTURE(key);
      REQUIRE(object.contains(key));
      CHECK_FALSE(object[key].is_null());
    }
    CHECK(object["schema"] == "spillway.replay/1");
    CHECK(object["feasible"] == true);
    CHECK(object["measured"] == false);
    CHECK(object["peak_bytes"] == run.chosen.sim.peak_bytes);
    CHECK(object["stall_ns"] == run.chosen.sim.total_stall_ns());
    CHECK(object["tensors"] == run.profile->storages.size());
    CHECK(object["inferred"].size() == 2);
    const double overhead = static_cast<double>(run.chosen.sim.step_ns) /
                                static_cast<double>(run.context.keep_all_step_ns) -
                            1.0;
    CHECK(object["overhead"].get<double>() == overhead);
    std::int64_t stalls = 0;
    for (const auto& cause : object["stall_ns_by_cause"].items())
      stalls += cause.value().get<std::int64_t>();
    CHECK(stalls == run.chosen.sim.total_stall_ns());
    std::uint64_t bytes = 0;
    for (const auto& action : object["bytes"].items()) bytes += action.value().get<std::uint64_t>();
    CHECK(bytes == run.summary->activation_bytes);
  }

  TEST_CASE(
      "an infeasible result has the same keys, nulls for what only a plan has, and the reason") {
    test::MadeUpRun run = test::made_up_run();
    PolicyResult& result = run.all[4];
    result.budget_bytes = 1000;
    const Json object = result_json(run.context, result, "spillway.plan/1");
    for (const std::string& key : kKeys) CHECK(object.contains(key));
    for (const char* key : {"peak_bytes", "step_ns", "bound_ns", "overhead", "stall_ns", "bytes"}) {
      CAPTURE(key);
      CHECK(object[key].is_null());
    }
    CHECK(object["feasible"] == false);
    CHECK(object["min_budget_bytes"] == result.min_budget_bytes);
    CHECK(object["budget_bytes"] == 1000);
    CHECK(object["at"] == "attention.backward");
    CHECK(object["holders"][0]["what"] == "optimizer");
    CHECK(object["holders"][0]["bytes"] == result.holders[0].bytes);
  }

  TEST_CASE("no budget is null, never zero") {
    const test::MadeUpRun run = test::made_up_run();
    CHECK(result_json(run.context, run.all[0], "spillway.replay/1")["budget_bytes"].is_null());
    CHECK(compare_json(run.context, run.all, 0)["budget_bytes"].is_null());
  }

  TEST_CASE("compare wraps one object per policy in order") {
    const test::MadeUpRun run = test::made_up_run();
    const Json object = compare_json(run.context, run.all, 77);
    CHECK(object["schema"] == "spillway.compare/1");
    CHECK(object["budget_bytes"] == 77);
    REQUIRE(object["rows"].size() == run.all.size());
    for (std::size_t i = 0; i < run.all.size(); ++i)
      CHECK(object["rows"][i]["policy"] == run.all[i].policy);
  }

  TEST_CASE("text that is not UTF-8 prints and parses back with replacement characters") {
    test::MadeUpRun run = test::made_up_run({3, "\xff\xfe</script>"});
    run.context.trace = "bad \xC0\x80 name";
    run.profile->inferred.push_back("\xED\xA0\x80");
    const std::string text = dump_json(result_json(run.context, run.chosen, "spillway.replay/1"));
    CHECK(text.back() == '\n');
    const Json back = Json::parse(text);
    CHECK(back["trace"] == "bad \xEF\xBF\xBD\xEF\xBF\xBD name");
  }
}
