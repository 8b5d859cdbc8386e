// SPDX-License-Identifier: Apache-2.0
// The slow path of the live log: the file, its growth, and new chunks. Guarded by a mutex; a thread
// comes here once per chunk.
#include "integration/trace/spwt_live_writer.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <mutex>
#include <sys/mman.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace spillway {
namespace {

/// Large enough for any page size, so that chunks can be mapped one by one.
constexpr std::uint32_t kHeaderBytes = 64 * 1024;

Status io_error(const std::string& path, std::string_view doing, int error) {
  return {Code::kIo,
          path + ": cannot " + std::string(doing) + ": " + std::generic_category().message(error)};
}

std::atomic_ref<std::uint64_t> number_at(std::byte* place) {
  return std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(place));
}

}  // namespace

struct LiveLog::Impl {
  std::string path;
  LiveLogOptions options;
  int descriptor = -1;
  std::byte* header = nullptr;  // kHeaderBytes, mapped
  std::atomic<bool> full{false};
  std::mutex growing;  // for the two below
  std::uint64_t chunk_count = 0;
  std::uint64_t reserved_count = 0;  // chunks that the file has room for
  bool closed = false;

  Impl() = default;
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  Impl(Impl&&) = delete;
  Impl& operator=(Impl&&) = delete;
  ~Impl() {
    if (header != nullptr) ::munmap(header, kHeaderBytes);
    if (descriptor >= 0) ::close(descriptor);
  }

  [[nodiscard]] std::uint64_t chunk_offset(std::uint64_t index) const {
    return kHeaderBytes + index * options.chunk_bytes;
  }

  /// Room for one more chunk. False when the cap or the disk says no.
  bool reserve_chunk() {
    if (chunk_count < reserved_count) return true;
    const std::uint64_t most = (options.bytes_max - kHeaderBytes) / options.chunk_bytes;
    const std::uint64_t wanted = std::min(most, reserved_count + options.chunks_per_step);
    if (wanted <= reserved_count) return false;
    const std::uint64_t from = chunk_offset(reserved_count);
    if (::posix_fallocate(descriptor,
                          static_cast<off_t>(from),
                          static_cast<off_t>(chunk_offset(wanted) - from)) != 0)
      return false;
    reserved_count = wanted;
    return true;
  }
};

