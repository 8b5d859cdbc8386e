// SPDX-License-Identifier: Apache-2.0
#include "device/sim/memory_backing.hpp"

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <string>
#include <sys/mman.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

namespace spillway::sim {
namespace {

std::atomic<std::int64_t> process_areas{0};
std::atomic<std::uint64_t> process_areas_max{0};  // 0: not read yet

// What is mapped by others (libraries, stacks, the heap) comes on top, so a quarter stays free.
std::uint64_t areas_of_machine() {
  unsigned long long count = 65530;
  if (std::FILE* file = std::fopen("/proc/sys/vm/max_map_count", "re"); file != nullptr) {
    if (std::fscanf(file, "%llu", &count) != 1) count = 65530;
    std::fclose(file);
  }
  return count / 4 * 3;
}

int protection(Access access) {
  switch (access) {
    case Access::kNone:
      return PROT_NONE;
    case Access::kRead:
      return PROT_READ;
    case Access::kReadWrite:
      return PROT_READ | PROT_WRITE;
  }
  return PROT_NONE;
}

// NOLINTNEXTLINE(performance-no-int-to-ptr): places are computed, not pointed to
void* at(std::uint64_t address) { return reinterpret_cast<void*>(address); }

bool map_file(void* where, std::uint64_t bytes, int prot, int file, std::uint64_t flat) {
  return mmap(where,
              bytes,
              prot,
              MAP_SHARED | MAP_FIXED | MAP_NORESERVE,
              file,
              static_cast<off_t>(flat)) != MAP_FAILED;
}

bool map_nothing(void* where, std::uint64_t bytes) {
  return mmap(where,
              bytes,
              PROT_NONE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE,
              -1,
              0) != MAP_FAILED;
}

Status failed(const char* what) {
  const int error = errno;
  return Status(
      error == ENOMEM ? Code::kOutOfMemory : Code::kIo,
      std::string("simulated memory: ") + what + ": " + std::generic_category().message(error));
}

}  // namespace

Result<std::unique_ptr<MemoryBacking>> MemoryBacking::create(const MemoryLayout& layout) {
  std::unique_ptr<MemoryBacking> backing(new MemoryBacking(layout));
  SPW_RETURN_IF_ERROR(backing->open());
  return backing;
}

Status MemoryBacking::open() {
  const std::uint64_t span = layout_.address_end();
  const std::uint64_t linear = layout_.linear_end();
  const std::uint64_t flat = layout_.flat_end();
  file_ = memfd_create("spillway-sim", MFD_CLOEXEC);
  if (file_ < 0) return failed("memfd_create");
  if (ftruncate(file_, static_cast<off_t>(flat)) != 0) return failed("ftruncate");

  // A page between the views, so that a stray pointer does not reach from one into the next.
  reservation_bytes_ = kAlignmentMax + 2 * (span + kAlignmentMax) + round_up(flat, kPageBytes);
  reservation_ = mmap(
      nullptr, reservation_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reservation_ == MAP_FAILED) {
    reservation_ = nullptr;
    return failed("reservation of addresses");
  }
  base_ = round_up(reinterpret_cast<std::uint64_t>(reservation_), kAlignmentMax);
  const std::uint64_t mirror = base_ + span + kAlignmentMax;
  const std::uint64_t window = mirror + span + kPageBytes;
  mirror_ = static_cast<std::byte*>(at(mirror));
  window_ = static_cast<std::byte*>(at(window));
  const int read_write = PROT_READ | PROT_WRITE;
  const std::uint64_t host_begin = layout_.pinned_begin();
  if (!map_file(at(mirror), linear, read_write, file_, 0) ||
      !map_file(at(window), flat, read_write, file_, 0) ||
      !map_file(at(base_ + host_begin), linear - host_begin, PROT_NONE, file_, host_begin)) {
    return failed("views of the memory");
  }
  page_guards_bytes_ = round_up((linear - host_begin) / kPageBytes * sizeof(PageGuard), kPageBytes);
  void* guards = mmap(
      nullptr, page_guards_bytes_, read_write, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (guards == MAP_FAILED) return failed("page table of pinned memory");
  page_guards_ = static_cast<PageGuard*>(guards);
  HostGuard::Ranges ranges;
  ranges.base = base_;
  ranges.span_bytes = span;
  ranges.mirror = mirror;
  ranges.host_begin = host_begin;
  ranges.host_end = linear;
  ranges.guards = page_guards_;
  if (!guard_.arm(ranges)) {
    return Status(Code::kOutOfMemory, "simulated memory: too many simulators at once");
  }
  return {};
}

MemoryBacking::~MemoryBacking() {
  guard_.disarm();
  if (page_guards_ != nullptr) munmap(page_guards_, page_guards_bytes_);
  if (reservation_ != nullptr) munmap(reservation_, reservation_bytes_);
  if (file_ >= 0) close(file_);
}

bool MemoryBacking::map_mirror(std::uint64_t offset,
                               std::uint64_t bytes,
                               std::uint64_t flat,
                               Access access) {
  return map_file(mirror(offset), bytes, protection(access), file_, flat);
}

bool MemoryBacking::protect_mirror(std::uint64_t offset, std::uint64_t bytes, Access access) {
  return mprotect(mirror(offset), bytes, protection(access)) == 0;
}

bool MemoryBacking::clear_mirror(std::uint64_t offset, std::uint64_t bytes) {
  return map_nothing(mirror(offset), bytes);
}

bool MemoryBacking::protect_host(std::uint64_t offset, std::uint64_t bytes, Access access) {
  return mprotect(at(base_ + offset), bytes, protection(access)) == 0;
}

bool MemoryBacking::close_host(std::uint64_t offset, std::uint64_t bytes) {
  return map_nothing(at(base_ + offset), bytes);
}

std::uint64_t MemoryBacking::resident_bytes() const {
  struct stat state {};
  if (fstat(file_, &state) != 0) return 0;
  return static_cast<std::uint64_t>(state.st_blocks) * 512;
}

void MemoryBacking::give_back(std::uint64_t flat, std::uint64_t bytes) {
  // A kernel without hole punching keeps the pages: more host memory, the same results.
  (void)fallocate(file_,
                  FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  static_cast<off_t>(flat),
                  static_cast<off_t>(bytes));
}

std::uint64_t MemoryBacking::areas_in_use() {
  const std::int64_t areas = process_areas.load(std::memory_order_relaxed);
  return areas > 0 ? static_cast<std::uint64_t>(areas) : 0;
}

std::uint64_t MemoryBacking::areas_max() {
  std::uint64_t areas = process_areas_max.load(std::memory_order_relaxed);
  if (areas == 0) {
    areas = areas_of_machine();
    process_areas_max.store(areas, std::memory_order_relaxed);
  }
  return areas;
}

void MemoryBacking::set_areas_max(std::uint64_t areas) {
  process_areas_max.store(areas, std::memory_order_relaxed);
}

void MemoryBacking::add_areas(std::int64_t areas) {
  process_areas.fetch_add(areas, std::memory_order_relaxed);
}

}  // namespace spillway::sim
