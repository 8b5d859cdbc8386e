// SPDX-License-Identifier: Apache-2.0
// Slots are cut into chunks; so many chunks as the queue takes are under way, the others wait in
// order. A transfer that came up short goes on where it ended.
#include "offload/disk_store.hpp"

#include "kernels/host_codec.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace spillway {
namespace {

struct OpenedFile {
  int descriptor = -1;
  bool is_direct = false;
};

/// A file without a name, past the page cache if the file system can.
OpenedFile open_nameless(const std::string& directory, bool use_direct) {
  constexpr mode_t kMine = 0600;
  if (use_direct) {
    const int file = ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC | O_DIRECT, kMine);
    if (file >= 0) return {file, true};
  }
  int file = ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, kMine);
  if (file >= 0) return {file, false};
  if (errno != EOPNOTSUPP && errno != EISDIR) return {};
  std::string name = directory + "/spillway-XXXXXX";
  file = ::mkostemp(name.data(), O_CLOEXEC);
  if (file >= 0) ::unlink(name.c_str());
  return {file, false};
}

std::uint64_t fingerprint_of(const char* data, std::uint64_t bytes) {
  return fingerprint({reinterpret_cast<const std::byte*>(data), bytes});
}

Status disk_error(const char* doing, int error) {
  return {Code::kIo, std::string("disk store: ") + doing + ": " + std::strerror(error)};
}

bool is_aligned(const void* data) {
  return reinterpret_cast<std::uintptr_t>(data) % DiskStore::kAlignment == 0;
}

}  // namespace

Result<std::unique_ptr<DiskStore>> DiskStore::create(const DiskStoreOptions& options) {
  if (options.chunk_bytes == 0 || options.chunk_bytes % kAlignment != 0 ||
      options.chunk_bytes >= std::uint64_t{1} << 31)
    return Status(Code::kInvalidArgument, "disk store: chunks are multiples of 4 KiB below 2 GiB");
  const OpenedFile file = open_nameless(options.directory, options.use_direct);
  if (file.descriptor < 0) {
    const std::string where = "a file in '" + options.directory + "'";
    return disk_error(where.c_str(), errno);
  }
  std::unique_ptr<DiskStore> store(new DiskStore(options, file.descriptor));
  Result<std::unique_ptr<DiskIo>> io = options.make_io     ? options.make_io(file.descriptor)
                                       : options.use_uring ? make_uring_io(file.descriptor)
                                                           : make_thread_io(file.descriptor);
  if (!io.ok() && io.status().code() == Code::kUnsupported) io = make_thread_io(file.descriptor);
  if (!io.ok()) return io.status();
  const LockGuard lock(store->mutex_);
  store->io_ = std::move(io).value();
  store->stats_.budget_bytes = options.budget_bytes;
  store->stats_.is_direct = file.is_direct;
  store->stats_.io = store->io_->name();
  return store;
}

DiskStore::~DiskStore() {
  {
    const LockGuard lock(mutex_);
    waiting_.clear();
    while (io_ != nullptr && !under_way_.empty()) take_note(true);
    io_.reset();
  }
  ::close(file_);
}

Result<DiskSlot> DiskStore::write(const void* data, std::uint64_t bytes) {
  if (data == nullptr || bytes == 0 || !is_aligned(data))
    return Status(Code::kInvalidArgument,
                  "disk store: writes take bytes at a multiple of 4 KiB, and at least one");
  const std::uint64_t padded = padded_bytes(bytes);
  // Under no lock: it reads all of the bytes.
  Slot slot;
  slot.bytes = bytes;
  slot.fingerprint = fingerprint_of(static_cast<const char*>(data), bytes);
  const LockGuard lock(mutex_);
  take_note(false);
  const auto offset = extents_.take(padded, options_.budget_bytes);
  if (!offset)
    return Status(Code::kOutOfMemory,
                  "disk store: " + std::to_string(padded) + " bytes more than the budget of " +
                      std::to_string(options_.budget_bytes) + " has room for");
  slot.offset = *offset;
  // A full disk says so here and not in the middle of a write.
  if (::fallocate(file_, 0, static_cast<off_t>(*offset), static_cast<off_t>(padded)) != 0 &&
      errno != EOPNOTSUPP && errno != EINTR) {
    const int error = errno;
    ++stats_.failures;
    extents_.give(*offset, padded);
    shrink();
    return disk_error("room for a write", error);
  }
  const std::uint64_t id = ++last_slot_;
  Slot& placed = slots_.emplace(id, slot).first->second;
  stats_.file_bytes_peak = std::max(stats_.file_bytes_peak, extents_.end_bytes());
  // Requests do not change what they write from; they have one type for both directions.
  start(&placed, id, DiskIo::Kind::kWrite, const_cast<char*>(static_cast<const char*>(data)));
  return DiskSlot{id};
}

