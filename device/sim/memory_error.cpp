// SPDX-License-Identifier: Apache-2.0
#include "device/sim/memory_error.hpp"

#include <array>
#include <cstdio>

namespace spillway::sim {
namespace {

std::string address_text(std::uint64_t offset, std::uint64_t span_bytes) {
  if (offset > span_bytes) return "foreign";
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "base+0x%llx", static_cast<unsigned long long>(offset));
  return text.data();
}

std::string range_text(const ByteRange& range, std::uint64_t span_bytes) {
  if (range.begin > span_bytes) {
    return std::to_string(range.bytes) + " foreign bytes";
  }
  return "[" + address_text(range.begin, span_bytes) + ", " +
         address_text(range.end(), span_bytes) + ")";
}

std::string handle_text(std::uint64_t handle) {
  return "handle " + std::to_string(handle & 0xffffffffu) + "#" + std::to_string(handle >> 32);
}

}  // namespace

const char* memory_error_name(MemoryError error) {
  switch (error) {
    case MemoryError::kOk:
      return "ok";
    case MemoryError::kBadDevice:
      return "no such device";
    case MemoryError::kBadSize:
      return "bad size";
    case MemoryError::kBadAlignment:
      return "bad alignment";
    case MemoryError::kBadOffset:
      return "offset into a handle";
    case MemoryError::kOutOfMemory:
      return "out of memory";
    case MemoryError::kOutOfAddresses:
      return "out of addresses";
    case MemoryError::kTooManyMappings:
      return "too many mappings";
    case MemoryError::kForeign:
      return "foreign address";
    case MemoryError::kFreed:
      return "freed memory";
    case MemoryError::kDoubleFree:
      return "double free";
    case MemoryError::kInterior:
      return "interior address";
    case MemoryError::kWrongKind:
      return "wrong kind of memory";
    case MemoryError::kUnknownHandle:
      return "unknown handle";
    case MemoryError::kReleasedHandle:
      return "released handle";
    case MemoryError::kNotReserved:
      return "not reserved";
    case MemoryError::kPartialRelease:
      return "partial release of a reservation";
    case MemoryError::kStillMapped:
      return "still mapped";
    case MemoryError::kAlreadyMapped:
      return "already mapped";
    case MemoryError::kNotMapped:
      return "not mapped";
    case MemoryError::kPartialUnmap:
      return "partial unmap";
    case MemoryError::kPartialAccess:
      return "access for part of a mapping";
    case MemoryError::kNoAccess:
      return "no access";
    case MemoryError::kOutOfBounds:
      return "out of bounds";
    case MemoryError::kAlreadyRegistered:
      return "already registered";
    case MemoryError::kOverlap:
      return "overlaps registered memory";
    case MemoryError::kNotRegistered:
      return "not registered";
  }
  return "?";
}

std::string describe(const Misuse& misuse, std::uint64_t span_bytes) {
  std::string text = memory_error_name(misuse.error);
  const std::string asked = range_text(misuse.asked, span_bytes);
  const std::string found = range_text(misuse.found, span_bytes);
  switch (misuse.error) {
    case MemoryError::kOk:
      return text;
    case MemoryError::kBadDevice:
      return text + ": " + std::to_string(misuse.asked.begin);
    case MemoryError::kOutOfMemory:
    case MemoryError::kOutOfAddresses:
      return text + ": " + std::to_string(misuse.asked.bytes) + " bytes asked, " +
             std::to_string(misuse.found.bytes) + " free";
    case MemoryError::kTooManyMappings:
      return text + ": " + std::to_string(misuse.found.begin) + " in use of " +
             std::to_string(misuse.found.bytes) + " that this process may take (vm.max_map_count)";
    case MemoryError::kBadSize:
      return text + ": " + std::to_string(misuse.asked.bytes) + " bytes where " +
             (misuse.found.bytes == 0
                  ? std::string("at least one was expected")
                  : "a multiple of " + std::to_string(misuse.found.bytes) + " was expected");
    case MemoryError::kBadAlignment:
      return text + ": " + std::to_string(misuse.asked.bytes) + " where a multiple of " +
             std::to_string(misuse.found.bytes) + " was expected";
    case MemoryError::kBadOffset:
      return text + ": " + std::to_string(misuse.asked.begin) + " where 0 was expected";
    case MemoryError::kUnknownHandle:
    case MemoryError::kReleasedHandle:
      return text + ": " + handle_text(misuse.asked.begin);
    case MemoryError::kForeign:
    case MemoryError::kNotReserved:
    case MemoryError::kNotMapped:
    case MemoryError::kNotRegistered:
      return text + ": " + asked;
    case MemoryError::kFreed:
    case MemoryError::kDoubleFree:
    case MemoryError::kInterior:
    case MemoryError::kWrongKind:
      return text + ": " + address_text(misuse.asked.begin, span_bytes) + " in " + found;
    case MemoryError::kPartialRelease:
    case MemoryError::kPartialUnmap:
    case MemoryError::kPartialAccess:
      return text + ": " + asked + " covers part of " + found;
    case MemoryError::kStillMapped:
    case MemoryError::kAlreadyMapped:
    case MemoryError::kNoAccess:
    case MemoryError::kOutOfBounds:
    case MemoryError::kAlreadyRegistered:
    case MemoryError::kOverlap:
      return text + ": " + asked + " meets " + found;
  }
  return text;
}

}  // namespace spillway::sim
