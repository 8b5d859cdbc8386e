// SPDX-License-Identifier: Apache-2.0
// Proving a declaration: bytes that are not declared are flipped, compared and put back.
#include "device/sim/memory_snapshot.hpp"

#include "tests/device/sim/memory_maker.hpp"

#include <vector>

using namespace spillway;
using namespace spillway::sim;

namespace {
constexpr std::uint64_t kPage = kPageBytes;
}

TEST_SUITE("unit") {
  TEST_CASE("what is declared through one alias is declared through all of them") {
    const auto memory = small_memory();
    PhysicalId id;
    const std::uint64_t a = map_new(*memory, kPage, &id);
    std::uint64_t b = 0;
    REQUIRE(memory->reserve(kPage, 0, 0, &b) == MemoryError::kOk);
    REQUIRE(memory->map(b, kPage, id) == MemoryError::kOk);
    std::uint64_t plain = 0;
    REQUIRE(memory->allocate(1, 100, 0, &plain) == MemoryError::kOk);
    const std::uint64_t plain_flat = memory->find(plain).flat;
    const std::uint64_t flat = memory->find(a).flat;
    const std::vector<DeclaredRange> declared = {
        {b + 10, 20, true, false}, {plain + 40, 10, true, true}, {b + 20, 30, true, false}};
    CHECK(memory->undeclared(declared) ==
          std::vector<ByteRange>{
              {plain_flat, 40}, {plain_flat + 50, 50}, {flat, 10}, {flat + 50, kPage - 50}});
    CHECK(memory->undeclared({}) == std::vector<ByteRange>{{plain_flat, 100}, {flat, kPage}});
  }

  TEST_CASE("flip, compare and restore see every byte and no other") {
    const auto memory = small_memory();
    std::uint64_t at = 0;
    REQUIRE(memory->allocate(0, 64, 0, &at) == MemoryError::kOk);
    memory->fill(at, 64, std::byte{0x0f});
    const std::vector<DeclaredRange> declared = {{at + 8, 8, true, true}};
    const MemorySnapshot rest(*memory, memory->undeclared(declared));
    CHECK(rest.first_difference() == MemorySnapshot::kSame);
    *memory->mirror(at + 9) = std::byte{1};
    CHECK(rest.first_difference() == MemorySnapshot::kSame);
    *memory->mirror(at + 20) = std::byte{1};
    CHECK(rest.first_difference() == memory->find(at + 20).flat);
    rest.flip();
    CHECK(*memory->mirror(at) == std::byte{0xf0});
    CHECK(*memory->mirror(at + 9) == std::byte{1});
    CHECK(rest.first_difference(true) == MemorySnapshot::kSame);
    *memory->mirror(at + 63) = std::byte{0x0f};
    CHECK(rest.first_difference(true) == memory->find(at + 63).flat);
    rest.restore();
    CHECK(rest.first_difference() == MemorySnapshot::kSame);
    CHECK(*memory->mirror(at + 9) == std::byte{1});
  }

  TEST_CASE("without contents there is nothing to differ") {
    const auto memory = small_memory(Contents::kNone);
    std::uint64_t at = 0;
    REQUIRE(memory->allocate(0, 64, 0, &at) == MemoryError::kOk);
    const MemorySnapshot all(*memory, memory->undeclared({}));
    CHECK(all.ranges().size() == 1);
    all.flip();
    CHECK(all.first_difference() == MemorySnapshot::kSame);
  }
}
