// SPDX-License-Identifier: Apache-2.0
// The packed trace: what goes in comes out; damage and cuts are found; recovery reads what is
// intact.
#include "integration/trace/atomic_file.hpp"
#include "integration/trace/byte_source.hpp"
#include "integration/trace/reader.hpp"
#include "integration/trace/spwt_format.hpp"
#include "integration/trace/spwt_layout.hpp"
#include "integration/trace/spwt_writer.hpp"
#include "tests/support/trace_tape.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace spillway {
namespace {

using test::random_tape;
using test::TraceTape;

std::string pack(const TraceTape& tape, const SpwtWriterOptions& options = {}) {
  StringSink out;
  SpwtWriter writer(out, options);
  tape.replay(writer);
  const Status status = writer.finish();
  REQUIRE_MESSAGE(status.ok(), status.message());
  CHECK(writer.written_bytes() == out.bytes().size());
  return out.bytes();
}

Result<TraceInfo> unpack(std::string_view bytes, TraceTape* tape, bool recover = false) {
  const auto source = memory_source(bytes, "t.spwt");
  ReadOptions options;
  options.recover = recover;
  return read_trace(*source, options, *tape);
}

SpwtWriterOptions small_chunks(std::size_t bytes = 64) {
  SpwtWriterOptions options;
  options.chunk_bytes = bytes;
  return options;
}

std::vector<std::size_t> chunk_offsets(const std::string& bytes) {
  std::vector<std::size_t> offsets;
  for (std::size_t at = bytes.find(kSpwtChunkMagic); at != std::string::npos;
       at = bytes.find(kSpwtChunkMagic, at + 1))
    offsets.push_back(at);
  return offsets;
}

/// A file of the given chunks, each with checksums that fit.
std::string file_of(const std::vector<std::pair<SpwtChunkHeader, std::string>>& chunks) {
  std::string bytes = store_spwt_file_header();
  for (auto [header, payload] : chunks) {
    header.payload_bytes = static_cast<std::uint32_t>(payload.size());
    if ((header.flags & kSpwtZstd) == 0) header.raw_bytes = header.payload_bytes;
    header.payload_crc32 = crc32_of(payload);
    bytes += store_spwt_chunk_header(header) + payload;
  }
  return bytes;
}

std::string error_of(const std::string& bytes) {
  TraceTape tape;
  const auto info = unpack(bytes, &tape);
  REQUIRE_FALSE(info.ok());
  CHECK(info.status().code() == Code::kBadInput);
  return info.status().message();
}

bool has_note(const TraceInfo& info, std::string_view text) {
  return std::any_of(info.notes.begin(), info.notes.end(), [&](const std::string& note) {
    return note.find(text) != std::string::npos;
  });
}

TEST_SUITE_BEGIN("property");

TEST_CASE("random traces come back exactly, whatever the chunk size and packing") {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    const TraceTape tape = random_tape(seed, seed * 13);
    SpwtWriterOptions options;
    constexpr std::array<std::size_t, 4> kSizes = {1, 100, 4096, 256 * 1024};
    options.chunk_bytes = kSizes[seed % kSizes.size()];
    options.zstd_level = seed % 3 == 0 ? 0 : 3;
    options.index = seed % 5 != 0;
    const std::string bytes = pack(tape, options);
    TraceTape back;
    const auto info = unpack(bytes, &back);
    REQUIRE_MESSAGE(info.ok(), info.status().message());
    CHECK(back == tape);
    CHECK(back.ids_are_dense());
    CHECK(info.value().format == "spwt");
    CHECK(info.value().event_count == tape.record_count());
    if (info.value().notes.size() == 1) CHECK(has_note(info.value(), "several devices"));
    CHECK(info.value().notes.size() <= 1);
    CHECK(pack(tape, options) == bytes);

    TraceTape recovered;
    const auto lenient = unpack(bytes, &recovered, true);
    REQUIRE(lenient.ok());
    CHECK(lenient.value().notes == info.value().notes);
    CHECK(recovered == tape);
  }
}

