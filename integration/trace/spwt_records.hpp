// SPDX-License-Identifier: Apache-2.0
// The payload of a record chunk: strings and records as differences to what came before in the same
// chunk, so that each chunk can be read alone. Byte by byte in docs/trace_format.md, "Record
// payload".
#pragma once

#include "core/trace.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace spillway {

/// What differences refer to; both sides keep one and update it alike. All zero at a chunk's start,
/// except time_ns, which is the chunk's base time.
struct SpwtBases {
  struct Kind {
    std::uint64_t id = 0;
    std::uint64_t arg = 0;
    std::uint32_t stream = 0;
    std::uint16_t device = 0;
    std::uint8_t flags = 0;
  };
  std::uint64_t time_ns = 0;
  std::uint64_t previous_id = 0;    // of the record before, whatever its kind
  std::array<Kind, 256> by_kind{};  // of the last record of each kind
};

/// Kind byte of a string definition within a payload; no RecordKind has it.
inline constexpr std::uint8_t kSpwtStringKind = 0;

class SpwtRecordEncoder {
 public:
  /// Starts a chunk, with base time 0.
  void start();
  /// Changes the base time while the chunk has no record yet.
  void set_base_time(std::uint64_t base_time_ns) { bases_.time_ns = base_time_ns; }
  void string(std::string_view text);
  /// REQUIRES: record.kind is not 0.
  void record(const Record& record);
  [[nodiscard]] const std::string& bytes() const { return bytes_; }

 private:
  SpwtBases bases_;
  std::string bytes_;
};

/// Where and why decoding stopped; `expected` is empty when all went well.
struct SpwtDecodeResult {
  std::string_view expected;
  std::size_t offset = 0;  // in the unpacked payload
  std::uint32_t string_count = 0;
  std::uint32_t record_count = 0;   // decoded, unknown kinds included
  std::uint32_t skipped_count = 0;  // records of unknown kinds, not sent
};

/// Room that must be readable behind the payload, so that a record is bounds-checked once, not per
/// field.
inline constexpr std::size_t kSpwtDecodePadding = 64;

/// Sends the strings and records of one unpacked payload. `strings_before` strings were announced
/// before this chunk; a record that names a later one than are known then is refused. REQUIRES:
/// payload.data()[0 .. payload.size() + kSpwtDecodePadding) is readable.
SpwtDecodeResult decode_spwt_records(std::string_view payload,
                                     std::uint64_t base_time_ns,
                                     std::uint32_t strings_before,
                                     TraceSink& sink);

}  // namespace spillway
