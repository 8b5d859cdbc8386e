// SPDX-License-Identifier: Apache-2.0
// See torch_peer.hpp. Written against the headers of PyTorch 2.11.
#include "bench/support/torch_peer.hpp"

#include <c10/cuda/CUDACachingAllocator.h>
#include <cstdint>
#include <exception>

namespace spillway::bench {
namespace pool = c10::cuda::CUDACachingAllocator;

TorchPeer::TorchPeer() {
  static const bool kReady = [] {
    pool::init(1);
    return true;
  }();
  static_cast<void>(kReady);
}

TorchPeer::~TorchPeer() {
  try {
    pool::emptyCache();
  } catch (const std::exception&) {  // a lost context; nothing to give back to
    static_cast<void>(0);
  }
}

cu::DevicePtr TorchPeer::allocate(std::size_t bytes, cu::Stream stream) {
  try {
    return reinterpret_cast<std::uintptr_t>(pool::raw_alloc_with_stream(bytes, stream));
  } catch (const std::exception&) {  // torch.OutOfMemoryError
    return 0;
  }
}

void TorchPeer::free(cu::DevicePtr pointer) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): a device address
  pool::raw_delete(reinterpret_cast<void*>(static_cast<std::uintptr_t>(pointer)));
}

}  // namespace spillway::bench
