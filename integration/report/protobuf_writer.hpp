// SPDX-License-Identifier: Apache-2.0
// Encodes protobuf messages by hand, field by field: the few wire types that a Perfetto trace
// needs. Source: protobuf.dev, encoding.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace spillway {

class ProtobufWriter {
 public:
  /// uint32, uint64, bool, enum; int64 as its two's complement.
  void varint(std::uint32_t field, std::uint64_t value) {
    raw_varint(std::uint64_t{field} << 3);
    raw_varint(value);
  }
  void fixed64(std::uint32_t field, std::uint64_t value) {
    raw_varint(std::uint64_t{field} << 3 | 1);
    for (int shift = 0; shift < 64; shift += 8)
      bytes_ += static_cast<char>((value >> shift) & 0xff);
  }
  /// string, bytes, or an embedded message that is already encoded.
  void bytes(std::uint32_t field, std::string_view value) {
    raw_varint(std::uint64_t{field} << 3 | 2);
    raw_varint(value.size());
    bytes_ += value;
  }
  void message(std::uint32_t field, const ProtobufWriter& value) { bytes(field, value.bytes_); }

  const std::string& text() const { return bytes_; }
  bool empty() const { return bytes_.empty(); }
  void clear() { bytes_.clear(); }
  std::string take() { return std::move(bytes_); }

 private:
  void raw_varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>((value & 0x7f) | 0x80);
    bytes_ += static_cast<char>(value);
  }

  std::string bytes_;
};

}  // namespace spillway
