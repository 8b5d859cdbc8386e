// SPDX-License-Identifier: Apache-2.0
// A file of raw little-endian values, read in chunks: nothing in it is interpreted, so no content
// is wrong, and its size costs time but no memory.
#pragma once

#include "core/status.hpp"
#include "core/tag.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace spillway::cli {

class ValueFile {
 public:
  /// From byte `offset` on. kIo: cannot be opened, or is no regular file. kBadInput: nothing after
  /// `offset`, or no whole number of values. Texts name path and offset.
  static Result<ValueFile> open(const std::string& path, Dtype dtype, std::uint64_t offset);

  ValueFile(ValueFile&& other) noexcept;
  ValueFile& operator=(ValueFile&&) = delete;
  ValueFile(const ValueFile&) = delete;
  ValueFile& operator=(const ValueFile&) = delete;
  ~ValueFile();

  /// Of all values.
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  /// Fills `out` with the next bytes; kIo when the file has become shorter meanwhile.
  Status read(std::span<std::byte> out);

 private:
  ValueFile(int fd, std::string path, std::uint64_t offset, std::uint64_t bytes);

  int fd_;
  std::string path_;
  std::uint64_t at_;  // offset of the next byte in the file
  std::uint64_t bytes_;
};

}  // namespace spillway::cli