Status DiskStore::read(DiskSlot slot, void* to) {
  if (to == nullptr || !is_aligned(to))
    return {Code::kInvalidArgument, "disk store: reads go to a multiple of 4 KiB"};
  const LockGuard lock(mutex_);
  take_note(false);
  const auto at = slots_.find(slot.value);
  if (at == slots_.end()) return {Code::kNotFound, "disk store: no such slot"};
  if (!at->second.stored || at->second.data != nullptr)
    return {Code::kInvalidArgument, "disk store: the slot is being written or read"};
  start(&at->second, slot.value, DiskIo::Kind::kRead, static_cast<char*>(to));
  return {};
}

void DiskStore::start(Slot* slot, std::uint64_t id, DiskIo::Kind kind, char* data) {
  slot->data = data;
  slot->reading = kind == DiskIo::Kind::kRead;
  slot->error = 0;
  const std::uint64_t padded = padded_bytes(slot->bytes);
  for (std::uint64_t at = 0; at < padded; at += options_.chunk_bytes) {
    waiting_.push_back(
        {id, kind, data + at, std::min(options_.chunk_bytes, padded - at), slot->offset + at});
    ++slot->chunks_left;
  }
  submit_waiting();
}

void DiskStore::submit_waiting() {
  while (!waiting_.empty() && under_way_.size() < io_->depth()) {
    const Chunk chunk = waiting_.front();
    waiting_.pop_front();
    const std::uint64_t token = ++last_token_;
    const Status begun = io_->submit({chunk.kind, token, chunk.data, chunk.bytes, chunk.offset});
    if (begun.ok())
      under_way_.emplace(token, chunk);
    else
      end_chunk(chunk, EIO);
  }
}

void DiskStore::take_note(bool wait) {
  std::vector<DiskIo::Done> done;
  if (!io_->reap(wait && !under_way_.empty(), &done).ok()) {
    ++stats_.failures;
    if (!wait) return;
    // No more will be heard of them; better an error than a host that waits forever.
    for (const auto& [token, chunk] : under_way_) end_chunk(chunk, EIO);
    under_way_.clear();
  }
  for (const DiskIo::Done& result : done) {
    const auto at = under_way_.find(result.token);
    if (at == under_way_.end()) continue;
    Chunk chunk = at->second;
    under_way_.erase(at);
    if (result.result <= 0) {
      // Nothing where there should be something: the file is shorter than it was made.
      end_chunk(chunk, result.result == 0 ? EIO : static_cast<int>(-result.result));
      continue;
    }
    const std::uint64_t bytes =
        std::min(static_cast<std::uint64_t>(result.result), chunk.bytes) / kAlignment * kAlignment;
    (chunk.kind == DiskIo::Kind::kRead ? stats_.read_bytes : stats_.written_bytes) += bytes;
    if (bytes == chunk.bytes) {
      end_chunk(chunk, 0);
    } else if (bytes == 0) {
      end_chunk(chunk, EIO);  // less than a page: it would never end
    } else {
      chunk.data += bytes;
      chunk.offset += bytes;
      chunk.bytes -= bytes;
      waiting_.push_front(chunk);
    }
  }
  submit_waiting();
}

void DiskStore::end_chunk(const Chunk& chunk, int error) {
  Slot& slot = slots_.at(chunk.slot);
  if (slot.error == 0) slot.error = error;
  --slot.chunks_left;
  if (error != 0) ++stats_.failures;
}

