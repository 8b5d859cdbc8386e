// SPDX-License-Identifier: Apache-2.0
// Small simulated memories for tests, and touches that the compiler neither removes nor judges.
#pragma once

#include "device/sim/memory.hpp"

#include <doctest/doctest.h>

#include <memory>

namespace spillway::sim {

inline MemoryOptions small_options(Contents contents) {
  MemoryOptions options;
  options.device_count = 2;
  options.memory_bytes = 1u << 20;
  options.granularity_bytes = kPageBytes;
  options.address_bytes = std::uint64_t{1} << 32;
  options.pinned_bytes_max = 1u << 20;
  options.contents = contents;
  return options;
}

inline std::unique_ptr<Memory> make_memory(const MemoryOptions& options) {
  Result<std::unique_ptr<Memory>> memory = Memory::create(options);
  INFO(memory.status().message());
  REQUIRE(memory.ok());
  return std::move(memory).value();
}

inline std::unique_ptr<Memory> small_memory(Contents contents = Contents::kFull) {
  return make_memory(small_options(contents));
}

// NOLINTBEGIN(performance-no-int-to-ptr): simulated addresses are numbers
inline unsigned char touch(std::uint64_t address) {
  return *reinterpret_cast<const volatile unsigned char*>(address);
}

inline void poke(std::uint64_t address, unsigned char value) {
  *reinterpret_cast<volatile unsigned char*>(address) = value;
}
// NOLINTEND(performance-no-int-to-ptr)

inline std::uint64_t mirror_address(const Memory& memory, std::uint64_t address) {
  return reinterpret_cast<std::uint64_t>(memory.mirror(address));
}

/// A handle of `bytes` mapped with access for device 0 at a reservation of its own.
inline std::uint64_t map_new(Memory& memory, std::uint64_t bytes, PhysicalId* id) {
  std::uint64_t at = 0;
  REQUIRE(memory.create_physical(0, bytes, id) == MemoryError::kOk);
  REQUIRE(memory.reserve(bytes, 0, 0, &at) == MemoryError::kOk);
  REQUIRE(memory.map(at, bytes, *id) == MemoryError::kOk);
  REQUIRE(memory.set_access(at, bytes, 0, Access::kReadWrite) == MemoryError::kOk);
  return at;
}

}  // namespace spillway::sim
