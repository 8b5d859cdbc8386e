// SPDX-License-Identifier: Apache-2.0
// The pinned pool: page-locked host memory for copies, in exact sizes (a quantum, never a power of
// two), cut from slabs that worker threads touch and register ahead of need. Freed memory is used
// again by event, so no step waits for the driver to pin or unpin. A byte cap is a law.
#pragma once

#include "allocator/host_limits.hpp"
#include "allocator/host_mapping.hpp"
#include "allocator/pinned_blocks.hpp"
#include "core/atomic.hpp"
#include "core/condition.hpp"
#include "core/mutex.hpp"
#include "core/status.hpp"
#include "core/task_queue.hpp"
#include "device/context.hpp"
#include "device/event_pool.hpp"
#include "device/pinned_buffer.hpp"
#include "device/stream.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace spillway {

struct PinnedPoolOptions {
  /// Bytes that may be pinned at any moment; 0: every allocation fails. What is sensible:
  /// default_pinned_cap_bytes().
  std::uint64_t cap_bytes = 0;
  /// Of one slab; a larger request gets a slab of its own, of its size in whole pages.
  std::uint64_t slab_bytes = std::uint64_t{64} << 20;
  /// Sizes and addresses are multiples of this: a power of two from 64 to the page size.
  std::uint64_t quantum_bytes = 512;
  HugePages huge_pages = HugePages::kOff;
  int numa_node = -1;  // -1: none; the device's own is DeviceCapabilities::host_numa_node
  /// Worker threads that touch and register; 0: the caller does it, reserve_ahead() included.
  std::uint32_t threads = 2;
  /// Give pages memory before they are registered. Off for machines that are only simulated.
  bool prefault = true;
  std::uint64_t prefault_chunk_bytes = std::uint64_t{16} << 20;
  unsigned int register_flags = cu::kHostRegisterPortable;
  /// Whom a failed registration quotes.
  HostLimitSources limit_sources = this_process();
  const HostPageCalls* page_calls = nullptr;  // null: the system's
};

/// What an allocation does when no idle memory fits and before it fails.
enum class WaitPolicy : std::uint8_t {
  kNone,    // registers more memory
  kStream,  // rather makes its stream wait for memory that other streams have freed
  kHost,    // registers more; when there is no more, the host waits for memory that was freed
};

/// Memory of the pool, from allocate() to free(). `bytes` is what was asked for, rounded up to the
/// quantum: all of it may be used.
struct PinnedBlock {
  void* data = nullptr;
  std::uint64_t bytes = 0;
};

/// Invariants, which check_invariants() executes:
///   allocated + pending + free == registered
///   registered + registering + releasing == reserved <= cap
struct PinnedStats {
  std::uint64_t cap_bytes = 0;
  std::uint64_t allocated_bytes = 0;  // in use
  std::uint64_t allocated_bytes_peak = 0;
  std::uint64_t pending_bytes = 0;  // freed, awaited by a stream or a capture
  std::uint64_t free_bytes = 0;
  std::uint64_t largest_free_bytes = 0;
  std::uint64_t registered_bytes = 0;   // in slabs
  std::uint64_t registering_bytes = 0;  // on the way in
  std::uint64_t releasing_bytes = 0;    // on the way out
  std::uint64_t reserved_bytes = 0;     // what the driver may hold pinned at this moment
  std::uint64_t reserved_bytes_peak = 0;
  std::uint64_t live_count = 0;  // blocks in use
  std::uint64_t pending_count = 0;
  std::uint64_t free_count = 0;
  std::uint64_t hits = 0;    // allocations that needed no registration
  std::uint64_t misses = 0;  // that waited for one
  std::int64_t miss_wait_ns = 0;
  std::uint64_t failures = 0;
  std::uint64_t stream_waits = 0;  // fences that a stream was made to wait for
  std::uint64_t host_waits = 0;    // fences that the host waited for
  std::uint64_t slab_count = 0;
  std::uint64_t slabs_registered = 0;  // ever
  std::uint64_t slabs_released = 0;    // ever, by trim or to make room
  std::uint64_t registrations_in_step = 0;
};

struct PinnedSlabInfo {
  struct Piece {
    std::uint64_t offset_bytes = 0;
    std::uint64_t bytes = 0;
    PinnedBlocks::State state = PinnedBlocks::State::kFree;
  };
  const void* data = nullptr;
  std::uint64_t bytes = 0;
  HugePages huge_pages = HugePages::kOff;  // as granted
  int numa_node = -1;
  std::vector<Piece> pieces;  // by address
};

