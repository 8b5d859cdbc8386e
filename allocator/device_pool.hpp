// SPDX-License-Identifier: Apache-2.0
// The device pool: stream-ordered device memory for one context, out of one address range, inside a
// byte budget. docs/allocator.md explains it in ten minutes.
//
// Order. A block given back on stream s may be handed out again on s at once; to another stream
// when the host knows that s is past that point, or after that stream was made to wait for it.
// Uses by further streams are told with record_use(). Nothing waits on the host except growth under
// pressure, which is counted.
#pragma once

#include "allocator/handle_map.hpp"
#include "allocator/layout_cursor.hpp"
#include "allocator/pool_options.hpp"
#include "allocator/pool_stats.hpp"
#include "allocator/space.hpp"
#include "allocator/stream_table.hpp"
#include "allocator/tag_table.hpp"
#include "core/brief_mutex.hpp"
#include "core/seq_lock.hpp"
#include "core/status.hpp"
#include "device/context.hpp"
#include "device/mapping.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace spillway {

/// INVARIANTS, executed by check_invariants() together with those of Space and StreamTable:
///   reserved == (mapped + spare) granules + comm chunks + what is being created now <= budget
///   every mapped granule of the arena lies in blocks that are not unmapped, and the other way
///   live blocks' totals == totals of all tags == requested, allocated
/// Threads: any thread may call any function. One lock, never held across a driver call, an
/// observer or a callback; find() takes none.
class DevicePool {
 public:
  /// For `context`, which must outlive the pool or be gone for good when it ends. kUnsupported:
  /// the device has no granularity that fits; kOutOfMemory: no address range, no host memory, or
  /// map_ahead_bytes do not fit.
  static Result<std::unique_ptr<DevicePool>> create(const Context& context,
                                                    const DevicePoolOptions& options);
  DevicePool(const DevicePool&) = delete;
  DevicePool& operator=(const DevicePool&) = delete;
  DevicePool(DevicePool&&) = delete;
  DevicePool& operator=(DevicePool&&) = delete;
  /// Ends all blocks and gives everything back. REQUIRES: all work that uses the pool's memory is
  /// over, or the context is gone. Waits for nothing.
  ~DevicePool();

  /// `bytes` for work enqueued in `stream` from now on, 512-byte aligned, not cleared. Zero bytes:
  /// the null pointer. kOutOfMemory with a table of who holds what, after everything that
  /// docs/allocator.md lists was tried; kInvalidArgument for a stream that the driver does not
  /// know. Inside a stream capture the memory belongs to the capture until release_capture().
  Result<cu::DevicePtr> allocate(std::uint64_t bytes, StreamRef stream, TagId tag = kUntagged);

  /// As allocate(), from chunks of plain cuMemAlloc that stay where they are: for memory that goes
  /// to IPC, NCCL registration or RDMA. Not inside a capture (kUnsupported).
  Result<cu::DevicePtr> allocate_comm(std::uint64_t bytes, StreamRef stream, TagId tag = kUntagged);

  /// Gives a block back: all of its uses that record_use() does not name are ordered before this
  /// point of `stream`, which need not be the stream it was allocated for. From any thread. Null:
  /// nothing. kNotFound: not from this pool; kInvalidArgument: inside a block, already given back,
  /// or a stream that the driver does not know (the block then stays live).
  Status free(cu::DevicePtr pointer, StreamRef stream);

  /// `stream` uses the block too, up to where it stands when the block is given back. `pointer`
  /// may lie inside the block. kNotFound, kInvalidArgument as for free().
  Status record_use(cu::DevicePtr pointer, StreamRef stream);

  /// The stream is about to be destroyed: what was given back on it is marked now, since nothing
  /// can be recorded on it later. To be called for every stream that ends before the pool does.
  Status retire_stream(StreamRef stream);

  /// The graphs of this capture are gone, and every launch of them is ordered before this point of
  /// `stream`: memory that belonged to the capture is ordinary memory again, blocks of it that are
  /// still live as soon as they are given back. kNotFound: no memory belongs to such a capture.
  Status release_capture(std::uint64_t capture_id, StreamRef stream);

  /// The id of a tag, for allocate(); the same for the same words. Keep it: this looks it up.
  TagId tag(const Tag& tag, std::string_view name);
  [[nodiscard]] const Tag& tag_of(TagId id) const { return tags_.tag_of(id); }
  [[nodiscard]] const std::string& tag_name(TagId id) const { return tags_.name_of(id); }
  [[nodiscard]] std::vector<TagEntry> tag_entries() const;

