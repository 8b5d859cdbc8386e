// SPDX-License-Identifier: Apache-2.0
// The book-keeping of the pinned pool: which bytes of which slab are free, in use, or freed but
// still awaited by a stream. No driver, no lock, no system call: the pool guards it and talks to
// the machine. Best fit, the lowest address among equals; free neighbours become one at once.
#pragma once

#include "core/status.hpp"
#include "device/event_pool.hpp"

#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

namespace spillway {

/// No stream: the host, or nobody at all.
inline constexpr std::uint64_t kNoStream = std::numeric_limits<std::uint64_t>::max();

class PinnedBlocks {
 public:
  /// The point of a stream behind which memory that was freed there is idle. Counted: shared by the
  /// pieces of a block that was divided, and by whoever waits for it outside of the lock.
  struct Fence {
    RecordedEvent recorded;
    std::uint64_t stream_id = kNoStream;  // where it was recorded
    bool done = false;                    // the host knows
    std::uint32_t holders = 0;
  };

  enum class State : std::uint8_t {
    kFree,     // nothing uses it
    kPending,  // freed; idle once its fence is passed, for its own stream at once
    kLive,     // in somebody's hands
    kBusy,     // being freed or being gathered, outside of the lock; counts as live
  };

  struct Slab;
  struct Block {
    std::uintptr_t begin = 0;
    std::uint64_t bytes = 0;
    Slab* slab = nullptr;
    Block* left = nullptr;  // neighbours by address in the slab
    Block* right = nullptr;
    State state = State::kFree;
    // kPending: whose it is. kLive: to whom it was given. capture_id 0: outside of captures.
    std::uint64_t stream_id = kNoStream;
    std::uint64_t capture_id = 0;
    // kPending: null for memory that only waits for its capture to be forgotten. kLive: what may
    // still use the memory from before; work of its stream comes after that by itself.
    Fence* fence = nullptr;
    Block* older = nullptr;  // kPending: of the same stream and capture, in the order of frees
    Block* newer = nullptr;
  };
  struct Slab {
    std::uintptr_t begin = 0;
    std::uint64_t bytes = 0;
    Block* first = nullptr;
    std::uint64_t block_count = 0;

    /// Nothing of it is in use or awaited.
    [[nodiscard]] bool idle() const {
      return block_count == 1 && first->state == PinnedBlocks::State::kFree;
    }
  };

  /// Neighbouring blocks of a slab, none of them live, that hold enough together.
  struct Run {
    Block* first = nullptr;  // null: there is none
    Block* last = nullptr;
    std::uint32_t foreign_count = 0;  // blocks whose fence must be waited for
  };

  PinnedBlocks() = default;
  PinnedBlocks(const PinnedBlocks&) = delete;
  PinnedBlocks& operator=(const PinnedBlocks&) = delete;
  PinnedBlocks(PinnedBlocks&&) = delete;
  PinnedBlocks& operator=(PinnedBlocks&&) = delete;
  ~PinnedBlocks() = default;

  // ---- slabs

  /// One free block. REQUIRES: overlaps no other slab.
  Block* add_slab(std::uintptr_t begin, std::uint64_t bytes);
  /// REQUIRES: slab->idle().
  void remove_slab(Slab* slab);
  [[nodiscard]] const std::map<std::uintptr_t, Slab>& slabs() const { return slabs_; }
  [[nodiscard]] std::map<std::uintptr_t, Slab>& slabs() { return slabs_; }

  // ---- blocks

  /// The smallest that is large enough, or null: free, or pending for this stream and capture.
  [[nodiscard]] Block* best_free(std::uint64_t bytes) const;
  [[nodiscard]] Block* best_pending(std::uint64_t stream_id,
                                    std::uint64_t capture_id,
                                    std::uint64_t bytes) const;
  [[nodiscard]] bool has_pending(std::uint64_t stream_id, std::uint64_t capture_id) const {
    return groups_.count({capture_id, stream_id}) != 0;
  }
  /// The run with the fewest fences to wait for, of free blocks, pending ones of this stream and
  /// capture, and, with `foreign`, pending ones of other streams of the capture.
  [[nodiscard]] Run best_run(std::uint64_t bytes,
                             std::uint64_t stream_id,
                             std::uint64_t capture_id,
                             bool foreign) const;

  /// Cuts `bytes` off the front of a free or pending block and makes them live; the rest stays what
  /// it was. The fence of a pending block goes along.
  Block* take(Block* block, std::uint64_t bytes, std::uint64_t stream_id, std::uint64_t capture_id);

  /// A run that is about to be used: its blocks are nobody else's until one of the next two.
  void claim(const Run& run);
  /// Puts a claimed run back as it was.
  void unclaim(const Run& run);
  /// Makes one live block of `bytes` of a claimed run. `fence` (may be null) is what its stream
  /// comes after; the rest of the run is pending behind it.
  Block* merge(const Run& run,
               std::uint64_t bytes,
               std::uint64_t stream_id,
               std::uint64_t capture_id,
               Fence* fence);