LiveLog::LiveLog(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

LiveLog::~LiveLog() { static_cast<void>(close()); }

Result<std::unique_ptr<LiveLog>> LiveLog::create(const std::string& path,
                                                 const LiveLogOptions& options) {
  if (options.chunk_bytes == 0 || options.chunk_bytes % kHeaderBytes != 0 ||
      options.chunk_bytes > kLiveChunkBytesMax || options.chunks_per_step == 0 ||
      options.bytes_max < kHeaderBytes + std::uint64_t{options.chunk_bytes} ||
      options.bytes_max > std::uint64_t{1} << 62)
    return Status(
        Code::kInvalidArgument,
        path + ": expected chunks of 64 KiB to 16 MiB in steps of 64 KiB, and room for one");
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  impl->options = options;
  // Another process may still map a log of that name: cutting it short would kill that process.
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return io_error(path, "replace", errno);
  impl->descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (impl->descriptor < 0) return io_error(path, "create", errno);
  if (const int error = ::posix_fallocate(impl->descriptor, 0, kHeaderBytes); error != 0) {
    ::unlink(path.c_str());
    return io_error(path, "write", error);
  }
  void* mapped =
      ::mmap(nullptr, kHeaderBytes, PROT_READ | PROT_WRITE, MAP_SHARED, impl->descriptor, 0);
  if (mapped == MAP_FAILED) {
    const int error = errno;
    ::unlink(path.c_str());
    return io_error(path, "map", error);
  }
  impl->header = static_cast<std::byte*>(mapped);
  LiveFileHeader header;
  header.header_bytes = kHeaderBytes;
  header.chunk_bytes = options.chunk_bytes;
  const std::string bytes = store_live_file_header(header);
  std::memcpy(impl->header, bytes.data(), bytes.size());
  return std::unique_ptr<LiveLog>(new LiveLog(std::move(impl)));
}

std::unique_ptr<LiveLogWriter> LiveLog::writer(std::uint64_t thread) {
  return std::unique_ptr<LiveLogWriter>(new LiveLogWriter(*this, thread));
}

std::uint64_t LiveLog::dropped_count() const {
  return number_at(impl_->header + kLiveDroppedCountAt).load(std::memory_order_relaxed);
}

void LiveLog::count_dropped() {
  number_at(impl_->header + kLiveDroppedCountAt).fetch_add(1, std::memory_order_relaxed);
}

std::byte* LiveLog::add_chunk(std::uint64_t thread, std::uint64_t sequence, std::uint64_t time_ns) {
  Impl& log = *impl_;
  if (log.full.load(std::memory_order_relaxed)) return nullptr;
  const std::lock_guard<std::mutex> lock(log.growing);
  if (log.closed || !log.reserve_chunk()) {
    log.full.store(true, std::memory_order_relaxed);
    return nullptr;
  }
  // Populated at once: a page fault per 128 records would be on the hot path.
  void* mapped = ::mmap(nullptr,
                        log.options.chunk_bytes,
                        PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_POPULATE,
                        log.descriptor,
                        static_cast<off_t>(log.chunk_offset(log.chunk_count)));
  if (mapped == MAP_FAILED) {
    log.full.store(true, std::memory_order_relaxed);
    return nullptr;
  }
  auto* chunk = static_cast<std::byte*>(mapped);
  LiveChunkHeader header;
  header.thread = thread;
  header.sequence = sequence;
  header.time_ns = time_ns;
  const std::string bytes = store_live_chunk_header(header);
  // The magic last: a reader of a killed process's log sees a whole header or none.
  std::memcpy(chunk + kLiveChunkMagic.size(),
              bytes.data() + kLiveChunkMagic.size(),
              bytes.size() - kLiveChunkMagic.size());
  std::uint64_t magic = 0;
  std::memcpy(&magic, bytes.data(), sizeof(magic));
  number_at(chunk).store(magic, std::memory_order_release);
  ++log.chunk_count;
  number_at(log.header + kLiveChunkCountAt).store(log.chunk_count, std::memory_order_release);
  return chunk;
}

Status LiveLog::close() {
  Impl& log = *impl_;
  const std::lock_guard<std::mutex> lock(log.growing);
  if (log.closed) return {};
  log.closed = true;
  number_at(log.header + kLiveClosedAt).store(1, std::memory_order_release);
  if (::ftruncate(log.descriptor, static_cast<off_t>(log.chunk_offset(log.chunk_count))) != 0)
    return io_error(log.path, "give back reserved space", errno);
  return {};
}

LiveLogWriter::~LiveLogWriter() { unmap(); }

void LiveLogWriter::unmap() {
  if (chunk_ != nullptr) ::munmap(chunk_, log_.impl_->options.chunk_bytes);
  chunk_ = next_ = end_ = nullptr;
}

bool LiveLogWriter::begin_chunk() {
  std::byte* chunk = log_.add_chunk(thread_, sequence_, last_time_ns_);
  if (chunk == nullptr) {
    // The rest of the current chunk stays unused: what follows a gap must not look as if it
    // followed on.
    next_ = end_;
    log_.count_dropped();
    return false;
  }
  unmap();
  ++sequence_;
  chunk_ = chunk;
  const std::uint64_t slots =
      (log_.impl_->options.chunk_bytes - kLiveChunkHeaderBytes) / kLiveSlotBytes;
  next_ = chunk + kLiveChunkHeaderBytes;
  end_ = next_ + slots * kLiveSlotBytes;
  committed_ = reinterpret_cast<std::uint64_t*>(chunk + kLiveCommittedAt);
  committed_count_ = 0;
  return true;
}

void LiveLogWriter::string(StringId id, std::string_view text) {
  Record head;
  head.kind = static_cast<RecordKind>(kLiveStringKind);
  head.id = id.value;
  if (text.size() > kLiveStringBytesMax) {
    text = text.substr(0, kLiveStringBytesMax);
    head.flags = kLiveStringCut;
  }
  head.arg = text.size();
  const std::uint64_t slot_count = 1 + (text.size() + kLiveSlotBytes - 1) / kLiveSlotBytes;
  // next_ and end_ are null before the first chunk.
  if (static_cast<std::uint64_t>(end_ - next_) < slot_count * kLiveSlotBytes && !begin_chunk())
    return;
  std::memcpy(next_, &head, kLiveSlotBytes);
  if (!text.empty()) std::memcpy(next_ + kLiveSlotBytes, text.data(), text.size());
  commit(slot_count);
}

}  // namespace spillway
