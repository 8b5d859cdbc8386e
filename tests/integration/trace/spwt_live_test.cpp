// SPDX-License-Identifier: Apache-2.0
// The live log: threads merge in order, a kill loses nothing that was committed, a full log stops
// quietly, damage is found.
#include "integration/trace/byte_source.hpp"
#include "integration/trace/emitter.hpp"
#include "integration/trace/reader.hpp"
#include "integration/trace/spwt_live_layout.hpp"
#include "integration/trace/spwt_live_writer.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/trace_tape.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <sys/mman.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace spillway {
namespace {

using test::random_tape;
using test::TraceTape;

LiveLogOptions small_log() {
  LiveLogOptions options;
  options.chunk_bytes = 64 * 1024;
  options.chunks_per_step = 2;
  return options;
}

constexpr std::uint64_t kSlotsPerSmallChunk = (64 * 1024 - 64) / 32;

std::string content(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

Result<TraceInfo> read_bytes(std::string_view bytes, TraceTape* tape, bool recover = false) {
  const auto source = memory_source(bytes, "t.live");
  ReadOptions options;
  options.recover = recover;
  return read_trace(*source, options, *tape);
}

bool has_note(const TraceInfo& info, std::string_view text) {
  return std::any_of(info.notes.begin(), info.notes.end(), [&](const std::string& note) {
    return note.find(text) != std::string::npos;
  });
}

Record counted(std::uint64_t number, std::uint64_t time_ns) {
  Record record;
  record.kind = RecordKind::kAlloc;
  record.time_ns = time_ns;
  record.id = number;
  record.arg = number * 0x9e3779b97f4a7c15ull;
  return record;
}

/// The log adds kThread records of its own; a tape that has none is comparable.
TraceTape without_threads(const TraceTape& tape) {
  TraceTape out;
  for (const TraceTape::Entry& entry : tape.entries()) {
    if (entry.is_string) {
      out.add_string(entry.text);
    } else if (entry.record.kind != RecordKind::kThread) {
      out.record(entry.record);
    }
  }
  return out;
}

/// A log of one thread with `count` records over several chunks, closed.
std::string one_thread_log(std::uint64_t count) {
  const test::TempDir folder;
  const std::string path = folder.path() / "log";
  auto log = LiveLog::create(path, small_log());
  REQUIRE(log.ok());
  {
    const auto writer = log.value()->writer(0);
    for (std::uint64_t i = 0; i < count; ++i) writer->append(counted(i, i));
  }
  REQUIRE(log.value()->close().ok());
  return content(path);
}

TEST_SUITE_BEGIN("property");

TEST_CASE("one thread's records and texts come back in order, over chunk borders") {
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    CAPTURE(seed);
    const test::TempDir folder;
    const std::string path = folder.path() / "log";
    const TraceTape tape = without_threads(random_tape(seed, seed * 700));
    auto log = LiveLog::create(path, small_log());
    REQUIRE(log.ok());
    {
      const auto writer = log.value()->writer(0);
      tape.replay(*writer);
    }
    REQUIRE(log.value()->close().ok());
    TraceTape back;
    const auto info = read_trace(path, {}, back);
    REQUIRE_MESSAGE(info.ok(), info.status().message());
    CHECK(info.value().format == "spwt-live");
    CHECK(back.ids_are_dense());
    // String ids differ (each text is announced once), what they say does not.
    const std::vector<std::string> texts_before = tape.strings();
    const std::vector<std::string> texts_after = back.strings();
    const auto text = [](const std::vector<std::string>& texts, std::uint64_t id) {
      return id == 0 ? std::string() : texts[id - 1];
    };
    const std::vector<Record> before = tape.records();
    const std::vector<Record> after = back.records();
    REQUIRE(after.size() == before.size());
    for (std::size_t i = 0; i < before.size(); ++i) {
      Record was = before[i];
      const Record& is = after[i];
      const StringFields names = string_fields(was.kind);
      if (names.id) {
        CHECK(text(texts_after, is.id) == text(texts_before, was.id));
        was.id = is.id;
      }
      if (names.arg) {
        CHECK(text(texts_after, is.arg) == text(texts_before, was.arg));
        was.arg = is.arg;
      }
      if (names.arg_low) {
        CHECK(text(texts_after, is.arg & 0xffffffff) == text(texts_before, was.arg & 0xffffffff));
        was.arg = (was.arg >> 32 << 32) | (is.arg & 0xffffffff);
      }
      if (names.stream) {
        CHECK(text(texts_after, is.stream) == text(texts_before, was.stream));
        was.stream = is.stream;
      }
      CHECK(is == was);
    }
  }
}

TEST_CASE("a log that is cut anywhere is refused, and recovery reads what is there") {
  const std::uint64_t count = kSlotsPerSmallChunk * 2 + 100;
  const std::string bytes = one_thread_log(count);
  CHECK(bytes.size() == 4 * 65536);
  const std::size_t used = 3 * 65536 + 64 + 100 * 32;
  std::vector<std::size_t> sizes;
  for (std::size_t size = 0; size < 100; ++size) sizes.push_back(size);
  for (std::size_t size = 5000; size < bytes.size(); size += 9973) sizes.push_back(size);
  for (const std::size_t border :
       {std::size_t{65536}, std::size_t{2 * 65536}, used, bytes.size() - 3})
    for (std::size_t size = border - 2; size <= border + 2; ++size) sizes.push_back(size);
  for (const std::size_t size : sizes) {
    TraceTape tape;
    const auto info = read_bytes(std::string_view(bytes).substr(0, size), &tape);
    if (info.ok() || info.status().code() != Code::kBadInput) {
      CAPTURE(size);
      FAIL_CHECK("a cut log was read as whole");
    }
    TraceTape recovered;
    const auto lenient = read_bytes(std::string_view(bytes).substr(0, size), &recovered, true);
    if (size < 64) continue;
    if (!lenient.ok() || (size >= used && recovered.record_count() != count)) {
      CAPTURE(size);
      FAIL_CHECK("recovery lost records that are there");
    }
  }
}

TEST_CASE("flipped bits in the headers are found; records keep their number") {
  const std::uint64_t count = kSlotsPerSmallChunk + 5;
  const std::string bytes = one_thread_log(count);
  const auto flipped = [&](std::size_t at, unsigned bit) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(static_cast<unsigned char>(damaged[at]) ^ (1u << bit));
    return damaged;
  };
  for (std::size_t at = 0; at < 32; ++at) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      TraceTape tape;
      if (read_bytes(flipped(at, bit), &tape).ok()) {
        CAPTURE(at);
        FAIL_CHECK("a damaged file header was believed");
      }
    }
  }
  for (std::size_t at = 65536; at < 65536 + 32; ++at) {
    TraceTape tape;
    CHECK_FALSE(read_bytes(flipped(at, at % 8), &tape).ok());
    TraceTape recovered;
    const auto info = read_bytes(flipped(at, at % 8), &recovered, true);
    REQUIRE(info.ok());
    CHECK(recovered.record_count() == 5);
    CHECK(has_note(info.value(), "damaged"));
  }
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("unit");

