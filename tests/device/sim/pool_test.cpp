// SPDX-License-Identifier: Apache-2.0
// Stream-ordered allocation: who may use a block when, which block comes next, what a pool keeps.
#include "tests/support/sim_lab.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace spillway::test {
namespace {

using sim::Mode;
using sim::ReportKind;
using Body = std::function<void(Lab&)>;
using Attribute = cu::MemPoolAttribute;

/// Every schedule that a program is run under here.
std::vector<sim::Options> schedules() {
  std::vector<sim::Options> all = {
      lab_options(Mode::kEager), lab_options(Mode::kLazy), lab_options(Mode::kTimed)};
  for (std::uint64_t seed = 0; seed < 50; ++seed) all.push_back(lab_options(Mode::kRandom, seed));
  for (std::uint64_t seed = 0; seed < 20; ++seed) all.push_back(lab_options(Mode::kPct, seed));
  return all;
}

/// One machine for each test case: its fault handler must lie over the one that doctest installs at
/// the beginning of every case.
class Bench {
 public:
  Bench() {
    auto created = sim::Simulator::create(lab_options());
    REQUIRE(created.ok());
    the_machine = std::move(created).value();
  }
  ~Bench() { the_machine.reset(); }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  static sim::Simulator& machine() { return *the_machine; }

