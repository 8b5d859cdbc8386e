// SPDX-License-Identifier: Apache-2.0
// Mappings from the kernel: what is asked for, what happens when each wish is refused, and that
// nothing is lost on the way.
#include "allocator/host_mapping.hpp"

#include "allocator/parallel_chunks.hpp"
#include "core/atomic.hpp"
#include "tests/allocator/pinned_lab.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <sys/mman.h>
#include <utility>
#include <vector>

using namespace spillway;
using test::noting_page_calls;
using test::page_notes;

namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;
constexpr int kPopulateWrite = 23;

bool advised(int advice) {
  const std::vector<int>& all = page_notes().advices;
  return std::find(all.begin(), all.end(), advice) != all.end();
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("a mapping is writable memory of the size asked for, and is unmapped once") {
    page_notes() = {};
    {
      HostMapping mapping = HostMapping::create(noting_page_calls(), 3 * 4096, {}).value();
      REQUIRE(mapping.populate(0, mapping.bytes()).ok());
      for (std::size_t i = 0; i < mapping.bytes(); ++i) mapping.data()[i] = std::byte{1};
      CHECK(advised(MADV_DONTFORK));
      CHECK(advised(kPopulateWrite));
      HostMapping moved = std::move(mapping);
      CHECK(mapping.empty());  // NOLINT(bugprone-use-after-move): that is the contract
      CHECK(moved.bytes() == 3 * 4096);
      mapping = std::move(moved);
    }
    CHECK(page_notes().maps == 1);
    CHECK(page_notes().unmaps == 1);
  }

  TEST_CASE("transparent huge pages are asked for on a mapping that begins at one") {
    page_notes() = {};
    HostMappingOptions options;
    options.huge_pages = HugePages::kTransparent;
    const HostMapping mapping = HostMapping::create(noting_page_calls(), 3 * kMiB, options).value();
    CHECK(reinterpret_cast<std::uintptr_t>(mapping.data()) % kHugePageBytes == 0);
    CHECK(advised(MADV_HUGEPAGE));
    CHECK(mapping.huge_pages() != HugePages::kExplicit);
    mapping.data()[3 * kMiB - 1] = std::byte{1};
  }

  TEST_CASE("explicit huge pages fall back to transparent ones and these to plain ones") {
    page_notes() = {};
    page_notes().refuse_map = ENOMEM;
    page_notes().refuse_flags = MAP_HUGETLB;
    HostMappingOptions options;
    options.huge_pages = HugePages::kExplicit;
    const HostMapping transparent =
        HostMapping::create(noting_page_calls(), 2 * kMiB, options).value();
    CHECK(page_notes().maps == 2);
    CHECK(advised(MADV_HUGEPAGE));
    page_notes().refuse_advice = MADV_HUGEPAGE;
    const HostMapping plain = HostMapping::create(noting_page_calls(), 2 * kMiB, options).value();
    CHECK(plain.huge_pages() == HugePages::kOff);
    // A size that is no multiple of a huge page is not tried explicitly.
    page_notes() = {};
    const HostMapping odd = HostMapping::create(noting_page_calls(), 12288, options).value();
    CHECK((page_notes().map_flags & MAP_HUGETLB) == 0);
  }

  TEST_CASE(
      "a NUMA node is wished for before the memory is touched, and its refusal is no failure") {
    page_notes() = {};
    HostMappingOptions options;
    options.numa_node = 0;
    page_notes().refuse_node = EPERM;  // as in a container that filters mbind
    const HostMapping refused = HostMapping::create(noting_page_calls(), 4096, options).value();
    CHECK(page_notes().node == 0);
    CHECK(refused.numa_node() == -1);
    CHECK_FALSE(advised(kPopulateWrite));
    options.numa_node = 1 << 20;
    CHECK(HostMapping::create(system_page_calls(), 4096, options).value().numa_node() == -1);
  }

  TEST_CASE("a kernel without populate has its pages touched") {
    page_notes() = {};
    page_notes().refuse_advice = kPopulateWrite;
    const HostMapping mapping = HostMapping::create(noting_page_calls(), 8 * 4096, {}).value();
    REQUIRE(mapping.populate(4096, 3 * 4096).ok());
    unsigned char resident[8] = {};
    REQUIRE(::mincore(mapping.data(), mapping.bytes(), resident) == 0);
    for (int page = 0; page < 8; ++page) {
      CAPTURE(page);
      CHECK(((resident[page] & 1) != 0) == (page >= 1 && page < 4));
    }
  }

  TEST_CASE("chunks are worked off once each, with and without helpers") {
    TaskQueueOptions options;
    options.threads = 3;
    const auto queue = TaskQueue::start(options).value();
    for (TaskQueue* helpers : {static_cast<TaskQueue*>(nullptr), queue.get()}) {
      for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{1000}}) {
        std::vector<Atomic<int>> done(count);
        CHECK(parallel_chunks(helpers, 3, count, [&](std::size_t i) {
                done[i].fetch_add(1, std::memory_order_relaxed);
                return Status();
              }).ok());
        for (const Atomic<int>& times : done) CHECK(times.load(std::memory_order_relaxed) == 1);
      }
    }
  }
}

TEST_SUITE("fault") {
  TEST_CASE("a refused mapping is out of memory, with the size and the system's reason") {
    page_notes() = {};
    page_notes().refuse_map = ENOMEM;
    const auto none = HostMapping::create(noting_page_calls(), 3 * kMiB, {});
    CHECK(none.status().code() == Code::kOutOfMemory);
    CHECK(none.status().message() ==
          "mmap of 3.00 MiB of host memory failed: Cannot allocate memory");
    CHECK(page_notes().unmaps == 0);
    // A size at which the alignment of huge pages would overflow.
    HostMappingOptions options;
    options.huge_pages = HugePages::kTransparent;
    CHECK_FALSE(HostMapping::create(system_page_calls(), ~std::size_t{4095}, options).ok());
  }

  TEST_CASE("pages without memory are out of memory, not a signal") {
    page_notes() = {};
    page_notes().refuse_advice = kPopulateWrite;
    page_notes().advice_error = ENOMEM;
    const HostMapping mapping = HostMapping::create(noting_page_calls(), 4096, {}).value();
    const Status status = mapping.populate(0, 4096);
    CHECK(status.code() == Code::kOutOfMemory);
    CHECK(status.message() == "no memory for 4.00 KiB of host pages: Cannot allocate memory");
  }

  TEST_CASE("after a failed chunk no more are begun, and its failure is told") {
    std::size_t calls = 0;
    const Status status = parallel_chunks(nullptr, 0, 100, [&](std::size_t i) {
      ++calls;
      return i == 7 ? Status(Code::kOutOfMemory, "chunk 7") : Status();
    });
    CHECK(status.message() == "chunk 7");
    CHECK(calls == 8);
  }
}