  /// The live block that covers `pointer`, in O(1); nothing if there is none. Waits for no lock
  /// (after 1000 changes during one look-up it gives up politeness and takes it).
  [[nodiscard]] std::optional<BlockInfo> find(cu::DevicePtr pointer) const;
  /// Whether the address lies in the pool's ranges, live or not.
  [[nodiscard]] bool owns(cu::DevicePtr pointer) const;

  /// A smaller budget gives memory back first; kOutOfMemory, and the old budget stays, when more is
  /// in use. 0: all memory of the device.
  Status set_budget(std::uint64_t budget_bytes);
  [[nodiscard]] std::uint64_t budget_bytes() const;

  /// Gives memory that is in no block back to the driver until `keep_bytes` are held, waiting for
  /// the streams that used it. Returns the bytes given back.
  Result<std::uint64_t> trim(std::uint64_t keep_bytes);
  /// Maps so much that `bytes` are free, if the budget allows.
  Status reserve_ahead(std::uint64_t bytes);

  /// Serves the following steps from a layout: item k of a step at its offset of one range of
  /// `height_bytes`, which is taken from the arena now. Ends a layout loaded before.
  /// kInvalidArgument for an item that leaves the range; as allocate() otherwise.
  Status load_layout(std::vector<LayoutItem> items, std::uint64_t height_bytes, StreamRef stream);
  /// The range is ordinary memory again as its blocks are given back.
  void unload_layout();
  /// Allocations are matched with the layout from its beginning.
  void begin_step();

  [[nodiscard]] PoolStats stats() const;
  void reset_peaks();
  [[nodiscard]] PoolSnapshot snapshot() const;
  /// Ok, or kInternal and what is broken.
  [[nodiscard]] Status check_invariants() const;

 private:
  class Section;
  class QuickSection;
  struct Request {
    std::uint64_t bytes = 0;
    Quanta quanta = 0;
    StreamRef stream{cu::Stream{nullptr}, 0};
    StreamIndex index = kNoStream;
    GroupIndex group = 0;
    TagId tag = kUntagged;
    std::uint64_t capture_id = 0;
    std::optional<LayoutCursor::Match> planned;  // free, but its stream has to wait for it
  };
  struct Deferred {
    BlockIndex block = kNoBlock;
    StreamPoint owner;                // where it was given back
    std::vector<StreamPoint> points;  // what else must be over
  };
  struct Use {
    StreamIndex stream = kNoStream;
    std::uint32_t next = 0;
  };
  struct CommChunk {
    SharedField<cu::DevicePtr> pointer;
    SharedField<Quanta> begin;
    SharedField<Quanta> quanta;  // 0: no chunk
    Quanta claimed_quanta = 0;   // the places are taken, also while the chunk is being made
  };
  struct Carved {
    Quanta begin = 0;
    Quanta quanta = 0;
  };
  struct Capture {
    std::uint64_t id = 0;  // 0: slot not in use
    bool released = false;
    GroupIndex group = 0;
    LabelIndex parked = 0;       // given back, but not to be handed out inside the capture
    std::vector<Carved> carved;  // taken from the arena, as the observer knows it
  };
  struct Growth;
  using Events = std::vector<std::shared_ptr<Event>>;

  static constexpr GroupIndex kArena = 0;
  static constexpr GroupIndex kComm = 1;
  static constexpr GroupIndex kPlanned = 2;
  static constexpr GroupIndex kFirstCapture = 3;
  static constexpr LabelIndex kNoLabel = 0xffff;
  static constexpr std::size_t kCommChunksMax = 1024;
  static constexpr std::uint64_t kFreesUntilCalm = 4096;
  // Growths that may remap although the budget has room: so many at first and at most, one more for
  // so many allocations, and one when the peak of what lives has risen by this part.
  static constexpr std::uint32_t kRemapCredit = 96;
  static constexpr std::uint64_t kAllocationsPerRemap = 65536;
  static constexpr std::uint64_t kPeakPartPerRemap = 256;

  static constexpr std::uint32_t kRecentShift = 12;
  static constexpr std::uint32_t kRecent = 1u << kRecentShift;
  static std::uint32_t recent_slot(Quanta place) {
    return (place * 0x9e3779b1u) >> (32 - kRecentShift);
  }

  DevicePool(const Context& context, const DevicePoolOptions& options);
  Status start();

  // Places and addresses.
  [[nodiscard]] bool in_arena(cu::DevicePtr pointer) const {
    return pointer - base_ < arena_bytes_;
  }
  [[nodiscard]] std::optional<Quanta> place_of(cu::DevicePtr pointer) const;
  [[nodiscard]] cu::DevicePtr pointer_at(Quanta place) const;
  /// Where a place's free memory belongs when it belongs to nobody in particular.
  [[nodiscard]] GroupIndex home_group(BlockIndex index) const SPW_REQUIRES(mutex_);
  [[nodiscard]] Quanta quanta_of(Granule granules) const { return granules * granule_quanta_; }