TEST_CASE(
    "four threads merge by time, each in its own order, with the thread told at each change") {
  const test::TempDir folder;
  const std::string path = folder.path() / "log";
  auto log = LiveLog::create(path, small_log());
  REQUIRE(log.ok());
  constexpr std::uint64_t kThreads = 4;
  constexpr std::uint64_t kRecords = 20000;
  std::atomic<std::uint64_t> clock{0};
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const auto writer = log.value()->writer(100 + t);
      TraceEmitter emitter(*writer);
      emitter.record(
          RecordKind::kThread, 100 + t, emitter.string("worker " + std::to_string(t)).value);
      for (std::uint64_t i = 0; i < kRecords; ++i) {
        emitter.set_time_ns(clock.fetch_add(1) + 1);
        if (i % 1000 == 0) {
          emitter.mark("domain", "mark " + std::to_string(i));
        } else {
          emitter.alloc(t * kRecords + i, i);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  REQUIRE(log.value()->close().ok());
  TraceTape back;
  const auto info = read_trace(path, {}, back);
  REQUIRE_MESSAGE(info.ok(), info.status().message());
  CHECK(info.value().notes.empty());
  CHECK(back.ids_are_dense());

  const std::vector<std::string> texts = back.strings();
  std::map<std::uint64_t, std::uint64_t> next;  // thread -> records seen
  std::uint64_t thread = 0;
  std::map<std::uint64_t, std::uint64_t> last_time_ns;
  std::uint64_t wrong = 0;
  for (const Record& record : back.records()) {
    if (record.kind == RecordKind::kThread) {
      thread = record.id;
      if (texts[record.arg - 1] != "worker " + std::to_string(thread - 100)) ++wrong;
      continue;
    }
    const std::uint64_t i = next[thread]++;
    if (record.time_ns <= last_time_ns[thread]) ++wrong;
    last_time_ns[thread] = record.time_ns;
    if (i % 1000 == 0) {
      if (record.kind != RecordKind::kMark ||
          texts[record.arg - 1] != "mark " + std::to_string(i) ||
          texts[record.stream - 1] != "domain")
        ++wrong;
    } else if (record.id != (thread - 100) * kRecords + i || record.arg != i) {
      ++wrong;
    }
  }
  CHECK(wrong == 0);
  CHECK(next.size() == kThreads);
  for (const auto& [number, count] : next) CHECK(count == kRecords);
}

TEST_CASE("threads are merged by time, and ties keep the thread that came first in front") {
  const test::TempDir folder;
  const std::string path = folder.path() / "log";
  auto log = LiveLog::create(path, small_log());
  REQUIRE(log.ok());
  constexpr std::uint64_t kRecords = 40000;
  {
    std::vector<std::unique_ptr<LiveLogWriter>> writers;
    for (std::uint64_t t = 0; t < 3; ++t) writers.push_back(log.value()->writer(t));
    // Thread 2 is quiet for long, thread 1 writes in bursts; every time is taken twice.
    for (std::uint64_t i = 0; i < kRecords; ++i) {
      const std::uint64_t t = i % 10000 < 2 ? 2 : i / 500 % 2;
      writers[t]->append(counted(i, i / 2));
    }
  }
  REQUIRE(log.value()->close().ok());
  TraceTape back;
  const auto info = read_trace(path, {}, back);
  REQUIRE_MESSAGE(info.ok(), info.status().message());
  std::uint64_t thread = 0;
  std::uint64_t count = 0;
  std::uint64_t wrong = 0;
  for (const Record& record : back.records()) {
    if (record.kind == RecordKind::kThread) {
      if (record.id == thread) ++wrong;
      thread = record.id;
      continue;
    }
    const std::uint64_t i = count++;
    if (record != counted(i, i / 2) || thread != (i % 10000 < 2 ? 2 : i / 500 % 2)) ++wrong;
  }
  CHECK(wrong == 0);
  CHECK(count == kRecords);
  CHECK(info.value().event_count == back.record_count());
}

TEST_CASE("what was committed before a kill is read completely") {
  const test::TempDir folder;
  const std::string path = folder.path() / "log";
  void* page = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(page != MAP_FAILED);
  auto* committed = new (page) std::atomic<std::uint64_t>(0);
  constexpr std::uint64_t kEnough = 200000;
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    auto log = LiveLog::create(path, small_log());
    if (!log.ok()) ::_exit(1);
    const auto writer = log.value()->writer(0);
    writer->string(StringId(1u), "the only name");
    for (std::uint64_t i = 0;; ++i) {
      writer->append(counted(i, i * 10));
      committed->store(i + 1, std::memory_order_release);
    }
  }
  while (committed->load(std::memory_order_acquire) < kEnough) {
    int status = 0;
    REQUIRE(::waitpid(child, &status, WNOHANG) == 0);
    std::this_thread::yield();
  }
  REQUIRE(::kill(child, SIGKILL) == 0);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status));
  const std::uint64_t known = committed->load(std::memory_order_acquire);
  ::munmap(page, 4096);

  TraceTape back;
  const auto info = read_trace(path, {}, back);
  REQUIRE_MESSAGE(info.ok(), info.status().message());
  CHECK(has_note(info.value(), "not closed"));
  CHECK(back.strings() == std::vector<std::string>{"the only name"});
  const std::vector<Record> records = back.records();
  // The kill may fall between the commit and the child's own count.
  CHECK(records.size() >= known);
  CHECK(records.size() <= known + 1);
  std::uint64_t wrong = 0;
  for (std::uint64_t i = 0; i < records.size(); ++i)
    if (records[i] != counted(i, i * 10)) ++wrong;
  CHECK(wrong == 0);
}

