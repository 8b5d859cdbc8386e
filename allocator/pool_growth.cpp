// SPDX-License-Identifier: Apache-2.0
// Memory from the driver and back. Growing maps handles behind a free block, so that only what is
// missing is added: kept handles first, then handles that lie unused elsewhere in the arena (the
// host waits until no stream uses them: cuMemUnmap would not), then new ones inside the budget.
#include "allocator/pool_growth.hpp"

#include "allocator/pool_section.hpp"
#include "core/check.hpp"
#include "device/driver_error.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

namespace spillway {
namespace {

constexpr std::uint64_t kChunkRoundBytes = std::uint64_t{2} << 20;

}  // namespace

bool DevicePool::charge(std::uint64_t bytes) {
  if (bytes > budget_bytes_ || stats_.reserved_bytes > budget_bytes_ - bytes) return false;
  stats_.reserved_bytes += bytes;
  stats_.reserved_bytes_peak = std::max(stats_.reserved_bytes_peak, stats_.reserved_bytes);
  creating_bytes_ += bytes;
  return true;
}

void DevicePool::give_up(std::uint64_t bytes) {
  stats_.reserved_bytes -= bytes;
  creating_bytes_ -= bytes;
}

// Where the fewest granules make room for the request: an unmapped stretch with the free block
// before it, if the stream may use that at once. Fills in head, target's place and how many.
bool DevicePool::choose_target(const Request& request, Growth& growth, BlockIndex* unmapped) const {
  Quanta best_need = 0;
  *unmapped = kNoBlock;
  for (const BlockIndex region : space_.regions()) {
    if (bytes_of(space_.at(region).begin.get()) >= arena_bytes_) break;
    for (BlockIndex i = region; i != kNoBlock; i = space_.at(i).next.get()) {
      const Block& block = space_.at(i);
      if (!block.is(BlockState::kUnmapped)) continue;
      Quanta need = request.quanta;
      BlockIndex head = kNoBlock;
      if (block.prev != kNoBlock) {
        const Block& before = space_.at(block.prev);
        if (before.is(BlockState::kFree) && space_.group_of(before.label.get()) == kArena &&
            before.quanta.get() < need && streams_.may_use(request.index, point_of(before))) {
          head = block.prev;
          need -= before.quanta.get();
        }
      }
      const Granule granules = (need - 1) / granule_quanta_ + 1;
      if (std::uint64_t{granules} * granule_quanta_ > block.quanta.get()) continue;
      if (*unmapped == kNoBlock || need < best_need) {
        best_need = need;
        *unmapped = i;
        growth.head = head;
        growth.target_at = block.begin.get() / granule_quanta_;
        growth.target_granules = granules;
      }
    }
  }
  return *unmapped != kNoBlock;
}

// Handles for the target that lie wholly in free memory, from the smallest free blocks first, those
// that need no waiting before those that do. Under pressure the last may be larger than needed; the
// target then grows with it. Takes nothing yet.
void DevicePool::find_donors(const Request& request, bool press, Growth& growth) const {
  struct Candidate {
    Growth::Donor donor;
    Granule length = 0;
    Quanta block_quanta = 0;
    bool over = false;
  };
  std::vector<Candidate> candidates;
  for (const BlockIndex region : space_.regions()) {
    if (bytes_of(space_.at(region).begin.get()) >= arena_bytes_) break;
    for (BlockIndex i = region; i != kNoBlock; i = space_.at(i).next.get()) {
      const Block& block = space_.at(i);
      if (!block.is(BlockState::kFree) || i == growth.head ||
          space_.group_of(block.label.get()) != kArena || block.quanta.get() < granule_quanta_)
        continue;
      const StreamPoint point = point_of(block);
      const bool over =
          point.stream == kNoStream || point.epoch <= streams_.at(point.stream).done_epoch;
      if (!over && request.capture_id != 0) continue;  // nothing is waited for inside a capture
      const std::uint64_t end = std::uint64_t{block.begin.get()} + block.quanta.get();
      for (Granule at = (block.begin.get() + granule_quanta_ - 1) / granule_quanta_;
           std::uint64_t{at} * granule_quanta_ < end;) {
        const PlacedHandle handle = handles_.begins_at(at);
        if (handle.granules != 0 && (std::uint64_t{at} + handle.granules) * granule_quanta_ <= end)
          candidates.push_back({{i, at, point, false}, handle.granules, block.quanta.get(), over});
        at += std::max<Granule>(handle.granules, 1);
      }
    }
  }
  std::stable_sort(
      candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
        if (a.over != b.over) return a.over;
        return a.block_quanta < b.block_quanta;
      });
  Granule missing = growth.target_granules;
  const Candidate* larger = nullptr;
  for (const Candidate& candidate : candidates) {
    if (missing == 0) break;
    if (candidate.length > missing) {
      if (larger == nullptr || candidate.length < larger->length) larger = &candidate;
      continue;
    }
    missing -= candidate.length;
    growth.donors.push_back(candidate.donor);
  }
  if (missing == 0 || larger == nullptr || !press) return;
  growth.target_granules += larger->length - missing;
  growth.donors.push_back(larger->donor);
}

