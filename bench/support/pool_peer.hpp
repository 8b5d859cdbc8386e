// SPDX-License-Identifier: Apache-2.0
// spillway's device pool as a peer, with its default options and the budget of the Ground.
#pragma once

#include "allocator/device_pool.hpp"
#include "bench/support/peer.hpp"
#include "device/context.hpp"
#include "device/stream.hpp"

#include <memory>
#include <optional>
#include <vector>

namespace spillway::bench {

class PoolPeer {
 public:
  explicit PoolPeer(const Ground& ground) {
    streams_.reserve(ground.streams.size());
    for (const cu::Stream stream : ground.streams) {
      Result<StreamRef> ref = StreamRef::of(ground.driver, stream);
      if (!ref.ok()) return;
      streams_.push_back(ref.value());
    }
    Result<Context> context = Context::current_or_primary(ground.driver, 0);
    if (!context.ok()) return;
    context_.emplace(std::move(context).value());
    DevicePoolOptions options;
    options.budget_bytes = ground.memory_bytes;
    Result<std::unique_ptr<DevicePool>> pool = DevicePool::create(*context_, options);
    if (pool.ok()) pool_ = std::move(pool).value();
  }
  cu::DevicePtr allocate(std::size_t bytes, std::uint32_t stream) {
    if (pool_ == nullptr) [[unlikely]]
      return 0;
    const Result<cu::DevicePtr> pointer = pool_->allocate(bytes, streams_[stream]);
    return pointer.ok() ? pointer.value() : 0;
  }
  void free(cu::DevicePtr pointer, std::uint32_t stream) {
    static_cast<void>(pool_->free(pointer, streams_[stream]));
  }
  [[nodiscard]] std::uint64_t live_bytes() const { return pool_->stats().allocated_bytes; }
  [[nodiscard]] PoolStats stats() const { return pool_->stats(); }

 private:
  std::optional<Context> context_;
  std::unique_ptr<DevicePool> pool_;
  std::vector<StreamRef> streams_;
};

}  // namespace spillway::bench