TEST_CASE("a log that still is being written can be read up to what is committed") {
  const test::TempDir folder;
  const std::string path = folder.path() / "log";
  auto log = LiveLog::create(path, small_log());
  REQUIRE(log.ok());
  const auto writer = log.value()->writer(0);
  for (std::uint64_t i = 0; i < 10; ++i) writer->append(counted(i, i));
  TraceTape back;
  const auto info = read_trace(path, {}, back);
  REQUIRE_MESSAGE(info.ok(), info.status().message());
  CHECK(back.record_count() == 10);
  CHECK(has_note(info.value(), "not closed"));
}

TEST_CASE("a full log stops recording, keeps its size, and says how much is missing") {
  const test::TempDir folder;
  const std::string path = folder.path() / "log";
  LiveLogOptions options = small_log();
  options.bytes_max = 4 * 65536;  // header and three chunks
  auto log = LiveLog::create(path, options);
  REQUIRE(log.ok());
  {
    const auto writer = log.value()->writer(0);
    for (std::uint64_t i = 0; i < kSlotsPerSmallChunk * 3 + 7; ++i) writer->append(counted(i, i));
    CHECK(log.value()->dropped_count() == 7);
    const auto late = log.value()->writer(1);
    late->string(StringId(1u), "too late");
  }
  REQUIRE(log.value()->close().ok());
  CHECK(std::filesystem::file_size(path) == 4 * 65536);
  TraceTape back;
  const auto info = read_trace(path, {}, back);
  REQUIRE(info.ok());
  CHECK(back.record_count() == kSlotsPerSmallChunk * 3);
  CHECK(has_note(info.value(), "8 records found no room"));
}