// Decides and claims everything, or nothing.
bool DevicePool::plan_growth(const Request& request, bool press, Growth& growth) {
  BlockIndex unmapped = kNoBlock;
  if (!choose_target(request, growth, &unmapped)) return false;
  const std::uint64_t wanted = std::uint64_t{growth.target_granules} * granule_bytes_;

  // New memory only as far as the budget and the permitted slack go; the rest is moved here.
  const std::uint64_t spare = handles_.spare_granules() * granule_bytes_;
  const std::uint64_t fresh = wanted - std::min(wanted, spare);
  const std::uint64_t after = stats_.reserved_bytes + fresh;
  const std::uint64_t live = stats_.allocated_bytes + request.bytes;
  const bool over_budget = after > budget_bytes_;
  const bool slack =
      remap_credit_ != 0 && options_.defragment_slack < 1 && after > live &&
      static_cast<double>(after - live) > options_.defragment_slack * static_cast<double>(after);
  if (over_budget && !press) return false;
  if (press || slack) find_donors(request, press, growth);
  if (!press && !growth.donors.empty()) --remap_credit_;
  Granule missing = growth.target_granules;
  for (const Growth::Donor& donor : growth.donors) missing -= handles_.begins_at(donor.at).granules;
  while (missing != 0) {
    PlacedHandle handle = handles_.take_spare(missing);
    if (handle.granules == 0 && press) handle = handles_.take_smallest_spare();
    if (handle.granules == 0) break;
    growth.spare.push_back(handle);
    const Granule excess = handle.granules - std::min(handle.granules, missing);
    growth.target_granules += excess;
    missing = missing + excess - handle.granules;
  }
  const Granule granules = growth.target_granules;
  const auto reserve_blocks = static_cast<std::uint32_t>(2 * growth.donors.size() + 4);
  const bool fits = quanta_of(granules) <= space_.at(unmapped).quanta.get();
  if (!fits || !space_.reserve(reserve_blocks) ||
      (missing != 0 && !charge(std::uint64_t{missing} * granule_bytes_))) {
    for (const PlacedHandle& handle : growth.spare) handles_.add_spare(handle);
    return false;
  }
  growth.created_granules = missing;
  const std::uint64_t handle_bytes =
      std::clamp(std::bit_floor(std::max<std::uint64_t>(request.bytes / 16, 1)),
                 granule_bytes_,
                 std::max(options_.handle_bytes_max, granule_bytes_));
  growth.handle_granules = static_cast<Granule>(handle_bytes / granule_bytes_);

  for (Growth::Donor& donor : growth.donors) {
    const Quanta begin = quanta_of(donor.at);
    donor.block = space_.claim_range(
        begin, quanta_of(handles_.begins_at(donor.at).granules), BlockState::kClaimed);
  }
  if (growth.head != kNoBlock)
    growth.head = space_.take(
        growth.head, space_.at(growth.head).quanta.get(), Space::End::kLow, BlockState::kClaimed);
  growth.target = space_.cut(unmapped, 0, quanta_of(granules));
  space_.set_state(growth.target, BlockState::kClaimed);
  tail_ = std::max(tail_, quanta_of(growth.target_at + granules));
  return true;
}

