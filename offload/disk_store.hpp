// SPDX-License-Identifier: Apache-2.0
// The disk tier: bytes of host memory in a private file that has no name, written and read while
// the caller goes on, inside a byte budget. What comes back is compared with its fingerprint; a
// full or broken disk is an answer, and the bytes are still where they were.
#pragma once

#include "core/mutex.hpp"
#include "core/status.hpp"
#include "offload/disk_io.hpp"
#include "offload/extents.hpp"

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>

namespace spillway {

struct DiskStoreOptions {
  std::string directory;           // where the file lies; must support files without a name
  std::uint64_t budget_bytes = 0;  // of the file; 0: every write is refused
  bool use_direct = true;          // past the page cache, where the file system can
  bool use_uring = true;           // where the kernel lets us
  std::uint64_t chunk_bytes = std::uint64_t{4} << 20;  // of one request
  /// Tests: what reads and writes the file instead.
  std::function<Result<std::unique_ptr<DiskIo>>(int file)> make_io;
};

/// Bytes in the store, from write() to release().
struct DiskSlot {
  std::uint64_t value = 0;
  [[nodiscard]] bool valid() const { return value != 0; }
};

struct DiskStats {
  std::uint64_t budget_bytes = 0;
  std::uint64_t used_bytes = 0;  // in slots, padding included
  std::uint64_t file_bytes = 0;  // length of the file <= budget
  std::uint64_t file_bytes_peak = 0;
  std::uint64_t written_bytes = 0;
  std::uint64_t read_bytes = 0;
  std::uint64_t failures = 0;    // of the disk
  std::uint64_t mismatches = 0;  // of fingerprints
  std::uint64_t host_waits = 0;
  bool is_direct = false;
  const char* io = "";  // "io_uring", "thread"
};

/// Slots are 4 KiB multiples in the file. Threads: any; its lock is held over requests to the
/// kernel, so nothing that must not wait for a disk may hold the caller's locks.
class DiskStore {
 public:
  /// Memory given to write() and read() lies at multiples of this, and has its last page whole or
  /// not at all: see padded_bytes().
  static constexpr std::uint64_t kAlignment = 4096;

  /// kIo when no file can be made there; kInvalidArgument for chunks that are no multiple of
  /// kAlignment. The file disappears with the process, however that ends.
  static Result<std::unique_ptr<DiskStore>> create(const DiskStoreOptions& options);
  DiskStore(const DiskStore&) = delete;
  DiskStore& operator=(const DiskStore&) = delete;
  DiskStore(DiskStore&&) = delete;
  DiskStore& operator=(DiskStore&&) = delete;
  /// Waits for what is under way.
  ~DiskStore();

  /// What the memory of `bytes` bytes must have room for: whole pages.
  static std::uint64_t padded_bytes(std::uint64_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }

  /// Begins to write `bytes` bytes at `data`, which has padded_bytes() and stays as it is until
  /// is_stored(). kOutOfMemory: the budget; kInvalidArgument: null, zero bytes, not aligned.
  Result<DiskSlot> write(const void* data, std::uint64_t bytes);
  /// Whether all is written. kIo: the disk refused or is full; the slot is gone, the data is where
  /// it was. kNotFound: no such slot.
  Result<bool> is_stored(DiskSlot slot);

  /// Begins to read a stored slot into `to`, of padded_bytes() that nobody uses until is_read().
  /// kInvalidArgument: not stored yet, being read, or memory as for write().
  Status read(DiskSlot slot, void* to);
  /// Whether all is read, and is what was written. kIo: the disk failed, or the fingerprint differs
  /// (the text says which); the slot stays, to be read again or released.
  Result<bool> is_read(DiskSlot slot);

  /// Waits for the write or read of the slot and answers as is_stored() or is_read().
  Status wait(DiskSlot slot);
  /// Its bytes are free. Waits for what is under way on it.
  Status release(DiskSlot slot);
  /// Takes note of what has ended and begins what waits; never waits for the disk.
  void poll();

  [[nodiscard]] DiskStats stats() const;
  /// kInternal with the first invariant that does not hold.
  [[nodiscard]] Status check_invariants() const;

 private:
  struct Slot {
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
    std::uint64_t fingerprint = 0;
    char* data = nullptr;  // of the transfer under way
    bool reading = false;
    bool stored = false;
    std::uint64_t chunks_left = 0;  // of the transfer under way
    int error = 0;                  // first errno of it
  };
  struct Chunk {
    std::uint64_t slot = 0;
    DiskIo::Kind kind = DiskIo::Kind::kRead;
    char* data = nullptr;
    std::uint64_t bytes = 0;
    std::uint64_t offset = 0;
  };

  DiskStore(const DiskStoreOptions& options, int file) : options_(options), file_(file) {}
  void start(Slot* slot, std::uint64_t id, DiskIo::Kind kind, char* data) SPW_REQUIRES(mutex_);
  void submit_waiting() SPW_REQUIRES(mutex_);
  void take_note(bool wait) SPW_REQUIRES(mutex_);
  void end_chunk(const Chunk& chunk, int error) SPW_REQUIRES(mutex_);
  Result<bool> look(std::uint64_t id, bool reading, bool wait) SPW_REQUIRES(mutex_);
  Result<bool> look_at_write(std::uint64_t id, const Slot& slot) SPW_REQUIRES(mutex_);
  Result<bool> look_at_read(Slot* slot) SPW_REQUIRES(mutex_);
  void shrink() SPW_REQUIRES(mutex_);

  const DiskStoreOptions options_;
  const int file_;
  mutable Mutex mutex_{"disk store"};
  std::unique_ptr<DiskIo> io_ SPW_GUARDED_BY(mutex_);
  Extents extents_ SPW_GUARDED_BY(mutex_);
  std::map<std::uint64_t, Slot> slots_ SPW_GUARDED_BY(mutex_);
  std::deque<Chunk> waiting_ SPW_GUARDED_BY(mutex_);
  std::map<std::uint64_t, Chunk> under_way_ SPW_GUARDED_BY(mutex_);  // by token
  std::uint64_t last_token_ SPW_GUARDED_BY(mutex_) = 0;
  std::uint64_t last_slot_ SPW_GUARDED_BY(mutex_) = 0;
  DiskStats stats_ SPW_GUARDED_BY(mutex_);
};

}  // namespace spillway
