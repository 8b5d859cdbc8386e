// SPDX-License-Identifier: Apache-2.0
// Reservations and mappings: what the driver's VMM calls accept, and what they refuse with why.
#include "device/sim/address_space.hpp"

#include "tests/device/sim/memory_maker.hpp"

#include <string>
#include <vector>

using namespace spillway;
using namespace spillway::sim;

namespace {
constexpr std::uint64_t kPage = kPageBytes;
}

TEST_SUITE("unit") {
  TEST_CASE("reservations keep sizes, alignments and free hints") {
    const auto memory = small_memory(Contents::kNone);
    std::uint64_t a = 0;
    std::uint64_t b = 0;
    std::uint64_t c = 0;
    REQUIRE(memory->reserve(kPage, 0, 0, &a) == MemoryError::kOk);
    REQUIRE(memory->reserve(3 * kPage, 1 << 20, 0, &b) == MemoryError::kOk);
    CHECK(b % (1 << 20) == 0);
    CHECK(memory->reserve(kPage, 0, b + kPage, &c) == MemoryError::kOk);
    CHECK((c < b || c >= b + 3 * kPage));
    std::uint64_t d = 0;
    REQUIRE(memory->reserve(kPage, 0, b + 64 * kPage, &d) == MemoryError::kOk);
    CHECK(d == b + 64 * kPage);
    CHECK(memory->reserve(0, 0, 0, &d) == MemoryError::kBadSize);
    CHECK(memory->reserve(kPage + 1, 0, 0, &d) == MemoryError::kBadSize);
    CHECK(memory->reserve(kPage, 3, 0, &d) == MemoryError::kBadAlignment);
    CHECK(memory->reserve(kPage, kAlignmentMax * 2, 0, &d) == MemoryError::kBadAlignment);
    CHECK(memory->reserve(std::uint64_t{1} << 40, 0, 0, &d) == MemoryError::kOutOfAddresses);
    CHECK(memory->in_use().reservations == 4);
  }

  TEST_CASE("a released reservation is the next one handed out") {
    const auto memory = small_memory(Contents::kNone);
    std::uint64_t a = 0;
    std::uint64_t b = 0;
    std::uint64_t c = 0;
    REQUIRE(memory->reserve(4 * kPage, 0, 0, &a) == MemoryError::kOk);
    REQUIRE(memory->reserve(4 * kPage, 0, 0, &b) == MemoryError::kOk);
    REQUIRE(memory->reserve(4 * kPage, 0, 0, &c) == MemoryError::kOk);
    std::uint64_t d = 0;
    REQUIRE(memory->reserve(4 * kPage, 0, 0, &d) == MemoryError::kOk);
    REQUIRE(memory->free_reservation(b, 4 * kPage) == MemoryError::kOk);
    REQUIRE(memory->free_reservation(d, 4 * kPage) == MemoryError::kOk);
    std::uint64_t again = 0;
    REQUIRE(memory->reserve(4 * kPage, 0, 0, &again) == MemoryError::kOk);
    CHECK(again == d);
    REQUIRE(memory->reserve(2 * kPage, 0, 0, &again) == MemoryError::kOk);
    CHECK(again == b);
    CHECK(memory->free_reservation(b, 4 * kPage) == MemoryError::kPartialRelease);
    CHECK(memory->free_reservation(a, 2 * kPage) == MemoryError::kPartialRelease);
    CHECK(memory->free_reservation(a + kPage, kPage) == MemoryError::kPartialRelease);
    CHECK(memory->free_reservation(c + 8 * kPage, kPage) == MemoryError::kNotReserved);
    CHECK(memory->free_reservation(1234, kPage) == MemoryError::kNotReserved);
  }

  TEST_CASE("a reservation that fits nowhere else takes freed and unused addresses together") {
    const auto memory = small_memory(Contents::kNone);
    const std::uint64_t all = memory->layout().options().address_bytes;
    std::uint64_t a = 0;
    std::uint64_t b = 0;
    std::uint64_t whole = 0;
    REQUIRE(memory->reserve(kPage, 0, 0, &a) == MemoryError::kOk);
    REQUIRE(memory->reserve(kPage, 0, a + 10 * kPage, &b) == MemoryError::kOk);
    CHECK(b == a + 10 * kPage);
    CHECK(memory->reserve(all, 0, 0, &whole) == MemoryError::kOutOfAddresses);
    CHECK(memory->misuse().found.bytes == all - 2 * kPage);
    REQUIRE(memory->free_reservation(b, kPage) == MemoryError::kOk);
    std::uint64_t again = 0;
    REQUIRE(memory->reserve(kPage, 0, 0, &again) == MemoryError::kOk);
    CHECK(again == b);
    REQUIRE(memory->free_reservation(a, kPage) == MemoryError::kOk);
    REQUIRE(memory->free_reservation(b, kPage) == MemoryError::kOk);
    REQUIRE(memory->reserve(all, 0, 0, &whole) == MemoryError::kOk);
    CHECK(whole == a);
    CHECK(memory->reserve(kPage, 0, 0, &b) == MemoryError::kOutOfAddresses);
  }

  TEST_CASE("only whole handles are mapped, into free reserved addresses") {
    const auto memory = small_memory(Contents::kNone);
    std::uint64_t at = 0;
    PhysicalId id;
    REQUIRE(memory->reserve(4 * kPage, 0, 0, &at) == MemoryError::kOk);
    REQUIRE(memory->create_physical(0, 2 * kPage, &id) == MemoryError::kOk);
    CHECK(memory->map(at, kPage, id) == MemoryError::kBadSize);
    CHECK(memory->map(at, 2 * kPage, id, kPage) == MemoryError::kBadOffset);
    CHECK(memory->map(at + 1, 2 * kPage, id) == MemoryError::kBadAlignment);
    CHECK(memory->map(at + 3 * kPage, 2 * kPage, id) == MemoryError::kNotReserved);
    CHECK(memory->map(at, 2 * kPage, PhysicalId{5}) == MemoryError::kUnknownHandle);
    REQUIRE(memory->map(at + kPage, 2 * kPage, id) == MemoryError::kOk);
    CHECK(memory->map(at, 2 * kPage, id) == MemoryError::kAlreadyMapped);
    CHECK(memory->map(at + 2 * kPage, 2 * kPage, id) == MemoryError::kAlreadyMapped);
    CHECK(memory->free_reservation(at, 4 * kPage) == MemoryError::kStillMapped);
    CHECK(memory->in_use().mappings == 1);
  }

  TEST_CASE("a partial unmap is refused and names both ranges") {
    const auto memory = small_memory(Contents::kNone);
    PhysicalId id;
    const std::uint64_t at = map_new(*memory, 2 * kPage, &id);
    CHECK(memory->unmap(at, kPage) == MemoryError::kPartialUnmap);
    const std::string begin = "base+0x";
    CHECK(memory->describe_misuse().find("partial unmap: [base+0x") == 0);
    CHECK(memory->describe_misuse().find("covers part of [base+0x") != std::string::npos);
    CHECK(memory->misuse().found.bytes == 2 * kPage);
    CHECK(memory->unmap(at + kPage, kPage) == MemoryError::kPartialUnmap);
    CHECK(memory->unmap(at, 3 * kPage) == MemoryError::kNotMapped);
    CHECK(memory->unmap(at, 0) == MemoryError::kBadSize);
    CHECK(memory->unmap(at + 2 * kPage, kPage) == MemoryError::kNotReserved);
    CHECK(memory->unmap(at, 2 * kPage) == MemoryError::kOk);
    CHECK(memory->unmap(at, 2 * kPage) == MemoryError::kNotMapped);
  }

  TEST_CASE("several neighbours are unmapped and given access in one call") {
    const auto memory = small_memory(Contents::kNone);
    std::uint64_t at = 0;
    PhysicalId a;
    PhysicalId b;
    REQUIRE(memory->reserve(4 * kPage, 0, 0, &at) == MemoryError::kOk);
    REQUIRE(memory->create_physical(0, kPage, &a) == MemoryError::kOk);
    REQUIRE(memory->create_physical(0, 2 * kPage, &b) == MemoryError::kOk);
    REQUIRE(memory->map(at, kPage, a) == MemoryError::kOk);
    REQUIRE(memory->map(at + kPage, 2 * kPage, b) == MemoryError::kOk);
    Access access = Access::kReadWrite;
    REQUIRE(memory->get_access(at, 0, &access) == MemoryError::kOk);
    CHECK(access == Access::kNone);
    CHECK(memory->set_access(at, 2 * kPage, 0, Access::kRead) == MemoryError::kPartialAccess);
    CHECK(memory->set_access(at, 4 * kPage, 0, Access::kRead) == MemoryError::kNotMapped);
    CHECK(memory->set_access(at, 3 * kPage, 7, Access::kRead) == MemoryError::kBadDevice);
    REQUIRE(memory->get_access(at, 0, &access) == MemoryError::kOk);
    CHECK(access == Access::kNone);
    REQUIRE(memory->set_access(at, 3 * kPage, 1, Access::kRead) == MemoryError::kOk);
    REQUIRE(memory->get_access(at + 2 * kPage, 1, &access) == MemoryError::kOk);
    CHECK(access == Access::kRead);
    REQUIRE(memory->get_access(at, 0, &access) == MemoryError::kOk);
    CHECK(access == Access::kNone);
    CHECK(memory->get_access(at + 3 * kPage, 0, &access) == MemoryError::kNotMapped);
    CHECK(memory->unmap(at, 3 * kPage) == MemoryError::kOk);
    CHECK(memory->in_use().mappings == 0);
  }

  TEST_CASE("memory released while mapped lives until it is unmapped") {
    const auto memory = small_memory(Contents::kNone);
    PhysicalId id;
    const std::uint64_t at = map_new(*memory, kPage, &id);
    REQUIRE(memory->release_physical(id) == MemoryError::kOk);
    CHECK(memory->physical().used_bytes(0) == kPage);
    CHECK(memory->map(at, kPage, id) == MemoryError::kReleasedHandle);
    REQUIRE(memory->unmap(at, kPage) == MemoryError::kOk);
    CHECK(memory->physical().used_bytes(0) == 0);
  }

  TEST_CASE("a handle mapped twice translates to the same bytes") {
    const auto memory = small_memory(Contents::kNone);
    PhysicalId id;
    const std::uint64_t a = map_new(*memory, kPage, &id);
    std::uint64_t b = 0;
    REQUIRE(memory->reserve(kPage, 0, 0, &b) == MemoryError::kOk);
    REQUIRE(memory->map(b, kPage, id) == MemoryError::kOk);
    REQUIRE(memory->set_access(b, kPage, 0, Access::kRead) == MemoryError::kOk);
    std::vector<std::uint64_t> flats;
    const auto collect = [&](std::uint64_t flat, std::uint64_t) { flats.push_back(flat); };
    CHECK(memory->translate(a + 5, 10, 0, Access::kReadWrite, collect).ok());
    CHECK(memory->translate(b + 5, 10, 0, Access::kRead, collect).ok());
    REQUIRE(flats.size() == 2);
    CHECK(flats[0] == flats[1]);
    const Translation write = memory->translate(b + 5, 10, 0, Access::kReadWrite, collect);
    CHECK(write.error == MemoryError::kNoAccess);
    CHECK(write.address == b + 5);
    CHECK(flats.size() == 2);
  }
}