// The driver's part, outside the lock.
Status DevicePool::map_range(Growth& growth) {
  std::vector<StreamPoint> points;
  for (const Growth::Donor& donor : growth.donors)
    if (donor.point.stream != kNoStream) points.push_back(donor.point);
  SPW_RETURN_IF_ERROR(wait_on_host(points));
  for (Growth::Donor& donor : growth.donors) {
    PlacedHandle handle;
    {
      const Section section(*this);
      handle = handles_.begins_at(donor.at);
    }
    SPW_CU_TRY(driver_.cuMemUnmap(base_ + std::uint64_t{donor.at} * granule_bytes_,
                                  handle.granules * granule_bytes_));
    donor.unmapped = true;
    growth.ready.push_back(handle);
    const Section section(*this);
    handles_.take(donor.at);
  }
  growth.ready.insert(growth.ready.end(), growth.spare.begin(), growth.spare.end());
  growth.spare.clear();
  for (Granule missing = growth.created_granules; missing != 0;) {
    const Granule granules = std::min(missing, growth.handle_granules);
    PlacedHandle handle{0, granules};
    SPW_CU_TRY(driver_.cuMemCreate(&handle.handle, granules * granule_bytes_, &prop_, 0));
    growth.ready.push_back(handle);
    ++growth.created_count;
    missing -= granules;
  }
  const cu::DevicePtr begin = base_ + std::uint64_t{growth.target_at} * granule_bytes_;
  for (const PlacedHandle& handle : growth.ready) {
    SPW_CU_TRY(driver_.cuMemMap(begin + growth.mapped_granules * granule_bytes_,
                                handle.granules * granule_bytes_,
                                0,
                                handle.handle,
                                0));
    growth.mapped_granules += handle.granules;
    ++growth.mapped_count;
  }
  return allow_access(
      driver_, begin, std::uint64_t{growth.target_granules} * granule_bytes_, context_.device());
}

// Puts everything back where it can be; handles that lost their place are kept.
void DevicePool::undo_growth(Growth& growth) {
  cu::DevicePtr at = base_ + std::uint64_t{growth.target_at} * granule_bytes_;
  for (std::size_t i = 0; i < growth.mapped_count; ++i) {
    SPW_CU_END(driver_.cuMemUnmap(at, growth.ready[i].granules * granule_bytes_));
    at += growth.ready[i].granules * granule_bytes_;
  }
  const std::size_t kept = growth.ready.size() - growth.created_count;
  for (std::size_t i = kept; i < growth.ready.size(); ++i)
    SPW_CU_END(driver_.cuMemRelease(growth.ready[i].handle));
  const Section section(*this);
  give_up(std::uint64_t{growth.created_granules} * granule_bytes_);
  for (std::size_t i = 0; i < kept; ++i) handles_.add_spare(growth.ready[i]);
  for (const PlacedHandle& handle : growth.spare) handles_.add_spare(handle);
  for (const Growth::Donor& donor : growth.donors) {
    if (donor.unmapped) {
      space_.set_state(donor.block, BlockState::kUnmapped);
      space_.join_equal(donor.block);
    } else {
      const Block& block = space_.at(donor.block);
      space_.give(donor.block, block.label.get(), block.epoch.get());
    }
  }
  space_.set_state(growth.target, BlockState::kUnmapped);
  space_.join_equal(growth.target);
  if (growth.head != kNoBlock) {
    const Block& block = space_.at(growth.head);
    space_.give(growth.head, block.label.get(), block.epoch.get());
  }
}

// A block for the request, live; none when there is no room inside the budget. Without `press` only
// what the budget has left; with it, unused handles are moved.
Result<BlockIndex> DevicePool::grow(const Request& request, bool press) {
  if (request.group == kComm || !has_vmm_) return grow_chunk(request, press);
  Growth growth;
  {
    const Section section(*this);
    if (!plan_growth(request, press, growth)) return kNoBlock;
    calm_free_count_ = stats_.free_count + kFreesUntilCalm;
  }
  if (const Status mapped = map_range(growth); !mapped.ok()) {
    undo_growth(growth);
    // A full device is like a full budget; everything else is told.
    if (mapped.code() == Code::kOutOfMemory) return kNoBlock;
    return mapped;
  }
  const Section section(*this);
  creating_bytes_ -= std::uint64_t{growth.created_granules} * granule_bytes_;
  Granule at = growth.target_at;
  for (const PlacedHandle& handle : growth.ready) {
    handles_.place(at, handle);
    at += handle.granules;
  }
  ++stats_.grow_count;
  stats_.handle_create_count += growth.created_count;
  stats_.remap_count += growth.donors.size();
  for (const Growth::Donor& donor : growth.donors) {
    space_.set_state(donor.block, BlockState::kUnmapped);
    space_.at(donor.block).label.set(space_.neutral_of(kArena));
    space_.join_equal(donor.block);
  }
  BlockIndex block = growth.target;
  LabelIndex rest = space_.neutral_of(kArena);
  std::uint64_t epoch = 0;
  if (growth.head != kNoBlock) {
    rest = space_.at(growth.head).label.get();
    epoch = space_.at(growth.head).epoch.get();
    space_.merge_next(growth.head);
    block = growth.head;
  }
  if (!space_.reserve(1)) {
    space_.give(block, rest, epoch);
    return kNoBlock;
  }
  return keep_part(block, request, rest, epoch);
}

