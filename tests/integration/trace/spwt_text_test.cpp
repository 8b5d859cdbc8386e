// SPDX-License-Identifier: Apache-2.0
// The text twin loses nothing in either direction, and says where a line is wrong.
#include "core/codec.hpp"
#include "core/random.hpp"
#include "core/tag.hpp"
#include "integration/trace/byte_source.hpp"
#include "integration/trace/emitter.hpp"
#include "integration/trace/reader.hpp"
#include "integration/trace/spwt_layout.hpp"
#include "integration/trace/spwt_text_writer.hpp"
#include "policy/plan.hpp"
#include "tests/support/trace_tape.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

namespace spillway {
namespace {

using test::random_tape;
using test::TraceTape;

std::string to_text(const TraceTape& tape) {
  StringSink out;
  SpwtTextWriter writer(out);
  tape.replay(writer);
  const Status status = writer.finish();
  REQUIRE_MESSAGE(status.ok(), status.message());
  return out.bytes();
}

Result<TraceInfo> from_text(const std::string& text, TraceTape* tape) {
  const auto source = memory_source(text, "t.txt");
  return read_trace(*source, {}, *tape);
}

/// The error for `lines` behind the first line.
std::string error_of(const std::string& lines) {
  TraceTape tape;
  const auto info = from_text("# spwt text 1\n" + lines, &tape);
  REQUIRE_FALSE(info.ok());
  CHECK(info.status().code() == Code::kBadInput);
  return info.status().message();
}

TEST_SUITE_BEGIN("property");

TEST_CASE("records become text and the same records again") {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    CAPTURE(seed);
    const TraceTape tape = random_tape(seed, 5 + seed);
    const std::string text = to_text(tape);
    TraceTape back;
    const auto info = from_text(text, &back);
    REQUIRE_MESSAGE(info.ok(), info.status().message());
    REQUIRE(back == tape);
    CHECK(back.ids_are_dense());
    CHECK(info.value().format == "spwt-text");
    CHECK(info.value().event_count == tape.record_count());
    CHECK(to_text(back) == text);
  }
}

TEST_CASE("tags and decisions with valid and invalid bits are kept") {
  Random random(99);
  for (int round = 0; round < 3000; ++round) {
    TraceTape tape;
    Record record;
    constexpr RecordKind kKinds[] = {RecordKind::kTag, RecordKind::kOpTag, RecordKind::kDecision};
    record.kind = kKinds[round % 3];
    record.arg = test::extreme_number(random);
    if (round % 2 == 0) {
      Tag tag;
      tag.kind = static_cast<BufferKind>(random.below(8));
      tag.dtype = static_cast<Dtype>(random.below(12));
      tag.phase = static_cast<Phase>(random.below(5));
      tag.layer = static_cast<std::uint16_t>(random.below(3) == 0 ? kNoLayer : random.below(100));
      tag.micro_batch =
          static_cast<std::uint8_t>(random.below(3) == 0 ? kNoMicroBatch : random.below(9));
      tag.flags = static_cast<std::uint16_t>(random.below(4) == 0 ? random.below(65536) : 0);
      record.arg = pack(tag);
    } else if (round % 5 == 0) {
      record.arg = random.below(5) | random.below(8) << 8;
    }
    tape.record(record);
    TraceTape back;
    const std::string text = to_text(tape);
    CAPTURE(text);
    REQUIRE(from_text(text, &back).ok());
    REQUIRE(back == tape);
  }
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("unit");

TEST_CASE("a line reads like a sentence") {
  TraceTape tape;
  TraceEmitter emitter(tape);
  emitter.meta("model", "gpt2 \"small\"\n");
  emitter.step(3);
  emitter.set_time_ns(1234567);
  Tag tag;
  tag.kind = BufferKind::kActivation;
  tag.dtype = Dtype::kBf16;
  tag.phase = Phase::kForward;
  tag.layer = 3;
  tag.micro_batch = 0;
  tag.flags = kLossyOk | kTagInferred;
  OpTag op;
  op.kind = OpKind::kMatmul;
  op.phase = Phase::kForward;
  op.flags = kOpRng;
  emitter.range_push("nvtx", "layer 3");
  emitter.op_begin(7, "aten::mm", op, 2);
  emitter.alloc(12, 4096, 0, kRecordPreexisting);
  emitter.tag(12, tag);
  emitter.use(7, 12, kRecordRead | kRecordCreate);
  emitter.op_end(7);
  emitter.frame(emitter.frame(StackId(0u), "main.py:1"), "model.py:2");
  emitter.record(RecordKind::kCopy, 2, 4096, 5);
  emitter.record(RecordKind::kMap, 0x7f00, 2097152);
  emitter.record(
      RecordKind::kDecision,
      12,
      static_cast<std::uint64_t>(Action::kOffload) | static_cast<std::uint64_t>(Codec::kInt8) << 8);
  emitter.range_pop("nvtx");
  emitter.free_requested(12);
  CHECK(to_text(tape) ==
        "# spwt text 1\n"
        "0.000000000 meta \"model\" \"gpt2 \\\"small\\\"\\n\"\n"
        "0.000000000 step 3\n"
        "0.001234567 range_push \"nvtx\" \"layer 3\"\n"
        "0.001234567 op_begin @7 \"aten::mm\" stream=2\n"
        "0.001234567 op_tag @7 kind=matmul phase=forward marks=rng stream=2\n"
        "0.001234567 alloc #12 4096 flags=preexisting\n"
        "0.001234567 tag #12 kind=activation dtype=bf16 phase=forward layer=3 mb=0 "
        "marks=lossy_ok,inferred flags=inferred\n"
        "0.001234567 use #12 @7 flags=read,create\n"
        "0.001234567 op_end @7\n"
        "0.001234567 frame 1 0 \"main.py:1\"\n"
        "0.001234567 frame 2 1 \"model.py:2\"\n"
        "0.001234567 copy d2h 4096 stream=5\n"
        "0.001234567 map 0x7f00 2097152\n"
        "0.001234567 decision #12 action=offload codec=int8\n"
        "0.001234567 range_pop \"nvtx\"\n"
        "0.001234567 free_requested #12\n");
}

TEST_CASE(
    "strings that a record's line cannot announce get a line, and repeated texts stay apart") {
  TraceTape tape;
  Record name;
  name.kind = RecordKind::kName;
  const auto named = [&](std::uint64_t id, std::uint64_t string) {
    name.id = id;
    name.arg = string;
    tape.record(name);
  };
  tape.add_string("unused");
  tape.add_string("a");
  named(1, 2);
  tape.add_string("a");
  named(2, 2);
  named(3, 3);
  named(4, 0);
  tape.add_string("");
  named(5, 4);
  tape.add_string("last");
  const std::string text = to_text(tape);
  CHECK(text ==
        "# spwt text 1\n"
        "string \"unused\"\n"
        "0.000000000 name #1 \"a\"\n"
        "string \"a\"\n"
        "0.000000000 name #2 $2\n"
        "0.000000000 name #3 \"a\"\n"
        "0.000000000 name #4 \"\"\n"
        "string \"\"\n"
        "0.000000000 name #5 $4\n"
        "string \"last\"\n");
  TraceTape back;
  REQUIRE(from_text(text, &back).ok());
  CHECK(back == tape);
}

TEST_CASE("comments, blank lines, tabs, key order and line ends are free") {
  TraceTape tape;
  const auto info = from_text(
      "# spwt text 1\r\n"
      "\n"
      "  # a remark\n"
      "\t0.000000005   alloc\t#1  0x1000   flags=0x1,inferred device=2 stream=1  \r\n"
      "0.000000006 tag #1 layer=4 kind=activation",
      &tape);
  REQUIRE_MESSAGE(info.ok(), info.status().message());
  const std::vector<Record> records = tape.records();
  REQUIRE(records.size() == 2);
  CHECK(records[0].time_ns == 5);
  CHECK(records[0].arg == 4096);
  CHECK(records[0].flags == (1 | kRecordInferred));
  CHECK(records[0].device == 2);
  CHECK(records[0].stream == 1);
  CHECK(unpack_tag(records[1].arg).layer == 4);
}

TEST_CASE("a wrong line is named with its offset, number, and what was expected") {
  CHECK(error_of("0.000000000 step 1\n0.000000000 stop 1\n") ==
        "t.txt: offset 45: line 3: expected a kind of record, found \"stop 1\"");
  CHECK(
      error_of("0.5 step 1\n").find("expected a time as SECONDS.NNNNNNNNN, found \"0.5 step 1\"") !=
      std::string::npos);
  CHECK(error_of("18446744073.709551616 step 1\n").find("expected a time") != std::string::npos);
  CHECK(error_of("99999999999.000000000 step 1\n").find("expected a time") != std::string::npos);
  CHECK(error_of("0.000000000 step 18446744073709551616\n").find("expected a number") !=
        std::string::npos);
  CHECK(error_of("0.000000000 alloc 12 4\n").find("expected #NUMBER, found \"12 4\"") !=
        std::string::npos);
  CHECK(error_of("0.000000000 use #1 7\n").find("expected @NUMBER") != std::string::npos);
  CHECK(error_of("0.000000000 alloc #12\n").find("expected a number, found the end of the line") !=
        std::string::npos);
  CHECK(error_of("0.000000000 step 1 2\n").find("expected KEY=VALUE, found \"2\"") !=
        std::string::npos);
  CHECK(error_of("0.000000000 step 1 colour=2\n").find("expected a key of this kind") !=
        std::string::npos);
  CHECK(error_of("0.000000000 step 1 id=2\n").find("expected a key of this kind") !=
        std::string::npos);
  CHECK(error_of("0.000000000 step 1 device=65536\n").find("a value that fits it") !=
        std::string::npos);
  CHECK(error_of("0.000000000 step 1 device=1 device=1\n").find("each key at most once") !=
        std::string::npos);
  CHECK(error_of("0.000000000 tag #1 kind=banana\n").find("a value that fits it") !=
        std::string::npos);
  CHECK(error_of("0.000000000 tag #1 marks=\n").find("a value that fits it") != std::string::npos);
  CHECK(error_of("0.000000000 step 1 flags=0\n").find("a value that fits it") != std::string::npos);
  CHECK(error_of("0.000000000 name #1 $1\n").find("expected a string announced before") !=
        std::string::npos);
  CHECK(error_of("0.000000000 name #1 bare\n").find("expected a quoted string") !=
        std::string::npos);
  CHECK(error_of("0.000000000 name #1 \"open\n").find("expected a closing quote") !=
        std::string::npos);
  CHECK(error_of("0.000000000 name #1 \"a\\q\"\n").find("expected one of \\\"") !=
        std::string::npos);
  CHECK(error_of("0.000000000 name #1 \"\\xz0\"\n").find("two hexadecimal digits") !=
        std::string::npos);
  CHECK(error_of("0.000000000 name #1 \"\\").find("a closing quote") != std::string::npos);
  CHECK(error_of("0.000000000 name #1 \"a\"b\n").find("a blank behind a string") !=
        std::string::npos);
  CHECK(error_of("string \"a\" b\n").find("expected the end of the line") != std::string::npos);
  TraceTape tape;
  CHECK(from_text("# spwt text 2\n", &tape).status().message() ==
        "t.txt: offset 0: line 1: expected \"# spwt text 1\", found \"# spwt text 2\"");
}

TEST_CASE("any cut or flipped byte of a text is read or refused, never worse") {
  const std::string text = to_text(random_tape(4, 60));
  Random random(4);
  for (std::size_t size = 13; size < text.size(); ++size) {
    TraceTape tape;
    const auto info = from_text(text.substr(0, size), &tape);
    if (!info.ok()) CHECK(info.status().code() == Code::kBadInput);
    std::string damaged = text;
    damaged[size] = static_cast<char>(random.next());
    TraceTape other;
    const auto result = from_text(damaged, &other);
    if (!result.ok()) CHECK(result.status().code() == Code::kBadInput);
    CHECK(other.ids_are_dense());
  }
}

TEST_CASE("the text writer refuses what it could not write back") {
  StringSink out;
  SpwtTextWriter writer(out);
  Record record;
  SUBCASE("an unknown kind") { record.kind = static_cast<RecordKind>(200); }
  SUBCASE("an unknown string") {
    record.kind = RecordKind::kMark;
    record.stream = 1;
  }
  writer.record(record);
  CHECK(writer.finish().code() == Code::kInvalidArgument);
}

TEST_SUITE_END();

}  // namespace
}  // namespace spillway
