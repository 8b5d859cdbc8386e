// SPDX-License-Identifier: Apache-2.0
// Capacity, the other tenant, and the life of a physical handle.
#include "device/sim/physical_memory.hpp"

#include "tests/device/sim/memory_maker.hpp"

using namespace spillway;
using namespace spillway::sim;

namespace {

PhysicalMemory small_physical() {
  Result<MemoryLayout> layout = MemoryLayout::make(small_options(Contents::kNone));
  REQUIRE(layout.ok());
  return PhysicalMemory(layout.value());
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("bytes taken and free add up, and the peak stays") {
    PhysicalMemory memory = small_physical();
    Misuse misuse;
    PhysicalId id;
    REQUIRE(memory.create(0, 3 * kPageBytes, &id, &misuse) == MemoryError::kOk);
    CHECK(memory.used_bytes(0) == 3 * kPageBytes);
    CHECK(memory.used_bytes(1) == 0);
    CHECK(memory.free_bytes(0) == memory.capacity_bytes(0) - 3 * kPageBytes);
    REQUIRE(memory.release(id, &misuse) == MemoryError::kOk);
    CHECK(memory.used_bytes(0) == 0);
    CHECK(memory.peak_bytes(0) == 3 * kPageBytes);
    CHECK(memory.live_count() == 0);
  }

  TEST_CASE("the other tenant takes what is free, at any time and even more than that") {
    PhysicalMemory memory = small_physical();
    Misuse misuse;
    PhysicalId id;
    REQUIRE(memory.create(0, kPageBytes, &id, &misuse) == MemoryError::kOk);
    memory.set_other_tenant_bytes(0, memory.capacity_bytes(0) - 2 * kPageBytes);
    CHECK(memory.free_bytes(0) == kPageBytes);
    CHECK(memory.create(0, 2 * kPageBytes, &id, &misuse) == MemoryError::kOutOfMemory);
    CHECK(misuse.asked.bytes == 2 * kPageBytes);
    CHECK(misuse.found.bytes == kPageBytes);
    memory.set_other_tenant_bytes(0, ~std::uint64_t{0});
    CHECK(memory.free_bytes(0) == 0);
    CHECK(memory.create(0, kPageBytes, &id, &misuse) == MemoryError::kOutOfMemory);
    CHECK(memory.free_bytes(1) == memory.capacity_bytes(1));
    memory.set_other_tenant_bytes(0, 0);
    CHECK(memory.create(0, kPageBytes, &id, &misuse) == MemoryError::kOk);
  }

  TEST_CASE("sizes are multiples of the granularity, devices exist") {
    PhysicalMemory memory = small_physical();
    Misuse misuse;
    PhysicalId id;
    CHECK(memory.create(0, 0, &id, &misuse) == MemoryError::kBadSize);
    CHECK(memory.create(0, kPageBytes + 1, &id, &misuse) == MemoryError::kBadSize);
    CHECK(memory.create(0, ~std::uint64_t{0} - kPageBytes + 1, &id, &misuse) ==
          MemoryError::kOutOfMemory);
    CHECK(memory.create(2, kPageBytes, &id, &misuse) == MemoryError::kBadDevice);
    CHECK(id.value == 0);
    CHECK(memory.live_count() == 0);
  }

  TEST_CASE("a freed offset and its index come back at once, the old handle does not") {
    PhysicalMemory memory = small_physical();
    Misuse misuse;
    PhysicalId first;
    PhysicalId second;
    REQUIRE(memory.create(0, kPageBytes, &first, &misuse) == MemoryError::kOk);
    const std::uint64_t flat = memory.find(first, &misuse)->flat.begin;
    REQUIRE(memory.release(first, &misuse) == MemoryError::kOk);
    REQUIRE(memory.create(0, kPageBytes, &second, &misuse) == MemoryError::kOk);
    CHECK(memory.find(second, &misuse)->flat.begin == flat);
    CHECK(first != second);
    CHECK(memory.release(first, &misuse) == MemoryError::kReleasedHandle);
    CHECK(misuse.asked.begin == first.value);
    CHECK(memory.release(PhysicalId{}, &misuse) == MemoryError::kUnknownHandle);
    CHECK(memory.release(PhysicalId{77}, &misuse) == MemoryError::kUnknownHandle);
    CHECK(memory.release(PhysicalId{second.value + (std::uint64_t{1} << 32)}, &misuse) ==
          MemoryError::kUnknownHandle);
    CHECK(memory.at_flat(flat + kPageBytes - 1)->id == second);
    CHECK(memory.at_flat(flat + kPageBytes) == nullptr);
    CHECK(memory.at_flat(0) == nullptr);
  }

  TEST_CASE("memory lives as long as a handle or a mapping holds it") {
    PhysicalMemory memory = small_physical();
    Misuse misuse;
    PhysicalId id;
    REQUIRE(memory.create(1, kPageBytes, &id, &misuse) == MemoryError::kOk);
    REQUIRE(memory.retain(id, &misuse) == MemoryError::kOk);
    memory.add_mapping(id);
    REQUIRE(memory.release(id, &misuse) == MemoryError::kOk);
    REQUIRE(memory.release(id, &misuse) == MemoryError::kOk);
    CHECK(memory.release(id, &misuse) == MemoryError::kReleasedHandle);
    CHECK(memory.retain(id, &misuse) == MemoryError::kReleasedHandle);
    CHECK(memory.used_bytes(1) == kPageBytes);
    CHECK(memory.remove_mapping(id));
    CHECK(memory.used_bytes(1) == 0);
  }

  TEST_CASE("no flat offset belongs to two devices") {
    PhysicalMemory memory = small_physical();
    Misuse misuse;
    PhysicalId a;
    PhysicalId b;
    REQUIRE(memory.create(0, memory.capacity_bytes(0), &a, &misuse) == MemoryError::kOk);
    REQUIRE(memory.create(1, memory.capacity_bytes(1), &b, &misuse) == MemoryError::kOk);
    const ByteRange of_a = memory.find(a, &misuse)->flat;
    const ByteRange of_b = memory.find(b, &misuse)->flat;
    CHECK((of_a.end() <= of_b.begin || of_b.end() <= of_a.begin));
  }
}