  /// The live or busy block that begins at this address, or null.
  [[nodiscard]] Block* find(std::uintptr_t begin) const;
  /// The block that holds this address, whatever its state, or null. Walks a slab: for texts.
  [[nodiscard]] const Block* around(std::uintptr_t address) const;

  void set_busy(Block* block) { block->state = State::kBusy; }
  void set_live(Block* block) { block->state = State::kLive; }
  /// Live or busy becomes free or pending; the fence it had is dropped, a new one is held.
  void make_free(Block* block);
  void make_pending(Block* block, std::uint64_t stream_id, std::uint64_t capture_id, Fence* fence);
  /// Frees every pending block outside of captures whose fence is done; how many there were.
  std::uint64_t sweep();
  /// What waited for a capture waits for its fence from outside of captures only, or is free.
  void forget_capture(std::uint64_t capture_id);

  /// The fences of pending blocks that are not known to be done, oldest first per stream, each once
  /// in a row and held; at most `per_stream_max` of a stream. Those that wait for a capture to be
  /// forgotten only if `with_captures`.
  void hold_pending_fences(bool with_captures,
                           std::size_t per_stream_max,
                           std::vector<Fence*>* held);

  // ---- fences

  /// A new fence that the caller holds.
  Fence* make_fence(RecordedEvent recorded, std::uint64_t stream_id);
  static void hold(Fence* fence) { ++fence->holders; }
  /// Null is fine.
  void drop(Fence* fence);

  // ---- sums

  [[nodiscard]] std::uint64_t live_bytes() const { return live_bytes_; }
  [[nodiscard]] std::uint64_t pending_bytes() const { return pending_bytes_; }
  [[nodiscard]] std::uint64_t free_bytes() const { return free_bytes_; }
  [[nodiscard]] std::uint64_t slab_bytes() const { return slab_bytes_; }
  [[nodiscard]] std::size_t live_count() const { return live_.size(); }
  [[nodiscard]] std::size_t pending_count() const { return pending_count_; }
  [[nodiscard]] std::size_t free_count() const { return free_.size(); }
  [[nodiscard]] std::uint64_t largest_free_bytes() const {
    return free_.empty() ? 0 : free_.rbegin()->bytes;
  }

  /// Executes, over every block:
  ///   live + pending + free == slab bytes; blocks tile each slab without gap or overlap;
  ///   no two free neighbours; free, pending and live blocks are exactly those in their indexes;
  ///   holders of each fence == the blocks that name it + `held_outside` in all.
  /// kInternal with the first that does not hold.
  /// `held_outside`: fences held by threads that are inside the pool at this moment.
  [[nodiscard]] Status check_invariants(std::uint64_t held_outside = 0) const;

 private:
  struct Key {
    std::uint64_t bytes = 0;
    std::uintptr_t begin = 0;
    Block* block = nullptr;
    friend bool operator<(const Key& a, const Key& b) {
      return a.bytes != b.bytes ? a.bytes < b.bytes : a.begin < b.begin;
    }
  };
  using Index = std::set<Key>;
  struct Group {  // pending blocks of a stream in a capture
    Index by_size;
    Block* oldest = nullptr;
    Block* newest = nullptr;
  };
  using GroupKey = std::pair<std::uint64_t, std::uint64_t>;  // capture, stream
  using Groups = std::map<GroupKey, Group>;

  Block* new_block();
  void delete_block(Block* block);
  /// The part from `bytes` on becomes a block of its own in the same state, in no index yet.
  Block* split(Block* block, std::uint64_t bytes);
  /// `block` swallows its right neighbour.
  void join_right(Block* block);
  void set_fence(Block* block, Fence* fence);

  void index(Index* into, Block* block);
  void unindex(Index* from, Block* block);
  void insert_free(Block* block);
  void insert_pending(Block* block, Block* after);
  /// Out of the index and the sums of its state.
  void remove(Block* block);
  void insert_live(Block* block);
  void remove_live(Block* block);
  void make_live(Block* block, std::uint64_t stream_id, std::uint64_t capture_id);
  struct Census;
  [[nodiscard]] Status check_slab(const Slab& slab, Census* census) const;
  [[nodiscard]] Status check_groups(Census* census) const;

  std::map<std::uintptr_t, Slab> slabs_;
  Index free_;
  Groups groups_;
  std::unordered_map<std::uintptr_t, Block*> live_;

  std::deque<Block> block_store_;
  std::vector<Block*> spare_blocks_;
  std::deque<Fence> fence_store_;
  std::vector<Fence*> spare_fences_;
  // Nodes of the indexes are kept as well: a warm pool allocates nothing.
  std::vector<Index::node_type> spare_nodes_;
  std::vector<std::unordered_map<std::uintptr_t, Block*>::node_type> spare_live_nodes_;
  std::vector<Groups::node_type> spare_groups_;

  std::uint64_t live_bytes_ = 0;
  std::uint64_t pending_bytes_ = 0;
  std::uint64_t free_bytes_ = 0;
  std::uint64_t slab_bytes_ = 0;
  std::size_t pending_count_ = 0;
};

}  // namespace spillway
