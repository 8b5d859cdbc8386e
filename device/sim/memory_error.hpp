// SPDX-License-Identifier: Apache-2.0
// What can be wrong with a call on the simulated memory: an enum for the driver table's codes and
// the ranges for the text. Text is built only when somebody asks for it, and with offsets from the
// simulator's base, so that it is the same on every machine.
#pragma once

#include <cstdint>
#include <string>

namespace spillway::sim {

enum class MemoryError : std::uint8_t {
  kOk = 0,
  kBadDevice,        // no such device
  kBadSize,          // zero, not a multiple of the granularity, or not the size of the handle
  kBadAlignment,     // not a power of two, too large, or an address that is not aligned
  kBadOffset,        // an offset into a handle; only whole handles can be mapped
  kOutOfMemory,      // the device, or the limit of pinned memory, has fewer bytes left
  kOutOfAddresses,   // no free address range of that size
  kTooManyMappings,  // the process is near vm.max_map_count
  kForeign,          // an address that this simulator never gave out
  kFreed,            // an address inside a block that was freed
  kDoubleFree,       // the start of a block that was freed
  kInterior,         // an address inside a live block where its start was expected
  kWrongKind,        // a live block of another kind (device memory to the pinned free, ...)
  kUnknownHandle,    // a physical handle that was never given out
  kReleasedHandle,   // a physical handle that was released as often as it was created and retained
  kNotReserved,      // no reservation there, or the range leaves its reservation
  kPartialRelease,   // a part of a reservation
  kStillMapped,      // a reservation with a mapping left in it
  kAlreadyMapped,    // a mapping is already there
  kNotMapped,        // reserved, and nothing mapped there
  kPartialUnmap,     // a part of a mapping
  kPartialAccess,    // access rights for a part of a mapping
  kNoAccess,         // mapped, and this device may not do that there
  kOutOfBounds,      // starts in a live block and runs over its end
  kAlreadyRegistered,  // the host range is pinned or registered already
  kOverlap,            // a part of the host range is pinned or registered already
  kNotRegistered,      // no registration starts at that host address
};

/// Lower-case words for an error ("partial unmap").
const char* memory_error_name(MemoryError error);

/// Bytes [begin, begin + bytes).
struct ByteRange {
  std::uint64_t begin = 0;
  std::uint64_t bytes = 0;

  [[nodiscard]] std::uint64_t end() const { return begin + bytes; }
  friend bool operator==(const ByteRange&, const ByteRange&) = default;
};

/// A failed call: what it asked for and what it hit. Ranges are offsets from the simulator's base
/// (so a foreign address is a huge one); for kOutOfMemory and the handle errors plain numbers
/// (asked.bytes wanted, found.bytes free; asked.begin is the handle).
struct Misuse {
  MemoryError error = MemoryError::kOk;
  ByteRange asked;
  ByteRange found;
};

/// One line without a full stop: "partial unmap: [base+0x0, base+0x1000) covers part of
/// [base+0x0, base+0x2000)". Offsets beyond `span_bytes` print as "foreign".
std::string describe(const Misuse& misuse, std::uint64_t span_bytes);

}  // namespace spillway::sim
