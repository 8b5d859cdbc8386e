// SPDX-License-Identifier: Apache-2.0
// What the pool says about itself: look-ups, counters, a copy of everything, and the table that
// comes with "out of memory".
#include "allocator/pool_section.hpp"
#include "core/units.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <tuple>

namespace spillway {
namespace {

constexpr std::size_t kHoldersShown = 10;

std::string holder_name(const Tag& tag, const std::string& name) {
  std::string text(name_of(tag.kind));
  if (tag.layer != kNoLayer) text += fmt::format(" layer {}", tag.layer);
  if (tag.phase != Phase::kUnknown) text += fmt::format(" {}", name_of(tag.phase));
  if (!name.empty()) text += " \"" + name + '"';
  return text;
}

}  // namespace

std::optional<BlockInfo> DevicePool::find(cu::DevicePtr pointer) const {
  BlockInfo info;
  bool live = false;
  const auto look = [&] {
    live = false;
    const std::optional<Quanta> place = place_of(pointer);
    if (!place) return;
    const BlockIndex index = space_.find(*place);
    if (index == kNoBlock) return;
    const Block& block = space_.at(index);
    if (!block.is(BlockState::kLive)) return;
    info.held_bytes = bytes_of(block.quanta.get());
    info.requested_bytes = info.held_bytes - block.slack.get();
    info.pointer = pointer_at(block.begin.get());
    info.number = block.epoch.get();
    info.tag_id = TagId(block.tag.get());
    live = true;
  };
  constexpr int kAttempts = 1000;
  bool settled = false;
  for (int i = 0; i < kAttempts && !settled; ++i) settled = mutex_.try_read(look);
  if (!settled) {
    const Section section(*this);
    look();
  }
  if (!live) return std::nullopt;
  info.tag = tags_.tag_of(info.tag_id);
  return info;
}

TagId DevicePool::tag(const Tag& tag, std::string_view name) {
  const QuickSection section(*this);
  return tags_.intern(tag, name);
}

std::vector<TagEntry> DevicePool::tag_entries() const {
  const Section section(*this);
  std::vector<TagEntry> entries;
  entries.reserve(tags_.count());
  for (std::uint32_t i = 0; i < tags_.count(); ++i) entries.push_back(tags_.entry(TagId(i)));
  return entries;
}

PoolStats DevicePool::stats_locked() const {
  PoolStats stats = stats_;
  // Kept blocks are in the totals of live ones.
  stats.free_bytes =
      bytes_of(1) * (space_.quanta_in(BlockState::kFree) + space_.quanta_in(BlockState::kLive)) -
      stats_.allocated_bytes;
  stats.deferred_bytes = bytes_of(1) * (space_.quanta_in(BlockState::kDeferred) +
                                        space_.quanta_in(BlockState::kClaimed));
  stats.mapped_bytes = handles_.mapped_granules() * granule_bytes_;
  stats.spare_bytes = handles_.spare_granules() * granule_bytes_;
  stats.budget_bytes = budget_bytes_;
  stats.live_count = stats_.allocation_count - stats_.free_count;
  Quanta largest = 0;
  space_.for_each([&](BlockIndex, const Block& block) {
    if (block.is(BlockState::kFree) || block.is(BlockState::kKept))
      largest = std::max(largest, block.quanta.get());
  });
  stats.largest_free_bytes = bytes_of(largest);
  stats.metadata_bytes =
      space_.metadata_bytes() + tags_.metadata_bytes() + uses_.size() * sizeof(Use);
  stats.address_table_bytes =
      space_.starts().bitmap_bytes() +
      std::uint64_t{handles_.end()} * (sizeof(cu::AllocationHandle) + sizeof(Granule));
  return stats;
}

PoolStats DevicePool::stats() const {
  const Section section(*this);
  return stats_locked();
}

void DevicePool::reset_peaks() {
  const Section section(*this);
  stats_.requested_bytes_peak = stats_.requested_bytes;
  stats_.allocated_bytes_peak = stats_.allocated_bytes;
  stats_.reserved_bytes_peak = stats_.reserved_bytes;
  tags_.reset_peaks();
}

PoolSnapshot DevicePool::snapshot() const {
  PoolSnapshot snapshot;
  const Section section(*this);
  for (const BlockIndex region : space_.regions()) {
    PoolSnapshot::Segment* segment = nullptr;
    for (BlockIndex i = region; i != kNoBlock; i = space_.at(i).next.get()) {
      const Block& block = space_.at(i);
      if (block.is(BlockState::kUnmapped)) {
        segment = nullptr;
        continue;
      }
      const cu::DevicePtr pointer = pointer_at(block.begin.get());
      if (segment == nullptr) {
        snapshot.segments.push_back({pointer, 0, !in_arena(pointer), {}});
        segment = &snapshot.segments.back();
      }
      PoolSnapshot::SnapshotBlock copy;
      copy.pointer = pointer;
      copy.bytes = bytes_of(block.quanta.get());
      copy.state = block.is(BlockState::kKept) ? BlockState::kFree : block.state.get();
      const StreamIndex owner = streams_.owner_of(block.label.get());
      copy.neutral = owner == kNoStream;
      copy.stream_id = copy.neutral ? 0 : streams_.at(owner).id;
      if (block.is(BlockState::kLive)) {
        copy.requested_bytes = copy.bytes - block.slack.get();
        copy.tag_id = TagId(block.tag.get());
        copy.number = block.epoch.get();
      }
      segment->bytes += copy.bytes;
      segment->blocks.push_back(copy);
    }
  }
  for (std::uint32_t i = 0; i < tags_.count(); ++i) snapshot.tags.push_back(tags_.entry(TagId(i)));
  snapshot.stats = stats_locked();
  return snapshot;
}

Status DevicePool::check_invariants() const {
  const Section section(*this);
  std::string broken = broken_invariant();
  if (broken.empty()) return {};
  return {Code::kInternal, "device pool: " + std::move(broken)};
}

std::string DevicePool::broken_invariant() const {
  if (std::string broken = space_.check_invariants(); !broken.empty()) return broken;
  if (std::string broken = streams_.check_invariants(); !broken.empty()) return broken;
  const std::uint64_t mapped = handles_.mapped_granules() * granule_bytes_;
  const std::uint64_t spare = handles_.spare_granules() * granule_bytes_;
  if (mapped + spare + stats_.comm_bytes + creating_bytes_ != stats_.reserved_bytes &&
      creating_bytes_ == 0)
    return fmt::format("mapped {} + spare {} + comm {} is not reserved {}",
                       mapped,
                       spare,
                       stats_.comm_bytes,
                       stats_.reserved_bytes);
  if (stats_.reserved_bytes > budget_bytes_) return "more is reserved than the budget allows";
  std::uint32_t kept = 0;
  bool kept_well = true;
  for (StreamIndex i = 0; i < streams_.count(); ++i) {
    const StreamState& state = streams_.at(i);
    kept += state.kept.count();
    state.kept.for_each(space_.blocks(), [&](BlockIndex index, Quanta quanta) SPW_NO_THREAD_SAFETY {
      const Block& block = space_.at(index);
      kept_well = kept_well && block.is(BlockState::kKept) && block.quanta.get() == quanta &&
                  streams_.owner_of(block.label.get()) == i &&
                  space_.group_of(block.label.get()) == kArena;
    });
  }
  std::uint64_t live = 0, requested = 0, held = 0;
  std::uint32_t marked_kept = 0;
  std::vector<std::uint64_t> by_tag(tags_.count(), 0);
  std::string broken;
  space_.for_each([&](BlockIndex, const Block& block) {
    if (!block.is(BlockState::kUnmapped)) held += bytes_of(block.quanta.get());
    if (block.is(BlockState::kKept)) ++marked_kept;
    if (!block.is(BlockState::kLive)) return;
    const std::uint64_t bytes = bytes_of(block.quanta.get());
    live += bytes;
    requested += bytes - block.slack.get();
    by_tag[block.tag.get()] += bytes - block.slack.get();
  });
  if (!kept_well || kept != marked_kept || (kept != 0 && !has_kept_))
    return "kept blocks are not those that streams know";
  if (live != stats_.allocated_bytes || requested != stats_.requested_bytes)
    return "totals of live blocks are off";
  for (std::uint32_t i = 0; i < tags_.count(); ++i)
    if (by_tag[i] != tags_.totals_of(TagId(i)).allocated_bytes)
      return "totals of tag " + std::to_string(i) + " are off";
  // Claimed blocks may be on their way in or out.
  if (creating_bytes_ == 0 && space_.count_in(BlockState::kClaimed) == 0 &&
      held != mapped + stats_.comm_bytes)
    return fmt::format("blocks cover {} bytes, mapped are {}", held, mapped + stats_.comm_bytes);
  return {};
}

Status DevicePool::memory_table(const std::string& headline) const {
  struct Holder {
    std::uint64_t bytes = 0;
    std::uint64_t count = 0;
  };
  const PoolSnapshot now = snapshot();
  std::map<std::uint32_t, Holder> by_tag;
  for (const PoolSnapshot::Segment& segment : now.segments)
    for (const PoolSnapshot::SnapshotBlock& block : segment.blocks)
      if (block.state == BlockState::kLive) {
        Holder& holder = by_tag[block.tag_id.value];
        holder.bytes += block.requested_bytes;
        ++holder.count;
      }
  std::vector<std::pair<std::uint32_t, Holder>> holders(by_tag.begin(), by_tag.end());
  std::stable_sort(holders.begin(), holders.end(), [](const auto& a, const auto& b) {
    return a.second.bytes > b.second.bytes;
  });
  const PoolStats& s = now.stats;
  std::string text = headline;
  text += fmt::format(
      "\n  budget {}, reserved {}, live {} in {} blocks, free {} (largest hole {}), waiting for "
      "other streams {}",
      format_bytes(s.budget_bytes),
      format_bytes(s.reserved_bytes),
      format_bytes(s.requested_bytes),
      s.live_count,
      format_bytes(s.free_bytes),
      format_bytes(s.largest_free_bytes),
      format_bytes(s.deferred_bytes));
  text += fmt::format("\n  {:>10}  {:>7}  holder", "bytes", "blocks");
  for (std::size_t i = 0; i < holders.size() && i < kHoldersShown; ++i) {
    const TagEntry& entry = now.tags[holders[i].first];
    text += fmt::format("\n  {:>10}  {:>7}  {}",
                        format_bytes(holders[i].second.bytes),
                        holders[i].second.count,
                        holder_name(entry.tag, entry.name));
  }
  if (holders.size() > kHoldersShown)
    text += fmt::format("\n  and {} more", holders.size() - kHoldersShown);
  return {Code::kOutOfMemory, std::move(text)};
}

Status DevicePool::out_of_memory(const Request& request, std::uint32_t asked) {
  {
    const Section section(*this);
    ++stats_.out_of_memory_count;
  }
  std::string tried = "given-back memory, waiting for other streams, growing, remapping";
  if (options_.on_pressure != nullptr)
    tried += asked == 0 ? "; the pressure callback was not asked (called from inside it)"
                        : fmt::format(", the pressure callback ({} times)", asked);
  return memory_table(
      fmt::format("device pool: out of memory: {} ({} bytes) for stream {}; tried: {}",
                  format_bytes(request.bytes),
                  request.bytes,
                  request.stream.id(),
                  tried));
}

}  // namespace spillway
