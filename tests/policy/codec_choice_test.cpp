// SPDX-License-Identifier: Apache-2.0
// Which codecs a storage may take: tags, limits and rules by name, and that every planner keeps to
// them.
#include "policy/codec_choice.hpp"

#include "policy/planner.hpp"
#include "policy/simulator.hpp"
#include "policy/validator.hpp"
#include "tests/support/profile_maker.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

using namespace spillway;
using namespace spillway::test;

namespace {

constexpr std::uint64_t kBytes = std::uint64_t{64} << 10;

/// A chain of bf16 activations named a1, a2, ..., and what is needed to speak about them.
struct Chain {
  Profile profile = chain_profile(6, kBytes, 1000, 1000, 2000, Dtype::kBf16);
  PlanRequest request;

  Chain() {
    for (std::uint32_t s = 1; s <= 6; ++s)
      profile.storages[s].name = profile.strings.intern("a" + std::to_string(s));
    request.allow_lossy = true;
  }
  Tag& tag(std::uint32_t storage) { return profile.storages[storage].tag; }
  Status follow(std::vector<std::string> texts) {
    std::vector<CodecRule> rules;
    for (const std::string& text : texts) {
      auto rule = parse_codec_rule(text);
      if (!rule.ok()) return rule.status();
      rules.push_back(std::move(rule).value());
    }
    auto sets = resolve_codec_rules(profile, rules, request);
    if (!sets.ok()) return sets.status();
    request.codecs = std::move(sets).value();
    return {};
  }
  [[nodiscard]] Codec best(std::uint32_t storage, bool exact = false) const {
    return best_codec(profile, storage, request, exact);
  }
};

void check_text(const Status& status, const std::string& part) {
  CHECK(status.code() == Code::kInvalidArgument);
  CHECK_MESSAGE(status.message().find(part) != std::string::npos, status.message());
}

bool matches_slowly(std::string_view pattern, std::string_view name) {
  if (pattern.empty()) return name.empty();
  if (pattern[0] == '*')
    return matches_slowly(pattern.substr(1), name) ||
           (!name.empty() && matches_slowly(pattern, name.substr(1)));
  return !name.empty() && (pattern[0] == '?' || pattern[0] == name[0]) &&
         matches_slowly(pattern.substr(1), name.substr(1));
}

}  // namespace

