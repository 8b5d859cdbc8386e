// SPDX-License-Identifier: Apache-2.0
// See cub_peer.hpp.
#include "bench/support/cub_peer.hpp"

#include <cub/util_allocator.cuh>

#include <cstdint>

namespace spillway::bench {

struct CubPeer::Allocator {
  cub::CachingDeviceAllocator cub;
};

namespace {
constexpr std::size_t kNoLimit = cub::CachingDeviceAllocator::INVALID_SIZE;
}

CubPeer::CubPeer(Bins bins)
    : allocator_(bins == Bins::kStock ? new Allocator{}
                 : bins == Bins::kWide
                     ? new Allocator{cub::CachingDeviceAllocator(8, 3, 11, kNoLimit)}
                     : new Allocator{cub::CachingDeviceAllocator(2, 9, 33, kNoLimit)}) {}
CubPeer::~CubPeer() = default;

cu::DevicePtr CubPeer::allocate(std::size_t bytes, cu::Stream stream) {
  void* pointer = nullptr;
  if (allocator_->cub.DeviceAllocate(&pointer, bytes, stream) != cudaSuccess) return 0;
  return reinterpret_cast<std::uintptr_t>(pointer);
}

void CubPeer::free(cu::DevicePtr pointer) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): a device address
  static_cast<void>(
      allocator_->cub.DeviceFree(reinterpret_cast<void*>(static_cast<std::uintptr_t>(pointer))));
}

}  // namespace spillway::bench
