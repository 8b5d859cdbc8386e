// SPDX-License-Identifier: Apache-2.0
// Pinned, managed and registered memory: limits, look-up, and guards on pages in flight.
#include "device/sim/pinned_memory.hpp"

#include "tests/device/sim/memory_maker.hpp"

#include <cstring>
#include <vector>

using namespace spillway;
using namespace spillway::sim;

namespace {
constexpr std::uint64_t kPage = kPageBytes;
}

TEST_SUITE("unit") {
  TEST_CASE("host, engine and kernels see the same pinned bytes") {
    const auto memory = small_memory();
    std::uint64_t at = 0;
    REQUIRE(memory->allocate_pinned(3 * kPage, 6, &at) == MemoryError::kOk);
    poke(at + 5000, 42);
    const AddressInfo info = memory->find(at + 5000);
    CHECK(info.kind == MemoryKind::kPinned);
    CHECK(info.flags == 6);
    CHECK(info.range == ByteRange{at, 3 * kPage});
    CHECK(*memory->window(info.flat) == std::byte{42});
    CHECK(*memory->mirror(at + 5000) == std::byte{42});
    CHECK_FALSE(memory->any_faults());
  }

  TEST_CASE("the pin limit counts pinned and registered bytes, not managed ones") {
    const auto memory = small_memory(Contents::kNone);
    memory->pinned().set_limit_bytes(4 * kPage);
    std::uint64_t a = 0;
    std::uint64_t b = 0;
    REQUIRE(memory->allocate_pinned(kPage + 1, 0, &a) == MemoryError::kOk);
    CHECK(memory->pinned().pinned_bytes() == 2 * kPage);
    REQUIRE(memory->allocate_managed(8 * kPage, 0, &b) == MemoryError::kOk);
    CHECK(memory->find(b).kind == MemoryKind::kManaged);
    CHECK(memory->allocate_pinned(3 * kPage, 0, &b) == MemoryError::kOutOfMemory);
    CHECK(memory->misuse().found.bytes == 2 * kPage);
    REQUIRE(memory->register_host(1 << 20, 2 * kPage, 0) == MemoryError::kOk);
    CHECK(memory->allocate_pinned(1, 0, &b) == MemoryError::kOutOfMemory);
    CHECK(memory->register_host(1 << 21, 1, 0) == MemoryError::kOutOfMemory);
    CHECK(memory->in_use().registrations == 1);
    REQUIRE(memory->unregister_host(1 << 20) == MemoryError::kOk);
    REQUIRE(memory->free_pinned(a) == MemoryError::kOk);
    CHECK(memory->pinned().pinned_bytes() == 0);
    CHECK(memory->pinned().pinned_bytes_peak() == 4 * kPage);
    CHECK(memory->allocate_pinned(~std::uint64_t{0}, 0, &b) == MemoryError::kOutOfMemory);
    CHECK(memory->allocate_pinned(0, 0, &b) == MemoryError::kBadSize);
  }

  TEST_CASE("registration refuses what is pinned, registered or only partly so") {
    const auto memory = small_memory(Contents::kNone);
    std::vector<char> host(4 * kPage);
    const auto at = reinterpret_cast<std::uint64_t>(host.data());
    REQUIRE(memory->register_host(at + kPage, kPage, 3) == MemoryError::kOk);
    CHECK(memory->find(at + kPage + 9).kind == MemoryKind::kRegistered);
    CHECK(memory->find(at + kPage + 9).flags == 3);
    CHECK(memory->find(at).kind == MemoryKind::kNone);
    CHECK(memory->register_host(at + kPage, kPage, 0) == MemoryError::kAlreadyRegistered);
    CHECK(memory->register_host(at + kPage + 8, 8, 0) == MemoryError::kAlreadyRegistered);
    CHECK(memory->register_host(at, 2 * kPage, 0) == MemoryError::kOverlap);
    CHECK(memory->register_host(at + kPage + 8, kPage, 0) == MemoryError::kOverlap);
    CHECK(memory->register_host(at, 0, 0) == MemoryError::kBadSize);
    CHECK(memory->register_host(at, ~std::uint64_t{0}, 0) == MemoryError::kBadSize);
    CHECK(memory->unregister_host(at + kPage + 8) == MemoryError::kNotRegistered);
    CHECK(memory->unregister_host(at) == MemoryError::kNotRegistered);
    std::uint64_t pinned = 0;
    REQUIRE(memory->allocate_pinned(kPage, 0, &pinned) == MemoryError::kOk);
    CHECK(memory->register_host(pinned, 16, 0) == MemoryError::kAlreadyRegistered);
    CHECK(memory->unregister_host(at + kPage) == MemoryError::kOk);
    CHECK(memory->unregister_host(at + kPage) == MemoryError::kNotRegistered);
  }

  TEST_CASE("wrong frees say what the address is") {
    const auto memory = small_memory(Contents::kNone);
    std::uint64_t pinned = 0;
    std::uint64_t managed = 0;
    std::uint64_t plain = 0;
    REQUIRE(memory->allocate_pinned(kPage, 0, &pinned) == MemoryError::kOk);
    REQUIRE(memory->allocate_managed(kPage, 0, &managed) == MemoryError::kOk);
    REQUIRE(memory->allocate(0, kPage, 0, &plain) == MemoryError::kOk);
    CHECK(memory->free_pinned(managed) == MemoryError::kWrongKind);
    CHECK(memory->free_managed(pinned) == MemoryError::kWrongKind);
    CHECK(memory->free_pinned(plain) == MemoryError::kWrongKind);
    CHECK(memory->free(pinned) == MemoryError::kWrongKind);
    CHECK(memory->free_pinned(pinned + 1) == MemoryError::kInterior);
    CHECK(memory->free_pinned(99) == MemoryError::kForeign);
    CHECK(memory->free_pinned(pinned) == MemoryError::kOk);
    CHECK(memory->free_pinned(pinned) == MemoryError::kDoubleFree);
    CHECK(memory->free_managed(managed) == MemoryError::kOk);
    CHECK(memory->free(plain) == MemoryError::kOk);
    CHECK(memory->in_use().none());
  }

  TEST_CASE("a page in flight is closed until the last of its guards is lifted") {
    const auto memory = small_memory();
    std::uint64_t at = 0;
    REQUIRE(memory->allocate_pinned(4 * kPage, 0, &at) == MemoryError::kOk);
    PinnedMemory& pinned = memory->pinned();
    const std::uint64_t offset = at - memory->base();
    // Two copies that share the second page, and a reader of the third.
    REQUIRE(memory->guard(at, kPage + 10, GuardKind::kNoAccess) == MemoryError::kOk);
    REQUIRE(memory->guard(at + kPage + 10, 20, GuardKind::kNoAccess) == MemoryError::kOk);
    REQUIRE(memory->guard(at + 2 * kPage, 1, GuardKind::kReadOnly) == MemoryError::kOk);
    CHECK(pinned.host_access(offset) == Access::kNone);
    CHECK(pinned.host_access(offset + kPage) == Access::kNone);
    CHECK(pinned.host_access(offset + 2 * kPage) == Access::kRead);
    CHECK(pinned.host_access(offset + 3 * kPage) == Access::kReadWrite);
    CHECK(touch(at + 2 * kPage) == touch(at + 2 * kPage));
    poke(at + 3 * kPage, 1);
    CHECK_FALSE(memory->any_faults());
    REQUIRE(memory->unguard(at, kPage + 10, GuardKind::kNoAccess) == MemoryError::kOk);
    poke(at, 1);
    CHECK_FALSE(memory->any_faults());
    CHECK(pinned.host_access(offset + kPage) == Access::kNone);
    REQUIRE(memory->unguard(at + kPage + 10, 20, GuardKind::kNoAccess) == MemoryError::kOk);
    poke(at + kPage, 1);
    CHECK_FALSE(memory->any_faults());
    // The engine goes on through its own view.
    *memory->window(memory->find(at + 2 * kPage).flat) = std::byte{7};
    CHECK(touch(at + 2 * kPage) == 7);
    CHECK(memory->guard(at, 4 * kPage + 1, GuardKind::kReadOnly) == MemoryError::kOutOfBounds);
    CHECK(memory->guard(99, 1, GuardKind::kReadOnly) == MemoryError::kForeign);
  }

  TEST_CASE("neighbouring pages under different guards keep their own protection") {
    const auto memory = small_memory();
    std::uint64_t at = 0;
    REQUIRE(memory->allocate_pinned(4 * kPage, 0, &at) == MemoryError::kOk);
    const auto faults = [&] {
      std::vector<HostFault> found;
      REQUIRE(memory->take_faults(&found));
      return found.size();
    };
    REQUIRE(memory->guard(at + kPage, kPage, GuardKind::kNoAccess) == MemoryError::kOk);
    REQUIRE(memory->guard(at, 3 * kPage, GuardKind::kReadOnly) == MemoryError::kOk);
    (void)touch(at);
    (void)touch(at + 2 * kPage);
    CHECK(faults() == 0);
    (void)touch(at + kPage);
    CHECK(faults() == 1);
    REQUIRE(memory->unguard(at, kPage, GuardKind::kReadOnly) == MemoryError::kOk);
    REQUIRE(memory->guard(at, 4 * kPage, GuardKind::kNoAccess) == MemoryError::kOk);
    REQUIRE(memory->unguard(at, 4 * kPage, GuardKind::kNoAccess) == MemoryError::kOk);
    poke(at, 1);
    poke(at + 3 * kPage, 1);
    CHECK(faults() == 0);
    (void)touch(at + kPage);
    poke(at + 2 * kPage, 1);
    CHECK(faults() == 2);
  }

  TEST_CASE("managed memory is one address for host and device") {
    const auto memory = small_memory();
    std::uint64_t at = 0;
    REQUIRE(memory->allocate_managed(kPage, 0, &at) == MemoryError::kOk);
    poke(at, 9);
    CHECK(*memory->mirror(at) == std::byte{9});
    std::uint64_t flat = 0;
    CHECK(memory
              ->translate(at,
                          kPage,
                          1,
                          Access::kReadWrite,
                          [&](std::uint64_t begin, std::uint64_t) { flat = begin; })
              .ok());
    CHECK(*memory->window(flat) == std::byte{9});
  }

  TEST_CASE("foreign host bytes keep their flat offsets, whatever names them") {
    ForeignMemory foreign(1000);
    std::vector<ByteRange> pieces;
    const auto collect = [&](std::uint64_t flat, std::uint64_t bytes, std::uint64_t) {
      pieces.push_back({flat, bytes});
    };
    foreign.flat_of(5000, 100, collect);
    CHECK(pieces == std::vector<ByteRange>{{1000, 100}});
    pieces.clear();
    foreign.flat_of(4950, 200, collect);
    CHECK(pieces == std::vector<ByteRange>{{1100, 50}, {1000, 100}, {1150, 50}});
    pieces.clear();
    foreign.flat_of(4990, 20, collect);
    CHECK(pieces == std::vector<ByteRange>{{1140, 10}, {1000, 10}});
    foreign.reset();
    pieces.clear();
    foreign.flat_of(4990, 20, collect);
    CHECK(pieces == std::vector<ByteRange>{{1000, 20}});
  }
}