TEST_CASE("a packed trace that is cut at any byte is an error that names the file and an offset") {
  const TraceTape tape = random_tape(7, 60);
  const std::string bytes = pack(tape, small_chunks());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    TraceTape back;
    const auto info = unpack(std::string_view(bytes).substr(0, size), &back);
    if (info.ok() || info.status().code() != Code::kBadInput ||
        info.status().message().find("t.spwt: offset ") != 0 ||
        info.status().message().find("expected") == std::string::npos) {
      CAPTURE(size);
      CAPTURE(info.status().message());
      FAIL_CHECK("a cut file was read as whole, or the text is poor");
    }
  }
}

TEST_CASE("every flipped bit is found") {
  const TraceTape tape = random_tape(11, 120);
  const std::string bytes = pack(tape, small_chunks(520));  // packed and unpacked payloads
  REQUIRE(chunk_offsets(bytes).size() > 3);
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      std::string damaged = bytes;
      damaged[at] = static_cast<char>(static_cast<unsigned char>(damaged[at]) ^ (1u << bit));
      TraceTape back;
      if (unpack(damaged, &back).ok()) {
        CAPTURE(at);
        CAPTURE(bit);
        FAIL_CHECK("a damaged file was read as whole");
      }
      TraceTape recovered;
      if (at >= 4 && !unpack(damaged, &recovered, true).ok()) {
        CAPTURE(at);
        CAPTURE(bit);
        FAIL_CHECK("recovery gave up on one flipped bit");
      }
    }
  }
}