TEST_SUITE("unit: codec choice") {
  TEST_CASE("the smallest payload that tag and permission allow is chosen, int4 only by name") {
    Chain chain;
    CHECK(chain.best(2) == Codec::kInt8);
    CHECK(chain.best(2, true) == Codec::kLossless12);
    chain.request.allow_lossy = false;
    CHECK(chain.best(2) == Codec::kLossless12);
    chain.tag(2).flags = kSparseValues;
    CHECK(chain.best(2) == Codec::kSparse);
    CHECK(chain.best(2, true) == Codec::kSparse);
    chain.request.allow_lossy = true;
    CHECK(chain.best(2) == Codec::kInt8);
    chain.tag(2).flags = kExactRequired;
    CHECK(chain.best(2) == Codec::kLossless12);
    REQUIRE(chain.follow({"a3=int4"}).ok());
    CHECK(chain.best(3) == Codec::kInt4);
    CHECK(chain.best(3, true) == Codec::kNone);
    CHECK(chain.best(4) == Codec::kInt8);
  }

  TEST_CASE(
      "a mask is exact where it is boolean, and where only the sign is wanted no recompute "
      "may read it") {
    Chain chain;
    chain.request.allow_lossy = false;
    chain.tag(2).flags = kBoolean;
    chain.tag(2).dtype = Dtype::kBool;
    CHECK(chain.best(2) == Codec::kMask1);
    CHECK(chain.best(2, true) == Codec::kMask1);
    chain.tag(3).flags = kSignOnly;
    CHECK(chain.best(3) == Codec::kMask1);
    CHECK(chain.best(3, true) == Codec::kLossless12);

    // The judge says the same: a3 as a mask feeds no recompute.
    Plan plan;
    for (std::uint32_t op = 0; op < 12; ++op) {
      if (op == 5) plan.program.push_back({InstructionKind::kCompress, Codec::kMask1, 0, 3});
      if (op == 5) plan.program.push_back({InstructionKind::kDrop, Codec::kNone, 0, 4});
      if (op == 7) plan.program.push_back({InstructionKind::kDecompress, Codec::kMask1, 0, 3});
      if (op == 7) plan.program.push_back({InstructionKind::kRecompute, Codec::kNone, 0, 3});
      plan.program.push_back({InstructionKind::kCompute, Codec::kNone, 0, op});
    }
    const auto laws = [&] {
      std::vector<Law> found;
      for (const Violation& violation :
           validate(chain.profile, simple_device(), plan, {}).violations)
        found.push_back(violation.law);
      return found;
    };
    const auto lossy = [&] {
      const std::vector<Law> all = laws();
      return std::count(all.begin(), all.end(), Law::kLossyIntoExact);
    };
    CHECK(lossy() > 0);
    chain.tag(3).flags = kBoolean;
    CHECK(lossy() == 0);
  }

  TEST_CASE("a limit on the error leaves out the codecs whose bound is above it") {
    Chain chain;
    chain.request.max_error = 0.06;
    CHECK(chain.best(2) == Codec::kInt8);
    REQUIRE(chain.follow({"a2=fp8-e4m3"}).ok());
    CHECK(chain.best(2) == Codec::kFp8E4m3);
    chain.request.max_error = 0.01;
    CHECK(chain.best(2) == Codec::kNone);  // of the rule's codec nothing is left
    CHECK(chain.best(3) == Codec::kInt8);
    chain.request.max_error = 0;
    CHECK(chain.best(3) == Codec::kLossless12);
    check_text(chain.follow({"a2=int8"}), "above 0");
    CHECK(relative_error_bound(Codec::kInt8) == 1.0 / 127);
    CHECK(relative_error_bound(Codec::kFp8E4m3) == 1.0 / 17);
    CHECK(relative_error_bound(Codec::kSparse) == 0);
  }

  TEST_CASE("the last rule that a storage may follow counts, and none forbids") {
    Chain chain;
    chain.tag(3).flags = kExactRequired;
    REQUIRE(chain.follow({"*=lossless12", "a?=int8", "a4=none"}).ok());
    CHECK(chain.best(2) == Codec::kInt8);
    CHECK(chain.best(3) == Codec::kLossless12);  // int8 never beats the tag
    CHECK(chain.best(4) == Codec::kNone);
    CHECK(allowed_codecs(chain.profile, 4, chain.request) == 0);
    REQUIRE(chain.follow({"*=none"}).ok());
    for (std::uint32_t s = 1; s <= 6; ++s) CHECK(chain.best(s) == Codec::kNone);
    REQUIRE(chain.follow({}).ok());
    CHECK(chain.best(2) == Codec::kInt8);
  }

  TEST_CASE("a rule that nothing can follow says why") {
    Chain chain;
    check_text(chain.follow({"a2"}), "expected PATTERN=NAME");
    check_text(chain.follow({"=int8"}), "expected PATTERN=NAME");
    check_text(chain.follow({"a2=zip"}), "lossless12, mask1, int8, fp8-e4m3, int4, sparse or");
    check_text(chain.follow({"a2="}), "found ''");
    check_text(chain.follow({"b*=int8"}), "--codec 'b*=int8': no storage that may move");
    check_text(chain.follow({"a2=mask1"}), "neither boolean nor sign_only");
    check_text(chain.follow({"a2=sparse"}), "not tagged sparse_values");
    check_text(chain.follow({"a2=fp8-e5m2"}), "gradients");
    chain.tag(2).flags = kExactRequired;
    check_text(chain.follow({"a2=int8"}), "'a2' may not take it: it is tagged exact_required");
    chain.tag(2).dtype = Dtype::kInt64;
    check_text(chain.follow({"a2=lossless12"}), "lossless12 takes no int64");
    chain.tag(2).dtype = Dtype::kUnknown;
    check_text(chain.follow({"a2=lossless12"}), "dtype is not known");
    chain.request.allow_lossy = false;
    check_text(chain.follow({"a3=int8"}), "needs --lossy");
    CHECK(chain.request.codecs.empty());
  }

  TEST_CASE("patterns match as the naive definition does") {
    Random random(11);
    for (int i = 0; i < 20000; ++i) {
      const auto text = [&](const char* letters, std::uint64_t kinds) {
        std::string made;
        for (std::uint64_t n = random.below(8); n > 0; --n)
          made.push_back(letters[random.below(kinds)]);
        return made;
      };
      const std::string pattern = text("ab*?", 4);
      const std::string name = text("ab", 2);
      if (matches_pattern(pattern, name) != matches_slowly(pattern, name))
        FAIL_CHECK(pattern << " and " << name);
    }
    // No pattern takes more than the product of the lengths.
    const std::string stars = [] {
      std::string made;
      for (int i = 0; i < 2000; ++i) made += "*a";
      return made + "b";
    }();
    CHECK(!matches_pattern(stars, std::string(20000, 'a')));
  }

  TEST_CASE("a plan with a codec that a rule forbids is named") {
    Chain chain;
    Plan plan;
    plan.program.push_back({InstructionKind::kCompress, Codec::kInt8, 0, 3});
    CHECK(check_codecs(chain.profile, plan, chain.request).ok());
    REQUIRE(chain.follow({"a*=lossless12"}).ok());
    check_text(check_codecs(chain.profile, plan, chain.request), "'a3' is compressed by int8");
  }
}

