// SPDX-License-Identifier: Apache-2.0
// CUB's CachingDeviceAllocator behind a plain class, so that its headers (and those of the CUDA
// runtime) stay in one source. Calls are one function deep, as calls of our own pool are.
#pragma once

#include "device/driver_types.hpp"

#include <cstddef>
#include <memory>

namespace spillway::bench {

class CubPeer {
 public:
  enum class Bins {
    kStock,  // as constructed without arguments: bins of 512 B to 2 MiB, at most 6 MiB kept
    kWide,   // the same factor of 8, up to 8 GiB, everything kept: no call of the driver once warm
    kFine,   // factor of 2 up to 8 GiB, everything kept: at most twice the bytes asked for
  };
  explicit CubPeer(Bins bins);
  ~CubPeer();
  CubPeer(const CubPeer&) = delete;
  CubPeer& operator=(const CubPeer&) = delete;

  /// 0 when it failed.
  cu::DevicePtr allocate(std::size_t bytes, cu::Stream stream);
  void free(cu::DevicePtr pointer);

 private:
  struct Allocator;
  std::unique_ptr<Allocator> allocator_;
};

}  // namespace spillway::bench
