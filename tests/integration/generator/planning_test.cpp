// SPDX-License-Identifier: Apache-2.0
// Generated steps through the profile builder and the named presets: what each lever is meant to
// take, it takes.
#include "integration/generator/generator.hpp"
#include "policy/planner.hpp"
#include "policy/profile_builder.hpp"

#include <doctest/doctest.h>

#include <string>
#include <variant>
#include <vector>

using namespace spillway;

namespace {

Profile profile_of(const char* name, const GenerateOptions& options) {
  ProfileBuilder builder;
  REQUIRE(generate(model_by_name(name).value(), options, load_calibration("h200").value(), builder)
              .ok());
  auto profile = builder.finish();
  CAPTURE(profile.status().message());
  REQUIRE(profile.ok());
  return std::move(profile).value();
}

std::vector<Decision> decisions_of(const Profile& profile, const char* policy) {
  PlanRequest request;
  const auto planner = find_planner(policy, &request);
  REQUIRE(planner.ok());
  DeviceModel device;
  const PlanOutcome outcome = planner.value()->plan(profile, summarize(profile), device, request);
  REQUIRE(std::holds_alternative<Plan>(outcome));
  REQUIRE(std::get<Plan>(outcome).decisions.size() == profile.storages.size());
  return std::get<Plan>(outcome).decisions;
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE(
      "the profile of every generated model knows its activations and that recompute is possible") {
    for (const std::string& name : model_names()) {
      if (name == "resnet-1001" || name == "gpt3-175b") continue;  // same code as their smaller kin
      CAPTURE(name);
      const Profile profile = profile_of(name.c_str(), {});
      const ProfileSummary summary = summarize(profile);
      CHECK(summary.activation_bytes > 0);
      CHECK(summary.unmovable_bytes > 0);
      CHECK(summary.keep_all_peak_bytes > summary.activation_bytes);
      CHECK(profile.gpu == "h200");
    }
  }

  TEST_CASE(
      "selective takes attention's inner tensors, norms and gelu, and leaves products, masks and "
      "the residual stream") {
    GenerateOptions options;
    options.batch = 1;
    options.seq = 256;
    options.flash = false;
    const Profile profile = profile_of("gpt2", options);
    const std::vector<Decision> decisions = decisions_of(profile, "selective");
    std::size_t taken = 0;
    for (std::size_t s = 0; s < profile.storages.size(); ++s) {
      const Storage& storage = profile.storages[s];
      if (storage.tag.kind != BufferKind::kActivation || storage.tag.layer != 5) continue;
      const std::string name(profile.text(storage.name));
      CAPTURE(name);
      const bool recompute = decisions[s].action == Action::kRecompute;
      const bool expected =
          ends_with(name, "attn.softmax") || ends_with(name, "attn.weights dropout") ||
          ends_with(name, "attn.weights dropout mask") || ends_with(name, "attn.context") ||
          ends_with(name, "ln1") || ends_with(name, "ln2") || ends_with(name, ".stats") ||
          ends_with(name, "mlp.gelu");
      CHECK(recompute == expected);
      taken += recompute ? 1u : 0u;
    }
    CHECK(taken == 9);
  }
}
