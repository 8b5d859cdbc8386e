// SPDX-License-Identifier: Apache-2.0
// Which ranges of a file are in use: best fit, neighbours merge, the file grows at its end and
// shrinks when its end is free.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

namespace spillway {

/// INVARIANTS (check()): free ranges lie inside [0, end), do not touch one another nor `end`;
/// used + free == end. Threads: none.
class Extents {
 public:
  /// Offset of `bytes` that are in use from now on; nothing when the file would pass `limit_bytes`.
  /// REQUIRES: bytes > 0.
  std::optional<std::uint64_t> take(std::uint64_t bytes, std::uint64_t limit_bytes);
  /// REQUIRES: [offset, offset + bytes) was taken, in one piece.
  void give(std::uint64_t offset, std::uint64_t bytes);

  [[nodiscard]] std::uint64_t end_bytes() const { return end_bytes_; }  // of the file
  [[nodiscard]] std::uint64_t used_bytes() const { return used_bytes_; }
  [[nodiscard]] bool check() const;

 private:
  std::map<std::uint64_t, std::uint64_t> free_;  // offset -> bytes
  std::uint64_t end_bytes_ = 0;
  std::uint64_t used_bytes_ = 0;
};

}  // namespace spillway
