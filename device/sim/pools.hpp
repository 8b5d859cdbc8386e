// SPDX-License-Identifier: Apache-2.0
// Memory pools of the driver: stream-ordered blocks, which freed one the next allocation gets, and
// what a pool keeps from the device. A block is a plain allocation whose flags are its number here;
// allocation and free are operations of streams, so that the race checker sees both.
#pragma once

#include "device/driver_types.hpp"
#include "device/sim/access.hpp"
#include "device/sim/handles.hpp"
#include "device/sim/memory.hpp"
#include "device/sim/op.hpp"

#include <cstdint>
#include <vector>

namespace spillway::sim {

class Engine;
struct StreamState;

class Pools {
 public:
  static constexpr std::uint32_t kNone = 0xffffffffu;

  /// No pools, no blocks. The memory behind them was reset before.
  void reset(int device_count);

  // -- pools; indices are never reused within a run -----------------------------------------------
  std::uint32_t create(Engine& e, int device, std::uint64_t bytes_max);
  /// The device's own pool, made when first asked for.
  std::uint32_t default_pool(Engine& e, int device);
  /// The live pool behind a handle, or kNone (and a report) for any other.
  std::uint32_t find(Engine& e, cu::MemoryPool handle, const char* call);
  [[nodiscard]] cu::MemoryPool handle_of(std::uint32_t pool) const;
  /// Live allocations stay valid until they are freed. kInvalidValue for a default pool.
  cu::Result destroy(Engine& e, cu::MemoryPool handle);
  cu::Result set(std::uint32_t pool, cu::MemPoolAttribute attribute, const void* value);
  cu::Result get(std::uint32_t pool, cu::MemPoolAttribute attribute, void* value) const;
  void trim(Engine& e, std::uint32_t pool, std::uint64_t bytes_to_keep);

  // -- blocks -------------------------------------------------------------------------------------
  cu::Result allocate(Engine& e,
                      std::uint32_t pool,
                      std::uint64_t bytes,
                      StreamState& stream,
                      std::uint64_t* address,
                      const char* call);
  /// Stream-ordered free. kInvalidValue (and a report) unless a live block starts there.
  cu::Result free(Engine& e, std::uint64_t address, StreamState& stream);
  /// cuMemFree of a live block: at once, without waiting for anything.
  cu::Result free_from_host(Engine& e, const AddressInfo& info, std::uint64_t address);
  /// The pool of a plain block; kNone when it is a plain allocation.
  [[nodiscard]] std::uint32_t pool_of(const AddressInfo& info) const;
  /// What find() says of an address, as the program may see it: a block ends where its present
  /// owner asked it to (it may lie in a larger one), and nothing is where a block is only cached.
  [[nodiscard]] AddressInfo as_seen(AddressInfo info, std::uint64_t address) const;
  /// Of new work: kFreed after cuMemFreeAsync has returned, on whatever stream. Work enqueued
  /// earlier is the business of Memory, which knows the block until the pool lets go of it.
  enum class Verdict : std::uint8_t { kOk, kFreed, kOutOfBounds };
  Verdict check(const AddressInfo& info,
                std::uint64_t address,
                std::uint64_t bytes,
                std::uint64_t* block_bytes) const;

  /// After a stream, event or context synchronisation: pools above their threshold let go.
  void synchronized(Engine& e);

  // -- the end of a run ---------------------------------------------------------------------------
  /// Plain blocks that are a pool's, live or cached.
  [[nodiscard]] std::uint64_t block_count() const { return live_ + cached_; }
  [[nodiscard]] std::uint64_t live_count() const { return live_; }
  /// Pools that the program made and did not destroy.
  [[nodiscard]] std::uint64_t user_pool_count() const;

 private:
  enum class State : std::uint8_t { kUnused, kLive, kCached };
  struct Block {
    State state = State::kUnused;
    std::uint32_t pool = kNone;
    std::uint64_t address = 0;
    std::uint64_t bytes = 0;     // of the present or last allocation
    std::uint64_t capacity = 0;  // what it was made for: the next one may ask for at most this
    // Of the free. kHost: cuMemFree, after which nothing is outstanding.
    std::uint32_t freed_on = kNone;  // stream index
    StreamPoint freed_at;
    Epoch freed_epoch;
  };
  struct Pool {
    std::uint32_t slot = kNone;  // of its handle; kNone when destroyed
    int device = 0;
    bool is_default = false;
    bool follow_events = true;
    bool opportunistic = true;
    bool internal_dependencies = true;
    std::uint64_t threshold_bytes = 0;
    std::uint64_t bytes_max = 0;  // 0: the device's memory
    std::uint64_t reserved_bytes = 0;
    std::uint64_t reserved_high = 0;
    std::uint64_t used_bytes = 0;
    std::uint64_t used_high = 0;
    std::vector<std::uint32_t> cached;  // block numbers, the one freed last at the end
  };
  /// How a block freed earlier is ordered before an allocation.
  enum class Order : std::uint8_t { kStream, kEvent, kCompleted, kInserted, kForbidden };

  [[nodiscard]] Order order_of(Engine& e,
                               const Pool& pool,
                               const Block& block,
                               const StreamState& stream) const;
  std::uint32_t reuse(Engine& e, Pool& pool, std::uint64_t bytes, StreamState& stream, Order worst);
  std::uint32_t make_block(Engine& e, std::uint32_t pool, std::uint64_t bytes, cu::Result* result);
  /// Gives a cached block back to the device.
  void release(Engine& e, Pool& pool, std::size_t position);
  void let_go(Engine& e, Pool& pool, std::uint64_t bytes_to_keep);
  /// Waits for pending frees of the device's pools and empties them. False: the context is lost.
  bool empty_pools(Engine& e, int device, const char* call);
  void cache(Pool& pool, std::uint32_t number);
  [[nodiscard]] bool was_freed(const AddressInfo& info) const;

  HandleTable<std::uint32_t> handles_;  // slot -> pool
  std::vector<Pool> pools_;
  std::vector<Block> blocks_;
  std::vector<std::uint32_t> unused_blocks_;  // a stack
  std::vector<std::uint32_t> default_pools_;  // by device
  std::uint64_t live_ = 0;
  std::uint64_t cached_ = 0;
};

}  // namespace spillway::sim
