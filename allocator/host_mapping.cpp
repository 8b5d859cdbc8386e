// SPDX-License-Identifier: Apache-2.0
#include "allocator/host_mapping.hpp"

#include "core/atomic.hpp"
#include "core/host_scheduler.hpp"
#include "core/units.hpp"

#include <climits>

#include <array>
#include <cerrno>
#include <string>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <system_error>
#include <unistd.h>

namespace spillway {
namespace {

// Newer than some C libraries; numbers of linux/mman.h and linux/mempolicy.h.
constexpr int kPopulateWrite = 23;       // MADV_POPULATE_WRITE, Linux 5.14
constexpr int kHuge2MiB = 21 << 26;      // MAP_HUGE_2MB
constexpr unsigned long kPreferred = 1;  // MPOL_PREFERRED
constexpr std::size_t kNodesMax = 1024;  // of this machine type; a larger number is refused

void* map_pages(std::size_t bytes, int flags, int* error) {
  void* pointer =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
  if (pointer != MAP_FAILED) return pointer;
  *error = errno;
  return nullptr;
}

int unmap_pages(void* pointer, std::size_t bytes) {
  return ::munmap(pointer, bytes) == 0 ? 0 : errno;
}

int advise_pages(void* pointer, std::size_t bytes, int advice) {
  return ::madvise(pointer, bytes, advice) == 0 ? 0 : errno;
}

int prefer_node(void* pointer, std::size_t bytes, int node) {
  constexpr std::size_t kBits = sizeof(unsigned long) * CHAR_BIT;
  if (node < 0 || static_cast<std::size_t>(node) + 1 >= kNodesMax) return EINVAL;
  std::array<unsigned long, kNodesMax / kBits> mask{};
  const auto bit = static_cast<std::size_t>(node);
  mask[bit / kBits] = 1ul << (bit % kBits);
  // The kernel reads one bit less than it is told; the last node is never asked for.
  const long result = ::syscall(SYS_mbind, pointer, bytes, kPreferred, mask.data(), kNodesMax, 0ul);
  return result == 0 ? 0 : errno;
}

/// A mapping that begins at a multiple of `alignment`: a larger one with its ends given back.
void* map_aligned(const HostPageCalls& calls,
                  std::size_t bytes,
                  std::size_t alignment,
                  int* error) {
  if (bytes > ~alignment) {
    *error = ENOMEM;
    return nullptr;
  }
  void* whole = calls.map(bytes + alignment, 0, error);
  if (whole == nullptr) return nullptr;
  auto* const begin = static_cast<std::byte*>(whole);
  const std::size_t past = reinterpret_cast<std::uintptr_t>(begin) % alignment;
  const std::size_t head = past == 0 ? 0 : alignment - past;
  if (head != 0) static_cast<void>(calls.unmap(begin, head));
  static_cast<void>(calls.unmap(begin + head + bytes, alignment - head));
  return begin + head;
}

/// Written before memory is unmapped, read after memory is mapped: when the kernel gives an address
/// to one thread that another has just given back, what the one does comes after what the other
/// did, also for those who see the threads' own order only.
Atomic<std::uint64_t>& given_back() {
  static Atomic<std::uint64_t> count(0);
  return count;
}

}  // namespace

const HostPageCalls& system_page_calls() {
  static constexpr HostPageCalls kCalls = {map_pages, unmap_pages, advise_pages, prefer_node};
  return kCalls;
}

std::size_t host_page_bytes() {
  static const auto kBytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return kBytes;
}

Result<HostMapping> HostMapping::create(const HostPageCalls& calls,
                                        std::size_t bytes,
                                        const HostMappingOptions& options) {
  HostMapping mapping;
  mapping.calls_ = &calls;
  mapping.bytes_ = bytes;
  int error = 0;
  if (options.huge_pages == HugePages::kExplicit && bytes % kHugePageBytes == 0) {
    mapping.pointer_ = calls.map(bytes, MAP_HUGETLB | kHuge2MiB, &error);
    if (mapping.pointer_ != nullptr) mapping.huge_pages_ = HugePages::kExplicit;
  }
  if (mapping.pointer_ == nullptr && options.huge_pages != HugePages::kOff) {
    mapping.pointer_ = map_aligned(calls, bytes, kHugePageBytes, &error);
    if (mapping.pointer_ != nullptr && calls.advise(mapping.pointer_, bytes, MADV_HUGEPAGE) == 0)
      mapping.huge_pages_ = HugePages::kTransparent;
  }
  if (mapping.pointer_ == nullptr) mapping.pointer_ = calls.map(bytes, 0, &error);
  if (mapping.pointer_ == nullptr)
    return Status(Code::kOutOfMemory,
                  "mmap of " + format_bytes(bytes) +
                      " of host memory failed: " + std::system_category().message(error));
  static_cast<void>(given_back().load(std::memory_order_acquire));
  if (options.numa_node >= 0 && calls.prefer_node(mapping.pointer_, bytes, options.numa_node) == 0)
    mapping.numa_node_ = options.numa_node;
  static_cast<void>(calls.advise(mapping.pointer_, bytes, MADV_DONTFORK));
  return mapping;
}

HostMapping::~HostMapping() {
  if (pointer_ == nullptr) return;
  const NoAbandonScope no_abandon;
  given_back().fetch_add(1, std::memory_order_acq_rel);
  static_cast<void>(calls_->unmap(pointer_, bytes_));
}

Status HostMapping::populate(std::size_t offset, std::size_t bytes) const {
  std::byte* const begin = data() + offset;
  const int error = calls_->advise(begin, bytes, kPopulateWrite);
  if (error == 0) return {};
  // Touching a huge page that is not there kills the process, so older kernels leave those to the
  // driver, which fails instead.
  if (error == EINVAL && huge_pages_ == HugePages::kExplicit) return {};
  if (error == EINVAL) {
    for (std::size_t at = 0; at < bytes; at += host_page_bytes())
      static_cast<volatile std::byte*>(begin)[at] = std::byte{0};
    return {};
  }
  return {Code::kOutOfMemory,
          "no memory for " + format_bytes(bytes) +
              " of host pages: " + std::system_category().message(error)};
}

void HostMapping::swap(HostMapping& other) noexcept {
  std::swap(calls_, other.calls_);
  std::swap(pointer_, other.pointer_);
  std::swap(bytes_, other.bytes_);
  std::swap(huge_pages_, other.huge_pages_);
  std::swap(numa_node_, other.numa_node_);
}

}  // namespace spillway