TEST_CASE("long texts are cut at 32 KiB and the cut is noted") {
  const test::TempDir folder;
  const std::string path = folder.path() / "log";
  auto log = LiveLog::create(path, small_log());
  REQUIRE(log.ok());
  {
    const auto writer = log.value()->writer(0);
    for (std::uint32_t i = 0; i < 5; ++i) {
      const std::string text(32 * 1024 + (i == 4 ? 1 : 0), static_cast<char>('a' + i));
      writer->string(StringId(i + 1), text);
      Record record = counted(i, i);
      record.kind = RecordKind::kName;
      record.arg = i + 1;
      writer->append(record);
    }
  }
  REQUIRE(log.value()->close().ok());
  TraceTape back;
  const auto info = read_trace(path, {}, back);
  REQUIRE_MESSAGE(info.ok(), info.status().message());
  const std::vector<std::string> texts = back.strings();
  REQUIRE(texts.size() == 5);
  for (std::size_t i = 0; i < 5; ++i)
    CHECK(texts[i] == std::string(32 * 1024, static_cast<char>('a' + i)));
  CHECK(has_note(info.value(), "1 strings were longer"));
}

TEST_CASE("sizes and names in the slots are checked against what is there") {
  LiveFileHeader file;
  file.header_bytes = 64;
  file.chunk_bytes = 64 + 32 * 4;
  file.chunk_count = 1;
  file.closed = 1;
  LiveChunkHeader chunk;
  chunk.committed = 1;
  std::array<Record, 4> slots{};
  const auto error = [&] {
    const std::string bytes =
        store_live_file_header(file) + store_live_chunk_header(chunk) +
        std::string(reinterpret_cast<const char*>(slots.data()), sizeof(slots));
    TraceTape tape;
    TraceTape recovered;
    CHECK(read_bytes(bytes, &recovered, true).ok());
    return read_bytes(bytes, &tape).status().message();
  };
  slots[0].kind = static_cast<RecordKind>(kLiveStringKind);
  slots[0].id = 1;
  SUBCASE("a string longer than the committed slots") {
    slots[0].arg = 33;
    CHECK(error() ==
          "t.live: offset 64: slot 0 of the chunk: expected a string that fits the committed "
          "slots, found one of 33 bytes");
  }
  SUBCASE("a string of enormous length") {
    slots[0].arg = ~std::uint64_t{0};
    CHECK(error().find("expected a string that fits") != std::string::npos);
  }
  SUBCASE("a string out of order") {
    slots[0].id = 7;
    CHECK(error().find("expected string 1, found string 7") != std::string::npos);
  }
  SUBCASE("a record that names no string") {
    slots[0].kind = RecordKind::kName;
    slots[0].arg = 1;
    CHECK(error().find("names strings announced before") != std::string::npos);
  }
  SUBCASE("more committed slots than fit") {
    chunk.committed = 5;
    CHECK(error().find("expected at most 4 committed slots, found 5") != std::string::npos);
  }
  SUBCASE("a chunk out of sequence") {
    chunk.sequence = 3;
    CHECK(error().find("expected chunk 0 of thread 0, found chunk 3") != std::string::npos);
  }
  SUBCASE("a closed log with bytes behind it") {
    chunk.committed = 0;
    file.chunk_count = 0;
    CHECK(error().find("expected the end of a closed log") != std::string::npos);
  }
}

TEST_CASE("a log is not created where it cannot be, and odd sizes are refused") {
  const test::TempDir folder;
  CHECK(LiveLog::create(folder.path() / "no" / "log").status().code() == Code::kIo);
  CHECK(LiveLog::create(folder.path()).status().code() == Code::kIo);
  LiveLogOptions options;
  options.chunk_bytes = 1000;
  CHECK(LiveLog::create(folder.path() / "log", options).status().code() == Code::kInvalidArgument);
  options.chunk_bytes = 1u << 20;
  options.bytes_max = 1u << 20;
  CHECK(LiveLog::create(folder.path() / "log", options).status().code() == Code::kInvalidArgument);
}

TEST_SUITE_END();

}  // namespace
}  // namespace spillway