// A slot and places for a chunk; null when there is no more of either.
DevicePool::CommChunk* DevicePool::claim_chunk(std::uint64_t bytes) {
  CommChunk* slot = nullptr;
  std::vector<std::pair<Quanta, Quanta>> taken;
  for (CommChunk& chunk : chunks_) {
    if (chunk.claimed_quanta != 0)
      taken.emplace_back(chunk.begin.get(), chunk.claimed_quanta);
    else if (slot == nullptr)
      slot = &chunk;
  }
  if (slot == nullptr) return nullptr;
  std::sort(taken.begin(), taken.end());
  const auto round_up = [](Quanta place) {
    return (place + StartIndex::kChunkQuanta - 1) / StartIndex::kChunkQuanta *
           StartIndex::kChunkQuanta;
  };
  Quanta begin = round_up(quanta_for(arena_bytes_));
  for (const auto& [other, quanta] : taken) {
    if (other > begin && other - begin >= quanta_for(bytes)) break;
    begin = round_up(other + quanta);
  }
  if (quanta_for(kArenaBytesMax) - StartIndex::kChunkQuanta - begin <= quanta_for(bytes))
    return nullptr;
  slot->begin.set(begin);
  slot->claimed_quanta = quanta_for(bytes);
  return slot;
}

// A chunk of plain memory with the request at its beginning.
Result<BlockIndex> DevicePool::grow_chunk(const Request& request, bool press) {
  // The driver holds whole granules, whatever is asked for.
  const std::uint64_t granule = has_vmm_ ? granule_bytes_ : kChunkRoundBytes;
  const auto round_up = [granule](std::uint64_t bytes) {
    return (bytes - 1) / granule * granule + granule;
  };
  const std::uint64_t least = round_up(bytes_of(request.quanta));
  const std::uint64_t usual = round_up(std::max<std::uint64_t>(options_.comm_chunk_bytes, 1));
  for (const std::uint64_t bytes : {std::max(least, press ? 0 : usual), least}) {
    CommChunk* slot = nullptr;
    {
      const Section section(*this);
      if (!charge(bytes)) continue;
      slot = claim_chunk(bytes);
      if (slot == nullptr) {
        give_up(bytes);
        return kNoBlock;
      }
    }
    cu::DevicePtr pointer = 0;
    const cu::Result made = driver_.cuMemAlloc(&pointer, bytes);
    if (made != cu::Result::kSuccess) {
      const Section section(*this);
      give_up(bytes);
      slot->claimed_quanta = 0;
      if (made == cu::Result::kOutOfMemory) continue;
      return driver_status(made, "cuMemAlloc(&pointer, bytes)", __FILE__, __LINE__);
    }
    bool entered = false;
    if (observer_ != nullptr) observer_->arena_begin(pointer, bytes);
    BlockIndex block = kNoBlock;
    {
      const Section section(*this);
      entered = space_.reserve(2);
      if (entered) {
        creating_bytes_ -= bytes;
        stats_.comm_bytes += bytes;
        ++stats_.grow_count;
        slot->pointer.set(pointer);
        slot->quanta.set(quanta_for(bytes));
        const LabelIndex neutral = space_.neutral_of(request.group);
        const BlockIndex whole = space_.add_region(slot->begin.get(), quanta_for(bytes), neutral);
        block = keep_part(whole, request, neutral, 0);
      } else {
        give_up(bytes);
        slot->claimed_quanta = 0;
      }
    }
    if (entered) return block;
    if (observer_ != nullptr) observer_->arena_end(pointer, bytes);
    SPW_CU_END(driver_.cuMemFree(pointer));
    return kNoBlock;
  }
  return kNoBlock;
}

}  // namespace spillway
