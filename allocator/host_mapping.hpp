// SPDX-License-Identifier: Apache-2.0
// Memory straight from the kernel, for slabs that will be pinned: whole pages, huge if wished and
// possible, on a NUMA node if wished and possible, touched before the driver sees them. The system
// calls come through a table, so that tests can refuse each of them.
#pragma once

#include "core/status.hpp"

#include <cstddef>
#include <cstdint>
#include <utility>

namespace spillway {

/// The system calls in use. All but `map` return 0 or an errno. No lock may be held around any.
struct HostPageCalls {
  /// New private anonymous pages with these extra MAP_ flags; null with *error set.
  void* (*map)(std::size_t bytes, int flags, int* error) = nullptr;
  int (*unmap)(void* pointer, std::size_t bytes) = nullptr;
  int (*advise)(void* pointer, std::size_t bytes, int advice) = nullptr;
  /// Prefer a NUMA node for pages not yet touched; others serve when it is full.
  int (*prefer_node)(void* pointer, std::size_t bytes, int node) = nullptr;
};

/// Those of this machine.
const HostPageCalls& system_page_calls();

std::size_t host_page_bytes();
inline constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;

enum class HugePages : std::uint8_t {
  kOff,
  kTransparent,  // madvise(MADV_HUGEPAGE); the kernel decides
  kExplicit,     // MAP_HUGETLB of 2 MiB from the machine's pool of such pages, else kTransparent
};

struct HostMappingOptions {
  HugePages huge_pages = HugePages::kOff;
  int numa_node = -1;  // -1: wherever the kernel likes
};

/// Move-only owner of a mapping. Threads: different parts may be used by different threads.
class HostMapping {
 public:
  /// `bytes` as given: REQUIRES a multiple of host_page_bytes(); a size that is no multiple of
  /// kHugePageBytes gets no explicit huge pages. kOutOfMemory when the kernel gives none. Huge
  /// pages, node and MADV_DONTFORK (children of a fork do not see pinned memory, which would be
  /// copied under the device otherwise) are wishes: without them the mapping is still made.
  static Result<HostMapping> create(const HostPageCalls& calls,
                                    std::size_t bytes,
                                    const HostMappingOptions& options);
  HostMapping() = default;
  HostMapping(const HostMapping&) = delete;
  HostMapping& operator=(const HostMapping&) = delete;
  HostMapping(HostMapping&& other) noexcept { swap(other); }
  HostMapping& operator=(HostMapping&& other) noexcept {
    HostMapping moved(std::move(other));
    swap(moved);
    return *this;
  }
  ~HostMapping();

  [[nodiscard]] bool empty() const { return pointer_ == nullptr; }
  [[nodiscard]] std::byte* data() const { return static_cast<std::byte*>(pointer_); }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  /// What was granted.
  [[nodiscard]] HugePages huge_pages() const { return huge_pages_; }
  [[nodiscard]] int numa_node() const { return numa_node_; }

  /// Gives pages [offset, offset + bytes) memory now. Contents do not change. kOutOfMemory when
  /// there is none. REQUIRES: inside the mapping, whole pages.
  Status populate(std::size_t offset, std::size_t bytes) const;

  /// Gives the mapping up: it stays until the process ends.
  void leak() { pointer_ = nullptr; }

 private:
  void swap(HostMapping& other) noexcept;

  const HostPageCalls* calls_ = nullptr;
  void* pointer_ = nullptr;
  std::size_t bytes_ = 0;
  HugePages huge_pages_ = HugePages::kOff;
  int numa_node_ = -1;
};

}  // namespace spillway
