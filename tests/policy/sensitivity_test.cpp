// SPDX-License-Identifier: Apache-2.0
// What-ifs: what each word changes, and which words are refused.
#include "policy/sensitivity.hpp"

#include "tests/support/profile_maker.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace spillway;
using namespace spillway::test;

namespace {

Profile two_kinds() {
  ProfileMaker maker;
  maker.preexisting(0, 100, BufferKind::kParameter);
  maker.op_begin(Phase::kForward, OpKind::kMatmul);
  maker.create(1, 64);
  maker.read(0);
  maker.op_end(1000);
  maker.op_begin(Phase::kForward, OpKind::kNorm);
  maker.create(2, 64);
  maker.read(1);
  maker.op_end(600);
  maker.op_begin(Phase::kBackward, OpKind::kMatmul);
  maker.read(1);
  maker.read(2);
  maker.op_end(2000);
  maker.free(1);
  maker.free(2);
  return maker.must_finish();
}

Scenario changed(const std::string& text, const PlanRequest& request = {}) {
  const auto what_if = parse_what_if(text);
  REQUIRE_MESSAGE(what_if.ok(), what_if.status().message());
  BudgetBasis basis;
  basis.keep_all_peak_bytes = 1000;
  basis.unmovable_bytes = 200;
  basis.activation_bytes = 500;
  auto scenario = apply(what_if.value(), two_kinds(), simple_device(), request, basis);
  REQUIRE_MESSAGE(scenario.ok(), scenario.status().message());
  return std::move(scenario).value();
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("a what-if changes what it names and nothing else") {
    const DeviceModel plain = simple_device();
    const Scenario link = changed("link=2x");
    CHECK(link.device.d2h_gbps == 2 * plain.d2h_gbps);
    CHECK(link.device.h2d_gbps == 2 * plain.h2d_gbps);
    CHECK(link.device.hbm_gbps == plain.hbm_gbps);
    CHECK(link.profile.ops[0].duration_ns == 1000);
    CHECK(changed("link=26GB/s").device.h2d_gbps == doctest::Approx(26));

    const Scenario compute = changed("compute=4x");
    CHECK(compute.profile.ops[0].duration_ns == 250);
    CHECK(compute.profile.ops[1].duration_ns == 600);
    CHECK(compute.profile.ops[2].duration_ns == 500);
    CHECK(compute.device.hbm_gbps == plain.hbm_gbps);

    // A norm's time is that of its bytes.
    const Scenario hbm = changed("hbm=0.5x");
    CHECK(hbm.device.hbm_gbps == plain.hbm_gbps / 2);
    CHECK(hbm.profile.ops[0].duration_ns == 1000);
    CHECK(hbm.profile.ops[1].duration_ns == 1200);
    CHECK(changed("hbm=20GB/s").profile.ops[1].duration_ns == 300);
  }

  TEST_CASE("limits are scaled from what is set, or set anew") {
    PlanRequest request;
    request.budget_bytes = 400;
    request.pinned_bytes = 50;
    CHECK(changed("budget=1.5x", request).request.budget_bytes == 600);
    CHECK(changed("budget=60%", request).request.budget_bytes == 600);
    CHECK(changed("budget=40%act", request).request.budget_bytes == 400);
    CHECK(changed("pinned=2x", request).request.pinned_bytes == 100);
    CHECK(changed("pinned=1KiB").request.pinned_bytes == 1024);
    const Scenario both = changed("link=2x,budget=0.5x", request);
    CHECK(both.request.budget_bytes == 200);
    CHECK(both.device.d2h_gbps == 2);
    CHECK(both.request.pinned_bytes == 50);
  }

  TEST_CASE("words that mean nothing are refused by one error that quotes them") {
    for (const char* text :
         {"",           ",",         "link",       "link=",       "link=x",      "link=0x",
          "link=-2x",   "link=nanx", "link=infx",  "link=1e9x",   "link=2x,",    "link=2x,link=3x",
          "speed=2x",   "LINK=2x",   "link=26",    "link=26GB",   "link=GB/s",   "link=-1GB/s",
          "compute=10", "pinned=",   "pinned=0",   "budget=much", "budget=-1%",  "hbm=/s",
          "link=2 x",   "=2x",       "compute=0x", "link==2x",    "budget=nan%", "hbm=0GB/s"}) {
      const auto what_if = parse_what_if(text);
      CHECK_MESSAGE(!what_if.ok(), text);
      if (what_if.ok()) continue;
      CHECK(what_if.status().code() == Code::kInvalidArgument);
      CHECK(what_if.status().message().find("'" + std::string(text) + "'") != std::string::npos);
    }
    const std::string nuls("link=2x\0", 8);
    CHECK(!parse_what_if(nuls).ok());
    CHECK(!parse_what_if(std::string(1 << 20, 'x')).ok());
  }

  TEST_CASE(
      "what cannot be applied is refused: nothing to scale, no budget left, rates off scale") {
    const Profile profile = two_kinds();
    for (const char* text : {"budget=2x", "pinned=0.5x", "budget=0%", "link=1B/s", "hbm=10B/s"}) {
      const auto what_if = parse_what_if(text);
      REQUIRE_MESSAGE(what_if.ok(), text);
      const auto scenario = apply(what_if.value(), profile, simple_device(), {}, BudgetBasis{});
      CHECK_MESSAGE(!scenario.ok(), text);
      if (!scenario.ok()) CHECK(scenario.status().code() == Code::kInvalidArgument);
    }
  }

  TEST_CASE("no op becomes free, and times that overflow are refused") {
    Profile profile = two_kinds();
    profile.ops[0].duration_ns = 1;
    const auto faster =
        apply(parse_what_if("compute=1000x").value(), profile, simple_device(), {}, BudgetBasis{});
    REQUIRE(faster.ok());
    CHECK(faster.value().profile.ops[0].duration_ns == 1);
    profile.ops[0].duration_ns = 1ull << 61;
    CHECK(
        !apply(parse_what_if("compute=0.001x").value(), profile, simple_device(), {}, BudgetBasis{})
             .ok());
  }
}