TEST_SUITE("property: codec choice") {
  TEST_CASE("every planner keeps to tags, limits and rules on random steps") {
    std::uint64_t coded = 0;
    std::uint64_t sign_masks = 0;
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
      CAPTURE(seed);
      Random random(seed * 31);
      Profile profile = random_profile(seed, 4 + static_cast<std::uint32_t>(random.below(24)));
      for (Storage& storage : profile.storages) {
        if (storage.tag.kind != BufferKind::kActivation) continue;
        constexpr std::uint16_t kFlags[] = {0, kExactRequired, kSparseValues, kSignOnly, kLossyOk};
        storage.tag.flags = static_cast<std::uint16_t>(storage.tag.flags | kFlags[random.below(5)]);
      }
      PlanRequest request;
      request.allow_lossy = random.below(2) == 0;
      constexpr double kLimits[] = {0, 0.01, 0.1, 1};
      request.max_error = kLimits[random.below(4)];
      request.work_limit = 1000;
      request.codecs.assign(profile.storages.size(), kAnyCodec);
      for (CodecSet& set : request.codecs)
        if (random.below(3) == 0) set = static_cast<CodecSet>(1u << random.below(kCodecCount));
      const ProfileSummary summary = summarize(profile);
      DeviceModel device = simple_device();
      device.d2h_gbps = device.h2d_gbps = 0.1;
      device.hbm_gbps = 100;
      for (const double part : {0.7, 0.3}) {
        request.budget_bytes =
            summary.unmovable_bytes +
            static_cast<std::uint64_t>(
                part * static_cast<double>(summary.keep_all_peak_bytes - summary.unmovable_bytes));
        for (const Planner& planner : planners()) {
          CAPTURE(planner.name);
          const PlanOutcome outcome = planner.plan(profile, summary, device, request);
          const Plan* plan = std::get_if<Plan>(&outcome);
          if (plan == nullptr) continue;
          const Status kept = check_codecs(profile, *plan, request);
          CHECK_MESSAGE(kept.ok(), kept.message());
          ValidateOptions options;
          options.budget_bytes = request.budget_bytes;
          options.allow_lossy = request.allow_lossy;
          const Verdict verdict = validate(profile, device, *plan, options);
          if (!verdict.ok()) FAIL_CHECK(verdict.violations.front().text);
          for (const Instruction& instruction : plan->program) {
            if (instruction.kind != InstructionKind::kCompress) continue;
            ++coded;
            if (instruction.codec == Codec::kMask1) ++sign_masks;
          }
        }
      }
    }
    CHECK(coded > 100);
    CHECK(sign_masks > 10);
  }
}
