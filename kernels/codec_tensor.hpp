// SPDX-License-Identifier: Apache-2.0
// What a codec works on, as plain data: the tensor, its payload and what the bits depend on. Shared
// by every compiled copy of the bodies.
#pragma once

#include <cstdint>

namespace spillway {

/// Invariants (checked where tensors come in): values > 0; plain and payload are 16-byte aligned
/// and do not overlap; payload has payload_bytes() bytes.
struct CodecTensor {
  void* plain = nullptr;  // source of an encode, destination of a decode
  std::uint8_t* payload = nullptr;
  std::uint64_t values = 0;
  std::uint64_t tensor_key = 0;      // int4 draws its random numbers by it
  std::uint64_t step = 0;            // and by this
  std::uint8_t sparse_capacity = 0;  // sixteenths of a tile
};

/// Of a range of tiles; both fields add up over ranges in any order.
struct CodecOutcome {
  std::uint64_t misfits = 0;          // tiles that the payload does not hold, or that it cannot be
                                      // decoded into
  std::uint64_t fingerprint_sum = 0;  // of the plain bytes; without the start
};

}  // namespace spillway