  // pool_quick.cpp: the hot path.
  cu::DevicePtr allocate_quickly(std::uint64_t bytes, StreamRef stream, TagId tag);
  bool free_quickly(cu::DevicePtr pointer, StreamRef stream, StreamPoint* to_mark);
  BlockIndex take_cut(StreamState& state, Quanta quanta) SPW_REQUIRES(mutex_);
  [[nodiscard]] bool is_calm() const SPW_REQUIRES(mutex_) {
    return stats_.free_count >= calm_free_count_;
  }
  [[nodiscard]] bool may_capture(StreamRef stream) const {
    if (!options_.detect_capture) return false;
    auto status = cu::StreamCaptureStatus::kNone;
    return driver_.cuStreamIsCapturing(stream.handle(), &status) != cu::Result::kSuccess ||
           status != cu::StreamCaptureStatus::kNone;
  }
  BlockIndex take_ready(LabelIndex label, Quanta quanta) SPW_REQUIRES(mutex_);
  void keep(BlockIndex index, StreamState& owner, std::uint64_t epoch) SPW_REQUIRES(mutex_);
  void keep_block(BlockIndex index,
                  Block& block,
                  Quanta quanta,
                  StreamState& owner,
                  std::uint64_t epoch) SPW_REQUIRES(mutex_);
  void count_in(Block& block, Quanta quanta, std::uint64_t bytes, TagId tag) SPW_REQUIRES(mutex_);
  void count_out(const Block& block, std::uint64_t held) SPW_REQUIRES(mutex_);
  bool is_mark_due(StreamState& state, std::uint64_t bytes) SPW_REQUIRES(mutex_);
  void make_room(BlockIndex index, StreamState& owner) SPW_REQUIRES(mutex_);
  void merge(BlockIndex kept) SPW_REQUIRES(mutex_);
  void merge_kept() SPW_REQUIRES(mutex_);
  cu::DevicePtr begin_live(BlockIndex index, LabelIndex label, std::uint64_t bytes, TagId tag)
      SPW_REQUIRES(mutex_);
  void end_live(BlockIndex index) SPW_REQUIRES(mutex_);
  bool wants_mark(StreamState& state, std::uint64_t bytes) SPW_REQUIRES(mutex_);

  // device_pool.cpp: the general one.
  Result<std::uint64_t> capture_of(StreamRef stream) const;
  BlockIndex take_ready(const Request& request) SPW_REQUIRES(mutex_);
  BlockIndex take_planned(Request& request) SPW_REQUIRES(mutex_);
  cu::DevicePtr hand_out(BlockIndex index, const Request& request) SPW_REQUIRES(mutex_);
  Result<cu::DevicePtr> allocate_in(GroupIndex group,
                                    std::uint64_t bytes,
                                    StreamRef stream,
                                    TagId tag);
  Status free_generally(cu::DevicePtr pointer, StreamRef stream);
  Status free_with_care(cu::DevicePtr pointer, StreamRef stream, std::uint64_t capture_id);
  Result<BlockIndex> live_block(cu::DevicePtr pointer) const SPW_REQUIRES(mutex_);
  void drop_uses(BlockIndex index) SPW_REQUIRES(mutex_);

  // pool_order.cpp: events, waits, deferred blocks.
  Result<std::shared_ptr<Event>> take_event();
  void return_events(Events events);
  Status mark(StreamPoint point);
  Status make_wait(StreamIndex waiter, const std::vector<StreamPoint>& points);
  Status wait_on_host(const std::vector<StreamPoint>& points);
  Status poll();
  Status settle_deferred(const Request* waiter);
  [[nodiscard]] StreamPoint point_of(const Block& block) const SPW_REQUIRES(mutex_);

  // pool_slow.cpp: what an allocation tries when nothing is ready.
  Result<cu::DevicePtr> allocate_slowly(Request request);
  Result<BlockIndex> try_everything(Request& request);
  Result<BlockIndex> take_run(const Request& request, bool may_wait, LabelIndex except = kNoLabel);
  Result<BlockIndex> take_planned_range(const Request& request);
  Result<BlockIndex> wait_for(const Request& request,
                              BlockIndex claimed,
                              const std::vector<StreamPoint>& points);
  BlockIndex keep_part(BlockIndex claimed,
                       const Request& request,
                       LabelIndex rest,
                       std::uint64_t epoch) SPW_REQUIRES(mutex_);
  Status out_of_memory(const Request& request, std::uint32_t asked);

