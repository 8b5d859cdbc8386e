// SPDX-License-Identifier: Apache-2.0
// PyTorch's CUDA caching allocator (the native one, as PYTORCH_ALLOC_CONF configures it) out of the
// libraries of an installed PyTorch, behind a plain class. One per process: it is a singleton.
#pragma once

#include "device/driver_types.hpp"

#include <cstddef>

namespace spillway::bench {

class TorchPeer {
 public:
  TorchPeer();
  /// Gives its cached memory back to the driver.
  ~TorchPeer();
  TorchPeer(const TorchPeer&) = delete;
  TorchPeer& operator=(const TorchPeer&) = delete;

  /// 0 when it failed.
  cu::DevicePtr allocate(std::size_t bytes, cu::Stream stream);
  void free(cu::DevicePtr pointer);
};

}  // namespace spillway::bench
