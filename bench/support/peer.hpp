// SPDX-License-Identifier: Apache-2.0
// What a bench needs of an allocator, and the simple ones: none at all, one lock per call (floors
// that say what the bench itself costs), and the driver's own two.
#pragma once

#include "device/driver.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

namespace spillway::bench {

/// Where the allocators stand: a driver table, a context that is current (and made current on each
/// new thread), streams by index.
struct Ground {
  Driver driver;
  cu::Context context = nullptr;
  cu::Device device = 0;
  std::vector<cu::Stream> streams;
  std::size_t memory_bytes = 0;  // what a pool may hold
};

/// An allocator: constructed from a Ground, which outlives it. `allocate` answers 0 when it fails;
/// streams are indices into Ground::streams.
template <typename P>
concept Peer = std::constructible_from<P, const Ground&> &&
    requires(P& peer, std::size_t bytes, std::uint32_t stream, cu::DevicePtr pointer) {
  { peer.allocate(bytes, stream) } -> std::same_as<cu::DevicePtr>;
  { peer.free(pointer, stream) } -> std::same_as<void>;
};

/// No allocator: what the loop of the bench costs. Each stream has rising addresses of its own; a
/// stream is used by one thread at a time, here only.
class FloorPeer {
 public:
  explicit FloorPeer(const Ground& ground) : next_(ground.streams.size()) {
    for (std::size_t i = 0; i < next_.size(); ++i) next_[i].address = (i + 1) << 44;
  }
  cu::DevicePtr allocate(std::size_t bytes, std::uint32_t stream) {
    const cu::DevicePtr at = next_[stream].address;
    next_[stream].address += (bytes + 511) & ~std::size_t{511};
    return at;
  }
  void free(cu::DevicePtr, std::uint32_t) {}

 private:
  struct alignas(64) Next {
    cu::DevicePtr address = 0;
  };
  std::vector<Next> next_;
};

/// A lock taken and given back in each call, and nothing else.
class LockPeer {
 public:
  explicit LockPeer(const Ground&) {}
  cu::DevicePtr allocate(std::size_t bytes, std::uint32_t) {
    const std::scoped_lock lock(mutex_);
    const cu::DevicePtr at = next_;
    next_ += (bytes + 511) & ~std::size_t{511};
    return at;
  }
  void free(cu::DevicePtr, std::uint32_t) { const std::scoped_lock lock(mutex_); }

 private:
  std::mutex mutex_;
  cu::DevicePtr next_ = 0x1000'0000'0000;
};

/// cuMemAlloc and cuMemFree.
class PlainPeer {
 public:
  explicit PlainPeer(const Ground& ground) : driver_(ground.driver) {}
  cu::DevicePtr allocate(std::size_t bytes, std::uint32_t) {
    cu::DevicePtr pointer = 0;
    return driver_.cuMemAlloc(&pointer, bytes) == cu::Result::kSuccess ? pointer : 0;
  }
  void free(cu::DevicePtr pointer, std::uint32_t) { static_cast<void>(driver_.cuMemFree(pointer)); }

 private:
  const Driver& driver_;
};

/// cuMemAllocAsync and cuMemFreeAsync on the device's default pool, told to keep what it has.
class AsyncPeer {
 public:
  explicit AsyncPeer(const Ground& ground) : driver_(ground.driver), streams_(ground.streams) {
    std::uint64_t keep = ~std::uint64_t{0};
    if (driver_.cuDeviceGetDefaultMemPool(&pool_, ground.device) == cu::Result::kSuccess) {
      static_cast<void>(
          driver_.cuMemPoolSetAttribute(pool_, cu::MemPoolAttribute::kReleaseThreshold, &keep));
    }
  }
  ~AsyncPeer() {
    static_cast<void>(driver_.cuCtxSynchronize());
    if (pool_ != nullptr) static_cast<void>(driver_.cuMemPoolTrimTo(pool_, 0));
  }
  AsyncPeer(const AsyncPeer&) = delete;
  AsyncPeer& operator=(const AsyncPeer&) = delete;
  cu::DevicePtr allocate(std::size_t bytes, std::uint32_t stream) {
    cu::DevicePtr pointer = 0;
    return driver_.cuMemAllocAsync(&pointer, bytes, streams_[stream]) == cu::Result::kSuccess
               ? pointer
               : 0;
  }
  void free(cu::DevicePtr pointer, std::uint32_t stream) {
    static_cast<void>(driver_.cuMemFreeAsync(pointer, streams_[stream]));
  }

 private:
  const Driver& driver_;
  const std::vector<cu::Stream>& streams_;
  cu::MemoryPool pool_ = nullptr;
};

}  // namespace spillway::bench