/// Threads: any, at once. No lock is held across a driver call or system call. The context is
/// current on the calling thread, except inside the pool's own workers, which see to it themselves.
class PinnedPool {
 public:
  /// kInvalidArgument for options that make no sense; kOutOfMemory without threads. Pins nothing
  /// yet. REQUIRES: `context`, and the driver behind it, outlive the pool.
  static Result<std::unique_ptr<PinnedPool>> create(const Context& context,
                                                    const PinnedPoolOptions& options);
  PinnedPool(const PinnedPool&) = delete;
  PinnedPool& operator=(const PinnedPool&) = delete;
  PinnedPool(PinnedPool&&) = delete;
  PinnedPool& operator=(PinnedPool&&) = delete;
  /// Waits for what was freed and is still awaited, then unregisters everything.
  /// REQUIRES: no block is allocated (SPW_CHECK); captured work is not running.
  ~PinnedPool();

  /// For work in `stream`, of the pool's context: it may use the memory at once, the host only
  /// after it has waited for the stream. kInvalidArgument for 0 bytes; kOutOfMemory with a text
  /// that says who holds what and what was tried, state unchanged; errors of the driver as they
  /// come (a lost context, a stream that was destroyed). In a capture: idle memory, memory freed
  /// earlier in the same capture, or more memory; nothing that belongs to the capture is ever
  /// queried.
  Result<PinnedBlock> allocate(std::uint64_t bytes,
                               StreamRef stream,
                               WaitPolicy policy = WaitPolicy::kNone);
  /// For the host: nothing uses the memory any more. kInvalidArgument for WaitPolicy::kStream.
  Result<PinnedBlock> allocate(std::uint64_t bytes, WaitPolicy policy = WaitPolicy::kNone);

  /// All uses come before this point of `stream`, of the pool's context; later work of that stream
  /// may reuse the memory at once, all else when the stream has come so far. kInvalidArgument: not
  /// the begin of a block in use (never seen, interior, freed already, being freed by another
  /// thread), with a text that says which. Any failure, a destroyed stream included, leaves the
  /// block allocated: free it by another stream, or without one. In a capture the memory belongs to
  /// the capture from here on.
  Status free(void* pointer, StreamRef stream);
  /// The host knows that all uses have ended.
  Status free(void* pointer);

  /// The capture failed, or its graph and all launches of it are gone: its memory may be reused.
  void forget_capture(std::uint64_t capture_id);

  /// Has worker threads register memory so that `bytes` more can be allocated without waiting, in
  /// slabs that hold at least `largest_block_bytes` each. Returns how many bytes are on the way or
  /// there: less than asked for when the cap ends it. Errors of registration: finish_ahead().
  Result<std::uint64_t> reserve_ahead(std::uint64_t bytes, std::uint64_t largest_block_bytes = 0);
  /// Waits until nothing is on the way. The first failure since the last call.
  Status finish_ahead();

  /// Inside a step nothing is unregistered. Steps of several users may overlap: they count.
  /// begin_step waits for a trim that is under way; end_step without begin is kInvalidArgument.
  void begin_step();
  Status end_step();

  /// Unregisters slabs of which nothing is in use or awaited, until at most `keep_bytes` are
  /// reserved or none is left; how many bytes went. kInvalidArgument inside a step.
  Result<std::uint64_t> trim(std::uint64_t keep_bytes = 0);

  [[nodiscard]] PinnedStats stats() const;
  [[nodiscard]] std::vector<PinnedSlabInfo> slabs() const;
  /// kInternal with the first invariant that does not hold. REQUIRES: no other thread is inside.
  [[nodiscard]] Status check_invariants() const;

 private:
  /// One slab's memory. Registered last, so unregistered first.
  struct SlabMemory {
    HostMapping mapping;
    PinnedBuffer registered;
  };
  struct Request {
    std::uint64_t bytes = 0;  // rounded up
    std::optional<StreamRef> stream;
    std::uint64_t stream_id = kNoStream;
    std::uint64_t capture_id = 0;
    WaitPolicy policy = WaitPolicy::kNone;
  };
  /// What one attempt to serve a request came to.
  struct Attempt {
    PinnedBlock block;   // data != nullptr: served
    bool again = false;  // something changed: worth another look
  };
  struct Effort;  // what was tried, for the text

  PinnedPool(const Context& context, const PinnedPoolOptions& options);