TEST_CASE("damage beyond the checksums never crashes, and is refused or decoded within bounds") {
  Random random(5);
  const std::string bytes = pack(random_tape(5, 200), small_chunks(300));
  const std::vector<std::size_t> offsets = chunk_offsets(bytes);
  for (int round = 0; round < 3000; ++round) {
    const std::size_t at = offsets[random.below(offsets.size() - 2)];
    SpwtChunkHeader header;
    REQUIRE(load_spwt_chunk_header(std::string_view(bytes).substr(at), &header));
    std::string payload = bytes.substr(at + kSpwtChunkHeaderBytes, header.payload_bytes);
    for (std::uint64_t flips = 1 + random.below(4); flips != 0; --flips)
      payload[random.below(payload.size())] = static_cast<char>(random.next());
    header.first_record = header.first_string = 0;
    TraceTape tape;
    TraceTape recovered;
    const std::string file = file_of({{header, payload}});
    CHECK_FALSE(unpack(file, &tape).ok());  // at the latest, the end marker is missing
    CHECK(unpack(file, &recovered, true).ok());
    CHECK(recovered.ids_are_dense());
  }
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("unit");

TEST_CASE("an empty trace is a header, an empty index and an end marker") {
  const std::string bytes = pack(TraceTape());
  CHECK(bytes.size() == 16 + 64 + 64 + 16);
  TraceTape back;
  const auto info = unpack(bytes, &back);
  REQUIRE(info.ok());
  CHECK(back.entries().empty());
}

TEST_CASE("records of unknown kinds are skipped by their length, and counted") {
  TraceTape tape = random_tape(3, 20);
  TraceTape with_unknown;
  std::uint64_t number = 0;
  for (const auto& entry : tape.entries()) {
    if (entry.is_string) {
      with_unknown.add_string(entry.text);
      continue;
    }
    with_unknown.record(entry.record);
    Record odd = entry.record;
    odd.kind = static_cast<RecordKind>(200 + number++ % 50);
    odd.arg = ~std::uint64_t{0};
    with_unknown.record(odd);
  }
  TraceTape back;
  const auto info = unpack(pack(with_unknown, small_chunks()), &back);
  REQUIRE_MESSAGE(info.ok(), info.status().message());
  CHECK(back == tape);
  CHECK(info.value().event_count == tape.record_count());
  CHECK(has_note(info.value(), "20 records of kinds"));
}

TEST_CASE("bytes that a later version adds to a record are skipped by their length") {
  // alloc, layout: next of kind, plain argument, extra bytes.
  const std::string payload("\x0a\xe8\x40\x03zzz\x0a\x48\x05", 10);
  SpwtChunkHeader header;
  header.record_count = 2;
  SpwtChunkHeader end;
  end.type = SpwtChunkType::kEnd;
  end.first_record = 2;
  std::string end_payload;
  append_le(&end_payload, std::uint64_t{0});
  append_le(&end_payload, std::uint64_t{1});
  TraceTape back;
  const auto info = unpack(file_of({{header, payload}, {end, end_payload}}), &back);
  REQUIRE_MESSAGE(info.ok(), info.status().message());
  const std::vector<Record> records = back.records();
  REQUIRE(records.size() == 2);
  CHECK(records[0].kind == RecordKind::kAlloc);
  CHECK(records[0].id == 1);
  CHECK(records[0].arg == 0x40);
  CHECK(records[1].id == 2);
  CHECK(records[1].arg == 0x40 - 3);
}

TEST_CASE("lengths that the file claims are checked before anything is allocated or read") {
  SpwtChunkHeader header;
  header.record_count = 1;
  SUBCASE("payload") {
    std::string bytes = store_spwt_file_header();
    header.payload_bytes = header.raw_bytes = 0xffffffffu;
    bytes += store_spwt_chunk_header(header);
    CHECK(error_of(bytes) ==
          "t.spwt: offset 16: expected a payload of at most 16777216 bytes, found 4294967295");
  }
  SUBCASE("unpacked payload") {
    header.flags = kSpwtZstd;
    header.raw_bytes = 1u << 31;
    CHECK(error_of(file_of({{header, "x"}})).find("at most 16777216 bytes") != std::string::npos);
  }
  SUBCASE("zstd frame that does not hold what the header says") {
    header.flags = kSpwtZstd;
    header.raw_bytes = 1u << 20;
    CHECK(error_of(file_of({{header, "not zstd"}})).find("expected a zstd payload") !=
          std::string::npos);
  }
  SUBCASE("string") {
    CHECK(error_of(file_of({{header, std::string("\0\xff\xff\xff\xff\x0f", 6)}}))
              .find("expected a string that fits the payload") != std::string::npos);
  }
  SUBCASE("number of more than 64 bits") {
    CHECK(
        error_of(file_of({{header,
                           "\x0a\x71" + std::string(9, '\xff') + "\x7f" + std::string(9, '\x01')}}))
            .find("expected a time of 64 bits") != std::string::npos);
  }
  SUBCASE("record that ends behind the payload") {
    CHECK(error_of(file_of({{header, "\x0a\x71\x80"}})).find("expected a record that fits") !=
          std::string::npos);
  }
  SUBCASE("extra bytes") {
    CHECK(error_of(file_of({{header, "\x0a\xc0\xff\x7f"}})).find("expected extra bytes that fit") !=
          std::string::npos);
  }
  SUBCASE("record that names a string never announced") {
    CHECK(error_of(file_of({{header, "\x01\x28"}})).find("names strings announced before") !=
          std::string::npos);
  }
  SUBCASE("record count") {
    CHECK(error_of(file_of({{header, ""}})).find("expected a chunk of 1 records, found 0") !=
          std::string::npos);
  }
}

TEST_CASE("versions, flags and trailing bytes that are not known are refused") {
  const std::string bytes = pack(random_tape(1, 5));
  CHECK(error_of(bytes + "x").find("nothing after the end marker") != std::string::npos);
  std::string newer = bytes;
  newer[4] = 2;
  std::string sum;
  append_le(&sum, crc32_of(std::string_view(newer).substr(0, 12)));
  newer.replace(12, 4, sum);
  CHECK(error_of(newer) == "t.spwt: offset 0: expected format version 1, found 2.0");
  SpwtChunkHeader header;
  header.version = 9;
  CHECK(error_of(file_of({{header, ""}})).find("expected chunk version 1, found 9") !=
        std::string::npos);
  header.version = 1;
  header.flags = 0x10;
  CHECK(error_of(file_of({{header, ""}})).find("no chunk flags beyond zstd") != std::string::npos);
}

TEST_CASE("recovery reads every intact chunk, marks lost strings, and says how much was lost") {
  TraceTape tape;
  for (std::uint64_t i = 0; i < 200; ++i) {
    Record record;
    record.kind = RecordKind::kName;
    record.id = i;
    record.arg = i % 2 == 0 ? tape.add_string("name " + std::to_string(i)) : tape.string_count();
    tape.record(record);
  }
  std::string bytes = pack(tape, small_chunks());
  const std::vector<std::size_t> offsets = chunk_offsets(bytes);
  SpwtChunkHeader lost;
  REQUIRE(load_spwt_chunk_header(std::string_view(bytes).substr(offsets[3]), &lost));
  bytes[offsets[3] + 70] = static_cast<char>(bytes[offsets[3] + 70] ^ 1);
  bytes.insert(offsets[6], "garbage");
  TraceTape back;
  const auto info = unpack(bytes, &back, true);
  REQUIRE(info.ok());
  CHECK(back.ids_are_dense());
  CHECK(back.record_count() == tape.record_count() - lost.record_count);
  CHECK(info.value().event_count == back.record_count());
  CHECK(has_note(info.value(), "lost " + std::to_string(lost.record_count) + " records"));
  // Every record that came through names the text it named before, or says that it was lost.
  const std::vector<std::string> before = tape.strings();
  const std::vector<std::string> after = back.strings();
  std::size_t lost_names = 0;
  for (const Record& record : back.records()) {
    const std::string& was = before[record.id / 2];
    const std::string& is = after[record.arg - 1];
    if (is == was) continue;
    ++lost_names;
    CHECK(is == "<lost string " + std::to_string(record.id / 2 + 1) + ">");
  }
  CHECK(lost_names <= 2);  // only the last string of the lost chunk is named after it
}

TEST_CASE(
    "recovery of a cut file reads the chunks before the cut and says that the end is missing") {
  const TraceTape tape = random_tape(21, 300);
  const std::string bytes = pack(tape, small_chunks(200));
  const std::vector<std::size_t> offsets = chunk_offsets(bytes);
  for (const std::size_t cut : {offsets[4], offsets[4] + 10, offsets[4] + 66}) {
    TraceTape back;
    const auto info = unpack(bytes.substr(0, cut), &back, true);
    REQUIRE(info.ok());
    CHECK(has_note(info.value(), "4 chunks"));
    CHECK(has_note(info.value(), "the end is missing"));
    SpwtChunkHeader next;
    REQUIRE(load_spwt_chunk_header(std::string_view(bytes).substr(offsets[4]), &next));
    CHECK(info.value().event_count == next.first_record);
  }
}

TEST_CASE("recovery tells the thread of a chunk whose beginning was lost") {
  TraceTape tape;
  for (std::uint64_t i = 0; i < 100; ++i) {
    Record record;
    record.kind = i % 50 == 0 ? RecordKind::kThread : RecordKind::kAlloc;
    record.id = i % 50 == 0 ? 7 + i / 50 : i;
    record.arg = i % 50 == 0 ? 0 : 4096;
    tape.record(record);
  }
  std::string bytes = pack(tape, small_chunks(30));
  bytes[chunk_offsets(bytes)[0] + 70] ^= 1;
  TraceTape back;
  REQUIRE(unpack(bytes, &back, true).ok());
  const std::vector<Record> records = back.records();
  REQUIRE_FALSE(records.empty());
  CHECK(records[0].kind == RecordKind::kThread);
  CHECK(records[0].id == 7);
  CHECK((records[0].flags & kRecordInferred) != 0);
}

TEST_CASE("the writer refuses what a reader would refuse, and stays failed") {
  StringSink out;
  SUBCASE("a string id out of order") {
    SpwtWriter writer(out);
    writer.string(StringId(2u), "x");
    CHECK(writer.finish().message() == "string 2: expected id 1");
  }
  SUBCASE("a string that was never announced") {
    SpwtWriter writer(out);
    Record record;
    record.kind = RecordKind::kName;
    record.arg = 1;
    writer.record(record);
    CHECK(writer.finish().code() == Code::kInvalidArgument);
  }
  SUBCASE("a string beyond 4 MiB; one of 4 MiB passes") {
    TraceTape tape;
    tape.add_string(std::string(kTraceStringBytesMax, 'x'));
    TraceTape back;
    REQUIRE(unpack(pack(tape), &back).ok());
    CHECK(back == tape);
    SpwtWriter writer(out);
    writer.string(StringId(1u), std::string(kTraceStringBytesMax + 1, 'x'));
    CHECK(writer.status().code() == Code::kInvalidArgument);
  }
  CHECK(out.bytes().empty());
}

TEST_CASE("the writer reports the error of its sink") {
  auto full = AtomicFile::create("/dev/full");
  REQUIRE(full.ok());
  SpwtWriterOptions options;
  options.zstd_level = 0;
  SpwtWriter writer(full.value(), options);
  random_tape(1, 100000).replay(writer);
  CHECK(writer.finish().message() == "/dev/full: cannot write: No space left on device");
}

TEST_CASE("the index finds any chunk, and a chunk can be read alone") {
  std::string folder = (std::filesystem::temp_directory_path() / "spillway-spwt-XXXXXX").string();
  REQUIRE(::mkdtemp(folder.data()) != nullptr);
  const std::string path = folder + "/t.spwt";
  TraceTape tape;
  for (std::uint64_t i = 0; i < 500; ++i) {
    Record record;
    record.time_ns = 1000 + i;
    record.kind = i % 100 == 0 ? RecordKind::kStep : RecordKind::kAlloc;
    record.id = i % 100 == 0 ? i / 100 : i;
    record.arg = i % 100 == 0 ? 0 : i * i;
    tape.record(record);
  }
  const std::string bytes = pack(tape, small_chunks(100));
  REQUIRE(write_file(path, bytes).ok());
  const auto index = load_spwt_index(path);
  REQUIRE_MESSAGE(index.ok(), index.status().message());
  const std::vector<Record> all = tape.records();
  std::uint64_t next = 0;
  for (const SpwtIndexEntry& entry : index.value()) {
    CHECK(entry.first_record == next);
    CHECK(entry.time_min_ns == 1000 + next);
    next += entry.record_count;
    CHECK(entry.time_max_ns == 1000 + next - 1);
    CHECK(entry.first_step == entry.first_record / 100);
    CHECK(entry.last_step == (next - 1) / 100);
    TraceTape part;
    REQUIRE(read_spwt_chunk(path, entry, part).ok());
    CHECK(part.records() ==
          std::vector<Record>(all.begin() + static_cast<std::ptrdiff_t>(entry.first_record),
                              all.begin() + static_cast<std::ptrdiff_t>(next)));
  }
  CHECK(next == 500);

  REQUIRE(write_file(path, bytes.substr(0, bytes.size() - 1)).ok());
  CHECK(load_spwt_index(path).status().code() == Code::kNotFound);
  SpwtIndexEntry wrong = index.value()[0];
  wrong.offset += 1;
  TraceTape part;
  CHECK(read_spwt_chunk(path, wrong, part).status().code() == Code::kBadInput);
  wrong.offset = ~std::uint64_t{0};
  CHECK(read_spwt_chunk(path, wrong, part).status().code() == Code::kBadInput);
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
}

TEST_CASE("one device of several can be chosen") {
  TraceTape tape;
  for (std::uint64_t i = 0; i < 10; ++i) {
    Record record;
    record.kind = i == 0 ? RecordKind::kStep : RecordKind::kAlloc;
    record.device = static_cast<std::uint16_t>(i % 2);
    record.id = i;
    tape.record(record);
  }
  const std::string bytes = pack(tape);
  const auto source = memory_source(bytes);
  ReadOptions options;
  options.device = 1;
  TraceTape back;
  const auto info = read_trace(*source, options, back);
  REQUIRE(info.ok());
  CHECK(back.record_count() == 6);
  CHECK(info.value().event_count == 6);
  CHECK(has_note(info.value(), "4 records of other devices"));

  const auto again = memory_source(bytes);
  TraceTape all;
  const auto both = read_trace(*again, {}, all);
  REQUIRE(both.ok());
  CHECK(all == tape);
  CHECK(has_note(both.value(), "4 on device 0, 5 on device 1; choose one"));
}

TEST_SUITE_END();

}  // namespace
}  // namespace spillway
