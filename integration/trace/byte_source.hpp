// SPDX-License-Identifier: Apache-2.0
// Where a reader's bytes come from: a file (gzip is recognised by content and unpacked on the way),
// or memory for tests and fuzzers. BufferedInput gives peek, skip, lines and the offset for error
// texts. Offsets count unpacked bytes.
#pragma once

#include "core/status.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace spillway {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// Reads up to `bytes` bytes into `data`; 0 means the end. Fails with kIo or, for a damaged gzip
  /// stream, kBadInput.
  virtual Result<std::size_t> read(char* data, std::size_t bytes) = 0;
  /// How the source is named in error texts: the path, or "<memory>".
  [[nodiscard]] virtual const std::string& name() const = 0;
  /// Bytes consumed from the underlying file and its size (0 when unknown), for progress.
  [[nodiscard]] virtual std::uint64_t consumed_bytes() const = 0;
  [[nodiscard]] virtual std::uint64_t total_bytes() const = 0;
};

/// Opens a regular file, gzip or plain. A directory, a missing file or no permission is a kIo error
/// naming the path.
Result<std::unique_ptr<ByteSource>> open_file_source(const std::string& path);

/// Reads from `bytes`, which must outlive the source; gzip is unpacked here too.
std::unique_ptr<ByteSource> memory_source(std::string_view bytes, std::string name = "<memory>");

/// A window over a ByteSource. After a failed read, every call keeps returning that error.
class BufferedInput {
 public:
  explicit BufferedInput(ByteSource& source, std::size_t window_bytes = std::size_t{256} * 1024);

  /// At least `bytes` bytes from the current position if the input still has them, fewer only at
  /// the end of the input. Valid until the next call. REQUIRES: bytes <= 64 MiB.
  Result<std::string_view> peek(std::size_t bytes);
  /// REQUIRES: bytes <= what the last peek returned.
  void consume(std::size_t bytes);
  /// Exactly `bytes` bytes, or kBadInput "name: offset N: expected K bytes of WHAT, found the end
  /// of the file".
  Result<std::string_view> take(std::size_t bytes, std::string_view what);
  /// The next line without its "\n" or "\r\n"; fails on a line over `max_bytes`. REQUIRES: not
  /// at_end().
  Result<std::string_view> line(std::size_t max_bytes = std::size_t{16} * 1024 * 1024);
  Result<bool> at_end();

  [[nodiscard]] std::uint64_t offset() const { return offset_; }
  ByteSource& source() { return source_; }
  /// kBadInput "name: offset N: text" at the current offset.
  Status error(const std::string& text) const;

 private:
  Status fill(std::size_t bytes);

  ByteSource& source_;
  std::string buffer_;
  std::size_t begin_ = 0;  // first unread byte in buffer_
  std::size_t end_ = 0;    // begin_ <= end_ <= buffer_.size()
  std::uint64_t offset_ = 0;
  bool source_ended_ = false;
  Status failed_;
};

}  // namespace spillway
