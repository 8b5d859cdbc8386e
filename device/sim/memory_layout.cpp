// SPDX-License-Identifier: Apache-2.0
#include "device/sim/memory_layout.hpp"

#include <bit>

namespace spillway::sim {
namespace {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;
constexpr std::uint64_t kTiB = std::uint64_t{1} << 40;

// Under ThreadSanitizer a process has little more than 1 TiB of addresses.
#if defined(__SANITIZE_THREAD__)
#define SPW_SMALL_ADDRESS_SPACE 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SPW_SMALL_ADDRESS_SPACE 1
#endif
#endif
#if defined(SPW_SMALL_ADDRESS_SPACE)
constexpr std::uint64_t kAddressBytesFull = 16 * kGiB;
constexpr std::uint64_t kPinnedBytesFull = kGiB / 2;
#else
constexpr std::uint64_t kAddressBytesFull = kTiB;
constexpr std::uint64_t kPinnedBytesFull = 4 * kGiB;
#endif

Status invalid(const char* text) { return Status(Code::kInvalidArgument, text); }

}  // namespace

Result<MemoryLayout> MemoryLayout::make(const MemoryOptions& options) {
  MemoryLayout layout;
  MemoryOptions& o = layout.options_;
  o = options;
  const bool full = o.contents == Contents::kFull;
  if (o.address_bytes == 0) o.address_bytes = full ? kAddressBytesFull : 16 * kTiB;
  if (o.pinned_bytes_max == 0) o.pinned_bytes_max = full ? kPinnedBytesFull : kTiB;
  if (o.device_count == 0 || o.device_count > kDevicesMax) {
    return invalid("simulated memory: 1 to 32 devices");
  }
  if (!std::has_single_bit(o.granularity_bytes) || o.granularity_bytes < kPageBytes ||
      o.granularity_bytes > kGiB) {
    return invalid("simulated memory: the granularity is a power of two from 4 KiB to 1 GiB");
  }
  constexpr std::uint64_t kBytesMax = 16 * kTiB;
  if (o.memory_bytes > kBytesMax || o.pinned_bytes_max > kBytesMax ||
      o.address_bytes > 1024 * kTiB) {
    return invalid("simulated memory: at most 16 TiB a device, 16 TiB pinned, 1 PiB of addresses");
  }
  o.memory_bytes = o.memory_bytes & ~(o.granularity_bytes - 1);
  if (o.memory_bytes == 0) {
    return invalid("simulated memory: a device has at least one granule");
  }
  o.pinned_bytes_max = round_up(o.pinned_bytes_max, kPageBytes);
  o.address_bytes = round_up(o.address_bytes, kAlignmentMax);

  layout.plain_shift_ =
      static_cast<unsigned>(std::bit_width(layout.plain_arena().span_bytes() - 1));
  layout.physical_shift_ =
      static_cast<unsigned>(std::bit_width(layout.physical_arena().span_bytes() - 1));
  const std::uint64_t pinned_span = layout.pinned_arena().span_bytes();
  layout.pinned_begin_ = layout.plain_begin(o.device_count);
  layout.managed_begin_ = layout.pinned_begin_ + pinned_span;
  layout.linear_end_ = round_up(layout.managed_begin_ + pinned_span, kAlignmentMax);
  return layout;
}

SlotArena MemoryLayout::plain_arena() const {
  return SlotArena(options_.memory_bytes, kPageBytes, kPageBytes);
}

SlotArena MemoryLayout::physical_arena() const {
  return SlotArena(options_.memory_bytes, options_.granularity_bytes, 0);
}

SlotArena MemoryLayout::pinned_arena() const {
  return SlotArena(options_.pinned_bytes_max, kPageBytes, kPageBytes);
}

}  // namespace spillway::sim