Result<bool> DiskStore::look_at_write(std::uint64_t id, const Slot& slot) {
  if (slot.error == 0) {
    slots_.at(id).stored = true;
    slots_.at(id).data = nullptr;
    return true;
  }
  const int error = slot.error;
  extents_.give(slot.offset, padded_bytes(slot.bytes));
  slots_.erase(id);
  shrink();
  return disk_error("write", error);
}

Result<bool> DiskStore::look_at_read(Slot* slot) {
  const char* data = std::exchange(slot->data, nullptr);
  slot->reading = false;
  if (slot->error != 0) return disk_error("read", slot->error);
  if (fingerprint_of(data, slot->bytes) == slot->fingerprint) return true;
  ++stats_.mismatches;
  return Status(Code::kIo, "disk store: what was read is not what was written");
}

Result<bool> DiskStore::look(std::uint64_t id, bool reading, bool wait) {
  take_note(false);
  for (;;) {
    const auto at = slots_.find(id);
    if (at == slots_.end()) return Status(Code::kNotFound, "disk store: no such slot");
    Slot& slot = at->second;
    if (slot.data == nullptr) {
      if (!reading || slot.stored) return true;  // over, and told
    }
    if (slot.chunks_left == 0) return slot.reading ? look_at_read(&slot) : look_at_write(id, slot);
    if (!wait) return false;
    ++stats_.host_waits;
    take_note(true);
  }
}

Result<bool> DiskStore::is_stored(DiskSlot slot) {
  const LockGuard lock(mutex_);
  const auto at = slots_.find(slot.value);
  if (at != slots_.end() && at->second.stored) return true;
  return look(slot.value, false, false);
}

Result<bool> DiskStore::is_read(DiskSlot slot) {
  const LockGuard lock(mutex_);
  return look(slot.value, true, false);
}

Status DiskStore::wait(DiskSlot slot) {
  const LockGuard lock(mutex_);
  const auto at = slots_.find(slot.value);
  const bool reading = at != slots_.end() && at->second.reading;
  return look(slot.value, reading, true).status();
}

Status DiskStore::release(DiskSlot slot) {
  const LockGuard lock(mutex_);
  const auto at = slots_.find(slot.value);
  if (at == slots_.end()) return {Code::kNotFound, "disk store: no such slot"};
  std::erase_if(waiting_, [&](const Chunk& chunk) SPW_NO_THREAD_SAFETY {
    if (chunk.slot == slot.value) --at->second.chunks_left;
    return chunk.slot == slot.value;
  });
  while (at->second.chunks_left != 0) {
    ++stats_.host_waits;
    take_note(true);
  }
  extents_.give(at->second.offset, padded_bytes(at->second.bytes));
  slots_.erase(at);
  shrink();
  return {};
}

// What lies past the end is given back to the file system.
void DiskStore::shrink() {
  static_cast<void>(::ftruncate(file_, static_cast<off_t>(extents_.end_bytes())));
}

void DiskStore::poll() {
  const LockGuard lock(mutex_);
  take_note(false);
}

DiskStats DiskStore::stats() const {
  const LockGuard lock(mutex_);
  DiskStats stats = stats_;
  stats.used_bytes = extents_.used_bytes();
  stats.file_bytes = extents_.end_bytes();
  return stats;
}

Status DiskStore::check_invariants() const {
  const LockGuard lock(mutex_);
  const auto broken = [](const char* what) {
    return Status(Code::kInternal, std::string("disk store: ") + what);
  };
  if (!extents_.check()) return broken("ranges of the file");
  if (extents_.end_bytes() > options_.budget_bytes) return broken("the file passes the budget");
  std::uint64_t used = 0;
  std::uint64_t left = 0;
  for (const auto& [id, slot] : slots_) {
    used += padded_bytes(slot.bytes);
    left += slot.chunks_left;
  }
  if (used != extents_.used_bytes()) return broken("slots and ranges differ");
  if (left != waiting_.size() + under_way_.size()) return broken("a chunk is lost");
  return {};
}

}  // namespace spillway
