// SPDX-License-Identifier: Apache-2.0
// Output files are written whole or not at all: bytes go to a temporary file beside the target,
// which takes the target's place in commit(). Without commit() the temporary is removed and the
// target is as it was. Pipes, devices and /dev/stdout are written directly: there is nothing to
// replace. One thread.
#pragma once

#include "core/status.hpp"
#include "integration/trace/byte_sink.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace spillway {

class AtomicFile final : public ByteSink {
 public:
  /// Prepares to replace (or create) `path`. A link is followed; an existing file keeps its
  /// permissions. kIo naming the path and the system's reason: a directory, no permission, no such
  /// folder.
  static Result<AtomicFile> create(const std::string& path);

  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&& other) noexcept;
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile() override;

  /// Buffered. kIo "path: cannot write: REASON" when the disk is full or the pipe is closed.
  Status write(std::string_view bytes) override;
  /// Writes what is buffered, waits until the bytes are on the disk, and puts the file in place.
  /// Call once; a failure leaves the target as it was.
  Status commit();

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::uint64_t written_bytes() const { return written_bytes_; }

 private:
  AtomicFile() = default;
  Status flush();
  Status fail(std::string_view doing, int error);
  void discard();

  std::string path_;       // as the caller named it
  std::string target_;     // path_ with links followed
  std::string temporary_;  // empty when writing directly
  int descriptor_ = -1;    // -1: moved from, failed, or committed
  std::string buffer_;
  std::uint64_t written_bytes_ = 0;
  Status failed_;
};

/// Writes `bytes` as the whole content of `path`: create, write, commit.
Status write_file(const std::string& path, std::string_view bytes);

}  // namespace spillway