 private:
  static inline std::unique_ptr<sim::Simulator> the_machine;
};
sim::Simulator& machine() { return Bench::machine(); }

void run(const sim::Options& options, const Body& body) {
  REQUIRE(machine().reset(options).ok());
  machine().run([&] {
    Lab lab(machine());
    body(lab);
  });
}

void everywhere(const Body& body, const std::function<void(const sim::Simulator&)>& check) {
  for (const sim::Options& options : schedules()) {
    CAPTURE(std::string(sim::name_of(options.mode)));
    CAPTURE(options.seed);
    run(options, body);
    CAPTURE(machine().report_text());
    check(machine());
  }
}
void is_clean(const Body& body) {
  everywhere(body, [](const sim::Simulator& s) { CHECK(s.reports().empty()); });
}
void is_found(ReportKind kind, const Body& body) {
  everywhere(body, [kind](const sim::Simulator& s) { CHECK(s.has_report(kind)); });
}

cu::DevicePtr alloc(Lab& lab, std::size_t bytes, cu::Stream stream) {
  cu::DevicePtr pointer = 0;
  lab.note(lab.cu.cuMemAllocAsync(&pointer, bytes, stream));
  return pointer;
}
void release(Lab& lab, cu::DevicePtr pointer, cu::Stream stream) {
  lab.note(lab.cu.cuMemFreeAsync(pointer, stream));
}
std::uint64_t bytes_of(Lab& lab, cu::MemoryPool pool, Attribute attribute) {
  std::uint64_t bytes = 0;
  lab.note(lab.cu.cuMemPoolGetAttribute(pool, attribute, &bytes));
  return bytes;
}
void set_bytes(Lab& lab, cu::MemoryPool pool, Attribute attribute, std::uint64_t bytes) {
  lab.note(lab.cu.cuMemPoolSetAttribute(pool, attribute, &bytes));
}
void set_flag(Lab& lab, cu::MemoryPool pool, Attribute attribute, int on) {
  lab.note(lab.cu.cuMemPoolSetAttribute(pool, attribute, &on));
}
cu::MemoryPool default_pool(Lab& lab) {
  cu::MemoryPool pool = nullptr;
  lab.note(lab.cu.cuDeviceGetDefaultMemPool(&pool, 0));
  return pool;
}
cu::MemoryPool make_pool(Lab& lab, std::size_t bytes_max = 0) {
  cu::MemPoolProps props;
  props.alloc_type = cu::AllocationType::kPinned;
  props.location = {cu::LocationType::kDevice, 0};
  props.max_size = bytes_max;
  cu::MemoryPool pool = nullptr;
  lab.note(lab.cu.cuMemPoolCreate(&pool, &props));
  return pool;
}

TEST_CASE_FIXTURE(Bench, "a stream-ordered block that is used on its stream only is in order") {
  is_clean([](Lab& lab) {
    const cu::Stream s = lab.stream();
    std::uint8_t* host = lab.pinned(4096);
    for (int round = 0; round < 3; ++round) {
      const cu::DevicePtr p = alloc(lab, 4096, s);
      lab.fill(s, p, 7, 4096);
      lab.d2h(s, host, p, 4096);
      release(lab, p, s);
    }
    lab.sync(s);
    CHECK(host[0] == 7);
    CHECK(host[4095] == 7);
    CHECK(lab.failure == cu::Result::kSuccess);
  });
}

TEST_CASE_FIXTURE(Bench, "use on another stream without an edge from the allocation is found") {
  is_found(ReportKind::kLifetime, [](Lab& lab) {
    const cu::Stream a = lab.stream();
    const cu::Stream b = lab.stream();
    const cu::DevicePtr p = alloc(lab, 4096, a);
    lab.fill(b, p, 1, 4096);
    lab.order(b, a);
    release(lab, p, a);
    lab.sync(a);
  });
}

TEST_CASE_FIXTURE(Bench, "use on another stream with edges there and back is in order") {
  is_clean([](Lab& lab) {
    const cu::Stream a = lab.stream();
    const cu::Stream b = lab.stream();
    const cu::DevicePtr p = alloc(lab, 4096, a);
    lab.order(a, b);
    lab.fill(b, p, 1, 4096);
    lab.order(b, a);
    release(lab, p, a);
  });
}

TEST_CASE_FIXTURE(Bench, "a free that does not wait for work on another stream is found") {
  is_found(ReportKind::kLifetime, [](Lab& lab) {
    const cu::Stream a = lab.stream();
    const cu::Stream b = lab.stream();
    const cu::DevicePtr p = alloc(lab, 4096, a);
    lab.order(a, b);
    lab.fill(b, p, 1, 4096);
    release(lab, p, a);
  });
}

TEST_CASE_FIXTURE(Bench,
                  "work that is enqueued after the free is a use after free, on any stream") {
  for (const bool same : {true, false}) {
    is_found(ReportKind::kUseAfterFree, [same](Lab& lab) {
      const cu::Stream a = lab.stream();
      const cu::Stream b = lab.stream();
      const cu::DevicePtr p = alloc(lab, 4096, a);
      release(lab, p, a);
      lab.order(a, b);
      lab.fill(same ? a : b, p, 1, 4096);
    });
  }
}

TEST_CASE_FIXTURE(Bench, "late work on a block that another stream has by now is found") {
  is_found(ReportKind::kLifetime, [](Lab& lab) {
    const cu::Stream a = lab.stream();
    const cu::Stream b = lab.stream();
    const cu::DevicePtr p = alloc(lab, 4096, a);
    lab.fill(a, p, 1, 4096);
    release(lab, p, a);
    set_bytes(lab, default_pool(lab), Attribute::kReleaseThreshold, ~0ull);
    lab.sync(a);
    const cu::DevicePtr q = alloc(lab, 4096, b);
    CHECK(q == p);
    lab.fill(a, p, 2, 4096);
    release(lab, q, b);
  });
}

TEST_CASE_FIXTURE(Bench,
                  "a freed block goes to the next allocation of another stream, after the free") {
  for (const sim::Options& options : schedules()) {
    if (options.mode == Mode::kTimed) continue;  // inserts dependencies only when memory is short
    CAPTURE(options.seed);
    run(options, [](Lab& lab) {
      const cu::Stream a = lab.stream();
      const cu::Stream b = lab.stream();
      std::uint8_t* host = lab.pinned(4096);
      const cu::DevicePtr p = alloc(lab, 4096, a);
      lab.fill(a, p, 1, 4096);
      release(lab, p, a);
      const cu::DevicePtr q = alloc(lab, 4096, b);
      CHECK(q == p);
      lab.fill(b, q, 2, 4096);
      lab.d2h(b, host, q, 4096);
      lab.sync(b);
      CHECK(host[0] == 2);
      CHECK(host[4095] == 2);
      release(lab, q, b);
    });
    CHECK(machine().report_text() == "");
  }
}

TEST_CASE_FIXTURE(Bench, "the order that reuse brings protects no other memory") {
  is_found(ReportKind::kRace, [](Lab& lab) {
    const cu::Stream a = lab.stream();
    const cu::Stream b = lab.stream();
    const cu::DevicePtr shared = lab.device(4096);
    const cu::DevicePtr p = alloc(lab, 4096, a);
    lab.fill(a, shared, 1, 4096);
    release(lab, p, a);
    const cu::DevicePtr q = alloc(lab, 4096, b);
    lab.fill(b, shared, 2, 4096);
    release(lab, q, b);
  });
}

TEST_CASE_FIXTURE(Bench, "without immediate reuse an allocation gets fresh memory") {
  sim::Options options = lab_options(Mode::kRandom, 3);
  options.semantics.switch_off(sim::Semantic::kImmediateReuse);
  run(options, [](Lab& lab) {
    const cu::Stream s = lab.stream();
    const cu::DevicePtr p = alloc(lab, 4096, s);
    release(lab, p, s);
    const cu::DevicePtr q = alloc(lab, 4096, s);
    CHECK(q != p);
    release(lab, q, s);
  });
  CHECK(machine().report_text() == "");
}

TEST_CASE_FIXTURE(
    Bench, "with every reuse policy off only the freeing stream, or who waited, gets the block") {
  is_clean([](Lab& lab) {
    const cu::Stream a = lab.stream();
    const cu::Stream b = lab.stream();
    const cu::MemoryPool pool = default_pool(lab);
    set_bytes(lab, pool, Attribute::kReleaseThreshold, ~0ull);
    set_flag(lab, pool, Attribute::kReuseFollowEventDependencies, 0);
    set_flag(lab, pool, Attribute::kReuseAllowOpportunistic, 0);
    set_flag(lab, pool, Attribute::kReuseAllowInternalDependencies, 0);
    const cu::DevicePtr p = alloc(lab, 4096, a);
    release(lab, p, a);
    lab.order(a, b);
    const cu::DevicePtr other = alloc(lab, 4096, b);
    CHECK(other != p);
    const cu::DevicePtr same = alloc(lab, 4096, a);
    CHECK(same == p);
    release(lab, same, a);
    lab.sync(a);
    const cu::DevicePtr waited = alloc(lab, 4096, b);
    CHECK(waited == p);
    release(lab, waited, b);
    release(lab, other, b);
  });
}

TEST_CASE_FIXTURE(
    Bench, "with event dependencies only, an event between the streams makes a block reusable") {
  for (const bool ordered : {true, false}) {
    is_clean([ordered](Lab& lab) {
      const cu::Stream a = lab.stream();
      const cu::Stream b = lab.stream();
      const cu::MemoryPool pool = default_pool(lab);
      set_flag(lab, pool, Attribute::kReuseAllowOpportunistic, 0);
      set_flag(lab, pool, Attribute::kReuseAllowInternalDependencies, 0);
      const cu::DevicePtr p = alloc(lab, 4096, a);
      release(lab, p, a);
      if (ordered) lab.order(a, b);
      const cu::DevicePtr q = alloc(lab, 4096, b);
      CHECK((q == p) == ordered);
      release(lab, q, b);
    });
  }
}

TEST_CASE_FIXTURE(Bench, "what is cached goes back at a synchronisation, down to the threshold") {
  is_clean([](Lab& lab) {
    const cu::Stream s = lab.stream();
    const cu::MemoryPool pool = default_pool(lab);
    std::size_t before = 0, total = 0, after = 0;
    lab.note(lab.cu.cuMemGetInfo(&before, &total));
    const cu::DevicePtr p = alloc(lab, 8192, s);
    const cu::DevicePtr q = alloc(lab, 4096, s);
    CHECK(bytes_of(lab, pool, Attribute::kReservedMemCurrent) == 12288);
    CHECK(bytes_of(lab, pool, Attribute::kUsedMemCurrent) == 12288);
    release(lab, p, s);
    CHECK(bytes_of(lab, pool, Attribute::kUsedMemCurrent) == 4096);
    CHECK(bytes_of(lab, pool, Attribute::kReservedMemCurrent) == 12288);
    set_bytes(lab, pool, Attribute::kReleaseThreshold, 12288);
    lab.sync(s);
    CHECK(bytes_of(lab, pool, Attribute::kReservedMemCurrent) == 12288);
    set_bytes(lab, pool, Attribute::kReleaseThreshold, 0);
    lab.sync(s);
    CHECK(bytes_of(lab, pool, Attribute::kReservedMemCurrent) == 4096);
    release(lab, q, s);
    const cu::Event e = lab.event();
    lab.record(e, s);
    lab.sync(e);
    CHECK(bytes_of(lab, pool, Attribute::kReservedMemCurrent) == 0);
    lab.note(lab.cu.cuMemGetInfo(&after, &total));
    CHECK(after == before);
    CHECK(bytes_of(lab, pool, Attribute::kReservedMemHigh) == 12288);
    CHECK(bytes_of(lab, pool, Attribute::kUsedMemHigh) == 12288);
    set_bytes(lab, pool, Attribute::kReservedMemHigh, 0);
    set_bytes(lab, pool, Attribute::kUsedMemHigh, 0);
    CHECK(bytes_of(lab, pool, Attribute::kReservedMemHigh) == 0);
    CHECK(bytes_of(lab, pool, Attribute::kUsedMemHigh) == 0);
    std::uint64_t one = 1;
    CHECK(lab.cu.cuMemPoolSetAttribute(pool, Attribute::kUsedMemHigh, &one) ==
          cu::Result::kInvalidValue);
    CHECK(lab.cu.cuMemPoolSetAttribute(pool, Attribute::kUsedMemCurrent, &one) ==
          cu::Result::kInvalidValue);
  });
}

TEST_CASE_FIXTURE(Bench, "trimming keeps at least what it is told to, and what is still in use") {
  is_clean([](Lab& lab) {
    const cu::Stream s = lab.stream();
    const cu::MemoryPool pool = default_pool(lab);
    set_bytes(lab, pool, Attribute::kReleaseThreshold, ~0ull);
    const cu::DevicePtr p = alloc(lab, 8192, s);
    const cu::DevicePtr q = alloc(lab, 8192, s);
    const cu::DevicePtr r = alloc(lab, 8192, s);
    release(lab, p, s);
    release(lab, q, s);
    lab.sync(s);
    lab.note(lab.cu.cuMemPoolTrimTo(pool, 10000));
    CHECK(bytes_of(lab, pool, Attribute::kReservedMemCurrent) == 16384);
    lab.note(lab.cu.cuMemPoolTrimTo(pool, 0));
    CHECK(bytes_of(lab, pool, Attribute::kReservedMemCurrent) == 8192);
    release(lab, r, s);
  });
}

TEST_CASE_FIXTURE(Bench,
                  "a pool that is destroyed leaves its allocations valid until they are freed") {
  is_clean([](Lab& lab) {
    const cu::Stream s = lab.stream();
    const cu::MemoryPool pool = make_pool(lab);
    cu::DevicePtr p = 0;
    lab.note(lab.cu.cuMemAllocFromPoolAsync(&p, 4096, pool, s));
    cu::MemoryPool of = nullptr;
    lab.note(lab.cu.cuPointerGetAttribute(&of, cu::PointerAttribute::kMempoolHandle, p));
    CHECK(of == pool);
    lab.note(lab.cu.cuMemPoolDestroy(pool));
    lab.fill(s, p, 3, 4096);
    release(lab, p, s);
    lab.sync(s);
    std::size_t free_bytes = 0, total = 0;
    lab.note(lab.cu.cuMemGetInfo(&free_bytes, &total));
    CHECK(free_bytes == total);
    CHECK(lab.failure == cu::Result::kSuccess);
  });
}

TEST_CASE_FIXTURE(Bench,
                  "a default pool cannot be destroyed, and a destroyed one is known as such") {
  run(lab_options(), [](Lab& lab) {
    CHECK(lab.cu.cuMemPoolDestroy(default_pool(lab)) == cu::Result::kInvalidValue);
    const cu::MemoryPool pool = make_pool(lab);
    lab.note(lab.cu.cuMemPoolDestroy(pool));
    CHECK(lab.cu.cuMemPoolDestroy(pool) == cu::Result::kInvalidValue);
    CHECK(lab.cu.cuMemPoolTrimTo(nullptr, 0) == cu::Result::kInvalidValue);
  });
  CHECK(machine().reports().size() == 3);
  CHECK(machine().has_report(ReportKind::kMisuse));
}

TEST_CASE_FIXTURE(Bench, "what cuMemFreeAsync refuses") {
  run(lab_options(Mode::kLazy), [](Lab& lab) {
    const cu::Stream s = lab.stream();
    const cu::DevicePtr plain = lab.device(4096);
    CHECK(lab.cu.cuMemFreeAsync(plain, s) == cu::Result::kInvalidValue);
    const cu::DevicePtr p = alloc(lab, 4096, s);
    CHECK(lab.cu.cuMemFreeAsync(p + 256, s) == cu::Result::kInvalidValue);
    CHECK(lab.cu.cuMemFreeAsync(p, s) == cu::Result::kSuccess);
    CHECK(lab.cu.cuMemFreeAsync(p, s) == cu::Result::kInvalidValue);
    CHECK(lab.cu.cuMemFree(p) == cu::Result::kInvalidValue);
    CHECK(lab.cu.cuMemFreeAsync(0, s) == cu::Result::kInvalidValue);
    cu::DevicePtr none = 0;
    CHECK(lab.cu.cuMemAllocAsync(&none, 0, s) == cu::Result::kInvalidValue);
    CHECK(lab.cu.cuMemAllocAsync(nullptr, 1, s) == cu::Result::kInvalidValue);
  });
  CHECK(machine().reports().size() == 5);
}

TEST_CASE_FIXTURE(Bench,
                  "cuMemFree of a stream-ordered block waits for nothing: the caller has to") {
  is_clean([](Lab& lab) {
    const cu::Stream s = lab.stream();
    const cu::DevicePtr p = alloc(lab, 4096, s);
    lab.fill(s, p, 1, 4096);
    lab.sync(s);
    lab.note(lab.cu.cuMemFree(p));
    CHECK(lab.failure == cu::Result::kSuccess);
    const cu::DevicePtr q = alloc(lab, 4096, s);
    CHECK(q == p);
    release(lab, q, s);
  });
  is_found(ReportKind::kLifetime, [](Lab& lab) {
    const cu::Stream s = lab.stream();
    const cu::DevicePtr p = alloc(lab, 4096, s);
    lab.fill(s, p, 1, 4096);
    lab.note(lab.cu.cuMemFree(p));
  });
}

TEST_CASE_FIXTURE(Bench, "a block ends where its owner asked, though it was larger before") {
  run(lab_options(Mode::kLazy), [](Lab& lab) {
    const cu::Stream s = lab.stream();
    const cu::DevicePtr p = alloc(lab, 8192, s);
    lab.fill(s, p, 1, 8192);  // still to run when the block is smaller
    release(lab, p, s);
    const cu::DevicePtr q = alloc(lab, 5000, s);
    CHECK(q == p);
    std::size_t bytes = 0;
    cu::DevicePtr base = 0;
    lab.note(lab.cu.cuMemGetAddressRange(&base, &bytes, q + 100));
    CHECK(base == q);
    CHECK(bytes == 5000);
    CHECK(machine().reports().empty());
    lab.fill(s, q, 2, 5001);
    CHECK(machine().has_report(ReportKind::kOutOfBounds));
    release(lab, q, s);
  });
  CHECK(machine().reports().size() == 1);
}

TEST_CASE_FIXTURE(Bench, "new memory is garbage, whatever lay in the block before") {
  is_clean([](Lab& lab) {
    const cu::Stream s = lab.stream();
    std::uint8_t* host = lab.pinned(4096);
    const cu::DevicePtr p = alloc(lab, 4096, s);
    lab.fill(s, p, 5, 4096);
    release(lab, p, s);
    const cu::DevicePtr q = alloc(lab, 4096, s);
    lab.d2h(s, host, q, 4096);
    lab.sync(s);
    CHECK(host[17] == 0xff);
    release(lab, q, s);
  });
}

TEST_CASE_FIXTURE(Bench,
                  "when memory is short the pools let go first, and then it is out of memory") {
  is_clean([](Lab& lab) {
    const cu::Stream s = lab.stream();
    const cu::MemoryPool pool = default_pool(lab);
    set_bytes(lab, pool, Attribute::kReleaseThreshold, ~0ull);
    const cu::DevicePtr small = alloc(lab, 4u << 20, s);
    release(lab, small, s);
    const cu::DevicePtr large = alloc(lab, 14u << 20, s);  // of 16 MiB
    CHECK(large != 0);
    CHECK(lab.failure == cu::Result::kSuccess);
    cu::DevicePtr more = 0;
    CHECK(lab.cu.cuMemAllocAsync(&more, 4u << 20, s) == cu::Result::kOutOfMemory);
    CHECK(lab.cu.cuMemAllocAsync(&more, ~std::size_t{0}, s) == cu::Result::kOutOfMemory);
    release(lab, large, s);
    more = alloc(lab, 4u << 20, s);
    CHECK(lab.failure == cu::Result::kSuccess);
    release(lab, more, s);
  });
}

TEST_CASE_FIXTURE(Bench, "a pool of limited size is full before the device is") {
  run(lab_options(), [](Lab& lab) {
    const cu::Stream s = lab.stream();
    const cu::MemoryPool pool = make_pool(lab, 8192);
    cu::DevicePtr p = 0, q = 0;
    CHECK(lab.cu.cuMemAllocFromPoolAsync(&p, 8192, pool, s) == cu::Result::kSuccess);
    CHECK(lab.cu.cuMemAllocFromPoolAsync(&q, 1, pool, s) == cu::Result::kOutOfMemory);
    release(lab, p, s);
    lab.note(lab.cu.cuMemPoolDestroy(pool));
  });
  CHECK(machine().report_text() == "");
}

TEST_CASE_FIXTURE(
    Bench, "allocations and pools that are never given back are leaks; cached blocks are none") {
  run(lab_options(), [](Lab& lab) {
    const cu::Stream s = lab.stream();
    set_bytes(lab, default_pool(lab), Attribute::kReleaseThreshold, ~0ull);
    release(lab, alloc(lab, 4096, s), s);
    alloc(lab, 8192, s);
    make_pool(lab);
  });
  REQUIRE(machine().reports().size() == 1);
  CHECK(machine().reports()[0].text.find(
            "still alive at the end: 1 stream-ordered allocation, 1 memory pool\n") == 0);
}

}  // namespace
}  // namespace spillway::test