  // pool_growth.cpp: memory from the driver and back.
  Result<BlockIndex> grow(const Request& request, bool press);
  Result<BlockIndex> grow_chunk(const Request& request, bool press);
  CommChunk* claim_chunk(std::uint64_t bytes) SPW_REQUIRES(mutex_);
  bool charge(std::uint64_t bytes) SPW_REQUIRES(mutex_);
  void give_up(std::uint64_t bytes) SPW_REQUIRES(mutex_);
  bool choose_target(const Request& request, Growth& growth, BlockIndex* unmapped) const
      SPW_REQUIRES(mutex_);
  void find_donors(const Request& request, bool press, Growth& growth) const SPW_REQUIRES(mutex_);
  bool plan_growth(const Request& request, bool press, Growth& growth) SPW_REQUIRES(mutex_);
  Status map_range(Growth& growth);
  void undo_growth(Growth& growth);

  // pool_trim.cpp
  struct Trimmed;
  void claim_trimmed(std::uint64_t keep_bytes, Trimmed& trimmed) SPW_REQUIRES(mutex_);
  Result<std::uint64_t> trim_to(std::uint64_t keep_bytes);

  // pool_capture.cpp
  Result<cu::DevicePtr> allocate_captured(Request request);
  Result<BlockIndex> carve(Request& request);
  Capture* find_capture(std::uint64_t id) SPW_REQUIRES(mutex_);
  Capture* find_group(GroupIndex group) SPW_REQUIRES(mutex_);
  Capture* open_capture(std::uint64_t id) SPW_REQUIRES(mutex_);
  LabelIndex label_for_freed(BlockIndex index,
                             StreamIndex owner,
                             std::uint64_t capture_id,
                             bool used) SPW_REQUIRES(mutex_);
  void return_carved(GroupIndex group, StreamRef stream);

  // pool_layout.cpp
  void end_layout() SPW_REQUIRES(mutex_);

  // pool_report.cpp
  [[nodiscard]] std::string broken_invariant() const SPW_REQUIRES(mutex_);
  PoolStats stats_locked() const SPW_REQUIRES(mutex_);
  Status memory_table(const std::string& headline) const;

  const Driver& driver_;
  const Context& context_;
  const DevicePoolOptions options_;
  MemoryObserver* const observer_;
  cu::AllocationProp prop_;
  bool has_vmm_ = true;
  bool observed_ = false;  // the observer knows of the arena
  std::uint64_t device_bytes_ = 0;
  std::uint64_t granule_bytes_ = 0;
  Quanta granule_quanta_ = 0;
  std::optional<Reservation> reservation_;
  cu::DevicePtr base_ = 0;
  std::uint64_t arena_bytes_ = 0;
  std::optional<Stream> own_stream_;  // with an observer: for memory that belongs to captures

  mutable BriefMutex mutex_{"device pool"};
  // Blocks handed out last, by place: where free() looks first. Some are something else by now.
  std::array<BlockIndex, kRecent> recent_ SPW_GUARDED_BY(mutex_){};
  Space space_;
  TagTable tags_;
  StreamTable streams_ SPW_GUARDED_BY(mutex_);
  HandleMap handles_ SPW_GUARDED_BY(mutex_);
  std::vector<CommChunk> chunks_;
  Quanta tail_ SPW_GUARDED_BY(mutex_) = 0;  // nothing was ever mapped from here on
  std::vector<Use> uses_ SPW_GUARDED_BY(mutex_);
  std::uint32_t free_use_ SPW_GUARDED_BY(mutex_) = 0;
  bool has_kept_ SPW_GUARDED_BY(mutex_) = false;  // some stream's ring may hold a block
  std::deque<Deferred> deferred_ SPW_GUARDED_BY(mutex_);
  std::deque<Capture> captures_ SPW_GUARDED_BY(mutex_);
  Events free_events_ SPW_GUARDED_BY(mutex_);
  LayoutCursor layout_ SPW_GUARDED_BY(mutex_);
  std::uint64_t creating_bytes_ SPW_GUARDED_BY(mutex_) = 0;  // charged, not yet mapped
  std::uint64_t budget_bytes_ SPW_GUARDED_BY(mutex_) = 0;
  std::uint32_t remap_credit_ SPW_GUARDED_BY(mutex_) = kRemapCredit;
  std::uint64_t remap_credit_earned_ SPW_GUARDED_BY(mutex_) = 0;
  std::uint64_t remap_peak_bytes_ SPW_GUARDED_BY(mutex_) = 0;
  std::uint64_t calm_free_count_ SPW_GUARDED_BY(mutex_) = 0;  // marks are recorded until then
  PoolStats stats_ SPW_GUARDED_BY(mutex_);
};

}  // namespace spillway
