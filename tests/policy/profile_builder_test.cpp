// SPDX-License-Identifier: Apache-2.0
// From records to a profile: classification, inferred reads, ranges, steps, and hostile streams.
#include "policy/profile_builder.hpp"

#include "policy/annotation.hpp"
#include "policy/step_key.hpp"
#include "tests/support/profile_maker.hpp"

#include <doctest/doctest.h>

#include <algorithm>

using namespace spillway;
using namespace spillway::test;

namespace {

constexpr std::uint32_t kDomain = 1;

void push(ProfileMaker& maker, std::uint32_t text) {
  maker.record(RecordKind::kRangePush, 0, text, kDomain);
}
void pop(ProfileMaker& maker) { maker.record(RecordKind::kRangePop, 0, 0, kDomain); }

/// A lifetime-only step: in forward 20 allocations of 100 bytes live into backward, freed there in
/// reverse.
Profile lifetime_profile(bool layers) {
  ProfileMaker maker;
  maker.string("domain");
  const std::uint32_t forward = maker.string("forward");
  const std::uint32_t backward = maker.string("backward");
  const std::uint32_t layer = maker.string("layer 3");
  maker.record(RecordKind::kAlloc, 1000, 5000, 0, kRecordPreexisting);
  push(maker, forward);
  for (std::uint64_t i = 0; i < 20; ++i) {
    if (layers && i == 0) push(maker, layer);
    maker.record(RecordKind::kAlloc, i, 100);
    maker.advance_ns(10);
    if (layers && i == 2) pop(maker);
  }
  maker.record(RecordKind::kAlloc, 50, 70);
  maker.advance_ns(10);
  maker.free(50);
  pop(maker);
  push(maker, backward);
  for (std::uint64_t i = 20; i-- > 0;) {
    maker.record(RecordKind::kAlloc, 100 + i, 30);
    maker.advance_ns(20);
    maker.free(i);
    if (i != 0) maker.free(100 + i);
  }
  pop(maker);
  return maker.must_finish();
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("a lifetime-only trace: what lives from forward into backward is an activation") {
    const Profile profile = lifetime_profile(false);
    CHECK(!profile.can_recompute);
    CHECK(profile.ops.size() == 41);
    const ProfileSummary summary = summarize(profile);
    CHECK(summary.activation_bytes == 2000);
    CHECK(summary.keep_all_peak_bytes == 5000 + 2000 + 70);
    CHECK(profile.storages[0].tag.kind == BufferKind::kParameter);
    CHECK(profile.storages[1].tag.kind == BufferKind::kActivation);
    CHECK(profile.storages[21].tag.kind == BufferKind::kWorkspace);
    CHECK(profile.storages.back().tag.kind == BufferKind::kGradient);
    CHECK(profile.storages[1].tag.has(kTagInferred));
    CHECK(profile.inferred.size() == 3);
    // Storage 1 is made by op 0, held for 8 allocations, read last by the op before its free.
    const auto uses = profile.uses_of(profile.storages[1]);
    REQUIRE(uses.size() == 3);
    CHECK(uses[0] == 0);
    CHECK(uses[1] == 8);
    CHECK(uses[2] == 40);
    CHECK(profile.ops[3].duration_ns == 10);
    CHECK(profile.ops[30].duration_ns == 20);
  }

  TEST_CASE("an activation is held until the range of its layer ends when there is one") {
    const Profile profile = lifetime_profile(true);
    CHECK(profile.storages[1].tag.layer == 3);
    CHECK(profile.storages[4].tag.layer == kNoLayer);
    CHECK(profile.uses_of(profile.storages[1])[1] == 2);
    CHECK(profile.uses_of(profile.storages[4])[1] == 3 + 8);
  }

  TEST_CASE("ranges nest per thread and domain") {
    ProfileMaker maker;
    maker.string("a");
    const std::uint32_t other = maker.string("b");
    const std::uint32_t forward = maker.string("Forward pass");
    const std::uint32_t backward = maker.string("bwd");
    push(maker, forward);
    maker.record(RecordKind::kRangePush, 0, maker.string("h.7.attn"), other);
    maker.record(RecordKind::kAlloc, 1, 10);
    maker.record(RecordKind::kThread, 2);
    push(maker, backward);
    maker.record(RecordKind::kAlloc, 2, 10);
    maker.record(RecordKind::kThread, 0);
    maker.record(RecordKind::kAlloc, 3, 10);
    pop(maker);  // the outer one, of the other domain, ends first
    maker.record(RecordKind::kAlloc, 4, 10);
    maker.record(RecordKind::kRangePop, 0, 0, other);
    maker.record(
        RecordKind::kRangePop, 0, 0, other);  // one too many: the recording began inside it
    maker.record(RecordKind::kAlloc, 5, 10);
    const Profile profile = maker.must_finish();
    CHECK(profile.ops[0].tag.phase == Phase::kForward);
    CHECK(profile.ops[0].tag.layer == 7);
    CHECK(profile.ops[1].tag.phase == Phase::kBackward);
    CHECK(profile.ops[1].tag.layer == kNoLayer);
    CHECK(profile.ops[2].tag.phase == Phase::kForward);
    CHECK(profile.ops[4].tag.phase == Phase::kUnknown);
    CHECK(profile.ops[4].tag.layer == kNoLayer);
  }

  TEST_CASE("started ranges count too, and may end on another thread and out of order") {
    ProfileMaker maker;
    maker.string("domain");
    maker.record(RecordKind::kRangeStart, 7, maker.string("forward"), kDomain);
    maker.record(RecordKind::kRangeStart, 8, maker.string("layer 4"), kDomain);
    maker.record(RecordKind::kAlloc, 1, 10);
    maker.record(RecordKind::kThread, 5);
    maker.record(RecordKind::kAlloc, 2, 10);
    maker.record(RecordKind::kRangeEnd, 7, 0, kDomain);
    maker.record(RecordKind::kRangeEnd, 99, 0, kDomain);
    maker.record(RecordKind::kThread, 0);
    maker.record(RecordKind::kAlloc, 3, 10);
    maker.record(RecordKind::kRangeEnd, 8, 0, kDomain);
    maker.record(RecordKind::kAlloc, 4, 10);
    const Profile profile = maker.must_finish();
    CHECK(profile.ops[0].tag.phase == Phase::kForward);
    CHECK(profile.ops[0].tag.layer == 4);
    CHECK(profile.ops[1].tag.phase == Phase::kUnknown);
    CHECK(profile.ops[2].tag.layer == 4);
    CHECK(profile.ops[3].tag.layer == kNoLayer);
    CHECK(profile.ops[3].tag.phase == Phase::kUnknown);
  }

  TEST_CASE("annotations say phase and layer in many spellings") {
    CHECK(read_annotation("Optimizer.step#AdamW.step").phase == Phase::kOptimizer);
    CHECK(read_annotation("autograd::engine::evaluate_function: AddmmBackward0").phase ==
          Phase::kBackward);
    CHECK(read_annotation("transformer.h.11.attn").layer == 11);
    CHECK(read_annotation("model.layers.3.mlp").layer == 3);
    CHECK(read_annotation("layer_12 forward").layer == 12);
    CHECK(read_annotation("Block 5").layer == 5);
    CHECK(read_annotation("path 5").layer == kNoLayer);
    CHECK(read_annotation("layer 99999999999").layer == kNoLayer);
    CHECK(read_annotation("").phase == Phase::kUnknown);
  }

  TEST_CASE("of several steps the steadiest is chosen, and one can be asked for") {
    const auto make = [](std::int64_t step) {
      ProfileOptions options;
      options.step = step;
      ProfileMaker maker(options);
      maker.preexisting(0, 100, BufferKind::kParameter);
      std::uint64_t id = 1;
      for (std::uint64_t s = 0; s < 5; ++s) {
        maker.record(RecordKind::kStep, s);
        const std::uint32_t layers = s == 0 ? 5 : 3;  // the first step has warm-up ops
        for (std::uint32_t i = 0; i < layers; ++i) {
          maker.op_begin(Phase::kForward);
          maker.create(id + i, 10);
          maker.read(0);
          maker.op_end(s == 2 ? 100 : 10 + s);
        }
        for (std::uint32_t i = layers; i-- > 0;) {
          maker.op_begin(Phase::kBackward);
          maker.read(id + i);
          maker.op_end(10);
          maker.free(id + i);
        }
        id += layers;
      }
      return maker.finish();
    };
    const Profile steady = make(-1).value();
    CHECK(steady.step_number ==
          4);  // times of the usual steps: 63, 330 (2), 69, 72 -> the upper median is step 4
    CHECK(steady.step_count == 5);
    CHECK(steady.ops.size() == 6);
    CHECK(steady.storages.size() == 4);
    CHECK(check_invariants(steady).ok());
    CHECK(make(0).value().ops.size() == 10);
    CHECK(step_signature(make(1).value()) == step_signature(make(3).value()));
    CHECK(step_signature(make(1).value()) != step_signature(make(0).value()));
    CHECK(make(9).status().code() == Code::kInvalidArgument);
  }

  TEST_CASE("views share their storage") {
    ProfileMaker maker;
    maker.op_begin(Phase::kForward);
    maker.create(1, 100);
    maker.op_end(10);
    maker.op_begin(Phase::kForward, OpKind::kView);
    maker.record(RecordKind::kView, 2, 1);
    maker.record(RecordKind::kUse, 2, 1, 0, kRecordCreate);
    maker.read(1);
    maker.op_end(1);
    maker.op_begin(Phase::kBackward);
    maker.read(2);
    maker.op_end(10);
    maker.free(1);
    const Profile profile = maker.must_finish();
    CHECK(profile.storages.size() == 1);
    CHECK(profile.tensors.size() == 2);
    CHECK(profile.uses_of(profile.storages[0]).size() == 3);
    CHECK(summarize(profile).activation_bytes == 100);
  }

  TEST_CASE("first and last use are known per phase") {
    const Profile profile = chain_profile(4, 100, 50, 10, 20);
    const Storage& second =
        profile.storages[2];  // made by op 1, read by op 2; backward ops 5 and 6
    CHECK(uses_in(profile, second, Phase::kForward).first == OpId(1u));
    CHECK(uses_in(profile, second, Phase::kForward).last == OpId(2u));
    CHECK(uses_in(profile, second, Phase::kBackward).first == OpId(5u));
    CHECK(uses_in(profile, second, Phase::kBackward).last == OpId(6u));
    CHECK(!uses_in(profile, second, Phase::kOptimizer).first.valid());
  }

  TEST_CASE("keys are unique and survive") {
    const Profile profile = random_profile(5, 30);
    const StepKeys keys = step_keys(profile);
    CHECK(keys.ops.size() == profile.ops.size());
    CHECK(keys.storages.size() == profile.storages.size());
    CHECK(keys.storages.at(keys.storage_keys[3]) == 3);
  }
}

TEST_SUITE("fault") {
  TEST_CASE("hostile records are errors that name the record") {
    const auto expect = [](const char* what, const auto& write) {
      CAPTURE(what);
      ProfileMaker maker;
      maker.op_begin(Phase::kForward);
      maker.create(1, 10);
      maker.op_end(1);
      write(maker);
      const auto profile = maker.finish();
      REQUIRE(!profile.ok());
      CHECK(profile.status().code() == Code::kBadInput);
      CHECK(profile.status().message().find("record ") == 0);
    };
    expect("storage id twice", [](ProfileMaker& m) { m.alloc(1, 10); });
    expect("freed twice", [](ProfileMaker& m) { m.free(1), m.free(1); });
    expect("free of nothing", [](ProfileMaker& m) { m.free(77); });
    expect("huge storage", [](ProfileMaker& m) { m.alloc(2, ~0ull); });
    expect("use after free",
           [](ProfileMaker& m) { m.free(1), m.op_begin(Phase::kForward), m.read(1); });
    expect("use of nothing", [](ProfileMaker& m) { m.op_begin(Phase::kForward), m.read(9); });
    expect("use outside of an op", [](ProfileMaker& m) { m.read(1); });
    expect("nested op", [](ProfileMaker& m) {
      m.op_begin(Phase::kForward), m.record(RecordKind::kOpBegin, 99);
    });
    expect("op id twice", [](ProfileMaker& m) { m.record(RecordKind::kOpBegin, 0); });
    expect("end of another op",
           [](ProfileMaker& m) { m.op_begin(Phase::kForward), m.record(RecordKind::kOpEnd, 42); });
    expect("trace ends inside an op", [](ProfileMaker& m) { m.op_begin(Phase::kForward); });
    expect("view of nothing", [](ProfileMaker& m) { m.record(RecordKind::kView, 5, 9); });
    expect("view with a storage's id", [](ProfileMaker& m) { m.record(RecordKind::kView, 1, 1); });
    expect("call tree out of order", [](ProfileMaker& m) { m.record(RecordKind::kFrame, 7, 0); });
    expect("stack of nothing", [](ProfileMaker& m) { m.record(RecordKind::kStackOf, 1, 5); });
  }

  TEST_CASE("a stream without any op or allocation is an error") {
    ProfileBuilder builder;
    CHECK(builder.finish().status().code() == Code::kBadInput);
  }

  TEST_CASE("random records never crash, and what is accepted is sound") {
    std::uint64_t accepted = 0;
    for (std::uint64_t seed = 1; seed <= 20000; ++seed) {
      CAPTURE(seed);
      Random random(seed);
      ProfileBuilder builder;
      const std::uint64_t count = 1 + random.below(12);
      for (std::uint64_t i = 0; i < count; ++i) {
        Record record;
        constexpr RecordKind kKinds[] = {RecordKind::kAlloc,
                                         RecordKind::kFreeCompleted,
                                         RecordKind::kOpBegin,
                                         RecordKind::kOpEnd,
                                         RecordKind::kUse,
                                         RecordKind::kView,
                                         RecordKind::kStep,
                                         RecordKind::kRangePush,
                                         RecordKind::kRangePop,
                                         RecordKind::kThread,
                                         RecordKind::kTag,
                                         RecordKind::kOpTag};
        record.kind = kKinds[random.below(std::size(kKinds))];
        record.id = random.below(40);
        record.arg = random.below(8) == 0 ? random.next() : random.below(4);
        record.flags = static_cast<std::uint8_t>(random.below(16));
        record.time_ns = random.below(1000);
        builder.record(record);
      }
      auto profile = builder.finish();
      if (!profile.ok()) continue;
      ++accepted;
      const Status invariants = check_invariants(profile.value());
      CHECK_MESSAGE(invariants.ok(), invariants.message());
      CHECK(summarize(profile.value()).unmovable_bytes <=
            summarize(profile.value()).keep_all_peak_bytes);
    }
    CHECK(accepted > 100);
  }
}