  // pinned_pool.cpp
  Result<PinnedBlock> serve(Request request);
  Result<Attempt> serve_once(const Request& request, Effort* effort);
  Result<Attempt> look(const Request& request, Effort* effort);
  /// Of its own stream's pending blocks, and with `foreign` of others', for which it then waits.
  Result<Attempt> take_run(const Request& request, bool foreign, Effort* effort);
  /// Asks which freed blocks are idle by now; whether any was.
  Result<bool> reclaim();
  Result<bool> wait_on_host(const Request& request);
  PinnedBlock hand_out(PinnedBlocks::Block* block, const Effort& effort) SPW_REQUIRES(mutex_);
  /// Whose a block was, and what may still use it from before.
  struct Freeing {
    PinnedBlocks::Block* block = nullptr;
    std::uint64_t stream_id = kNoStream;
    std::uint64_t capture_id = 0;
    PinnedBlocks::Fence* inherited = nullptr;
  };
  Result<Freeing> begin_free(void* pointer);
  Status order_free(const Freeing& freeing, StreamRef stream);
  Status refuse_free(std::uintptr_t address) const SPW_REQUIRES(mutex_);
  Result<std::uint64_t> capture_of(StreamRef stream) const;
  /// kInvalidArgument for a stream of another context, whose events could not be recorded there.
  Status check_stream(StreamRef stream);
  [[nodiscard]] std::string out_of_memory_text(const Request& request, const Effort& effort) const
      SPW_REQUIRES(mutex_);

  // pinned_growth.cpp
  Result<Attempt> grow(const Request& request, Effort* effort);
  [[nodiscard]] std::uint64_t reserved() const SPW_REQUIRES(mutex_);
  [[nodiscard]] std::uint64_t slab_size(std::uint64_t bytes) const SPW_REQUIRES(mutex_);
  /// Charges a slab of which others will find `spare_bytes` free; its number, for end_growth.
  std::uint64_t begin_growth(std::uint64_t slab_bytes, std::uint64_t spare_bytes)
      SPW_REQUIRES(mutex_);
  /// Takes the charge back, or turns it into a slab; its one free block, or null.
  PinnedBlocks::Block* end_growth(std::uint64_t number,
                                  std::uint64_t slab_bytes,
                                  Result<SlabMemory> made) SPW_REQUIRES(mutex_);
  PinnedBlocks::Block* add_slab(SlabMemory memory) SPW_REQUIRES(mutex_);
  Result<SlabMemory> make_slab(std::uint64_t bytes);
  Status populate(const HostMapping& mapping);
  void register_ahead(std::uint64_t number, std::uint64_t bytes);
  Result<bool> make_room(const Request& request, Effort* effort);
  /// Idle slabs, out of the books and counted as on the way out, until they are `bytes` or all.
  std::vector<SlabMemory> take_idle(std::uint64_t bytes) SPW_REQUIRES(mutex_);
  /// Unregisters and unmaps them; what the driver keeps comes back into the books.
  Result<std::uint64_t> release(std::vector<SlabMemory> slabs);

  const Context* context_;
  const Driver* driver_;
  const PinnedPoolOptions options_;
  const HostPageCalls* calls_;
  std::uint64_t page_bytes_;  // of a slab
  EventPool events_;
  std::unique_ptr<TaskQueue> queue_;  // null: no threads

  mutable Mutex mutex_;
  Condition changed_;  // a registration or a release ended
  PinnedBlocks blocks_ SPW_GUARDED_BY(mutex_);
  std::map<std::uintptr_t, SlabMemory> memory_ SPW_GUARDED_BY(mutex_);  // by address
  PinnedStats stats_ SPW_GUARDED_BY(mutex_);  // counters; amounts are read off blocks_
  // Of each registration under way, by number: bytes that nobody waits for yet.
  std::map<std::uint64_t, std::uint64_t> growing_ SPW_GUARDED_BY(mutex_);
  std::uint64_t growth_number_ SPW_GUARDED_BY(mutex_) = 0;  // of the latest
  std::uint64_t ahead_count_ SPW_GUARDED_BY(mutex_) = 0;    // registrations of reserve_ahead()
  // The smallest slab that could not be registered in this step: not tried again in it.
  static constexpr std::uint64_t kNothingRefused = ~std::uint64_t{0};
  std::uint64_t refused_bytes_ SPW_GUARDED_BY(mutex_) = kNothingRefused;
  Status ahead_failure_ SPW_GUARDED_BY(mutex_);
  std::uint32_t step_depth_ SPW_GUARDED_BY(mutex_) = 0;
  std::uint32_t releasing_count_ SPW_GUARDED_BY(mutex_) = 0;
  std::uint64_t release_serial_ SPW_GUARDED_BY(mutex_) = 0;  // releases that have ended
  bool closing_ SPW_GUARDED_BY(mutex_) = false;

  // Ids of streams that were found to be of this context, plus 1; 0: none. Hints: ids are never
  // given twice, and who is not here is asked about again.
  static constexpr std::size_t kKnownStreams = 64;
  Atomic<std::uint64_t> known_streams_[kKnownStreams];
};

}  // namespace spillway
