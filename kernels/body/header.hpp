// SPDX-License-Identifier: Apache-2.0
// The first 64 bytes of a payload, made and checked by both sides.
#pragma once

#include "kernels/body/fingerprint.hpp"
#include "kernels/body/layout.hpp"

namespace spillway::SPW_BODY {

/// Mix of the header's words before its last.
SPW_HD uint64_t header_check(const PayloadHeader& header) {
  uint64_t words[8];
  __builtin_memcpy(words, &header, sizeof(header));
  uint64_t sum = 0;
  for (uint64_t i = 0; i < 7; ++i) sum += mix(words[i], (i + 1) * kFingerprintStride);
  return sum;
}

SPW_HD PayloadHeader make_header(uint8_t codec,
                                 uint8_t dtype,
                                 uint8_t capacity,
                                 uint64_t values,
                                 uint64_t payload_bytes,
                                 uint64_t tensor_key,
                                 uint64_t step) {
  PayloadHeader header{};
  header.magic = PayloadHeader::kMagic;
  header.version = 1;
  header.codec = codec;
  header.dtype = dtype;
  header.capacity = capacity;
  header.values = values;
  header.payload_bytes = payload_bytes;
  header.tensor_key = tensor_key;
  header.step = step;
  header.check = header_check(header);
  return header;
}

}  // namespace spillway::SPW_BODY
