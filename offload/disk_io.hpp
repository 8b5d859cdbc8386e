// SPDX-License-Identifier: Apache-2.0
// Reads and writes of one file that go on while the caller does something else: through io_uring
// (liburing), or through a thread where the kernel or a container refuses that. A seam, so that
// tests can fill disks and break them.
#pragma once

#include "core/status.hpp"

#include <cstdint>
#include <memory>
#include <vector>

namespace spillway {

class DiskIo {
 public:
  enum class Kind : std::uint8_t { kRead, kWrite };
  struct Request {
    Kind kind = Kind::kRead;
    std::uint64_t token = 0;  // the caller's, comes back with the result
    void* data = nullptr;     // stays as it is until then
    std::uint64_t bytes = 0;  // below 2 GiB
    std::uint64_t offset = 0;
  };
  struct Done {
    std::uint64_t token = 0;
    std::int64_t result = 0;  // bytes, perhaps fewer than asked for; or minus an errno
  };

  DiskIo() = default;
  DiskIo(const DiskIo&) = delete;
  DiskIo& operator=(const DiskIo&) = delete;
  DiskIo(DiskIo&&) = delete;
  DiskIo& operator=(DiskIo&&) = delete;
  /// REQUIRES: nothing is under way.
  virtual ~DiskIo() = default;

  /// Requests that may be under way at once.
  [[nodiscard]] virtual std::uint32_t depth() const = 0;
  /// Begins a request. REQUIRES: fewer than depth() are under way. Any failure: it was not begun.
  virtual Status submit(const Request& request) = 0;
  /// Appends what has ended; with `wait`, at least one. REQUIRES, with `wait`: something is under
  /// way.
  virtual Status reap(bool wait, std::vector<Done>* done) = 0;
  [[nodiscard]] virtual const char* name() const = 0;
};

/// Through io_uring. `file`: an open descriptor, which stays the caller's. kUnsupported: built
/// without liburing, or the kernel refuses.
Result<std::unique_ptr<DiskIo>> make_uring_io(int file);
/// Through a thread.
Result<std::unique_ptr<DiskIo>> make_thread_io(int file);

}  // namespace spillway
