// SPDX-License-Identifier: Apache-2.0
// Size classes, best fit, splitting and merging by the documented rules; see the header.
#include "integration/replay/pytorch_model.hpp"

#include "core/units.hpp"

#include <algorithm>
#include <iterator>
#include <string>

namespace spillway {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kBlockBytes = 512;      // every block is a multiple
constexpr std::uint64_t kSmallBytesMax = kMiB;  // larger requests go to the large pool
constexpr std::uint64_t kSmallSegmentBytes = 2 * kMiB;
constexpr std::uint64_t kMiddleBytesEnd = 10 * kMiB;  // requests below share segments
constexpr std::uint64_t kMiddleSegmentBytes = 20 * kMiB;
constexpr std::uint64_t kLargeStepBytes = 2 * kMiB;
constexpr std::uint64_t kAddressEnd = std::uint64_t{1} << 62;

std::uint64_t round_up(std::uint64_t bytes, std::uint64_t step) {
  return (bytes + step - 1) / step * step;
}

std::uint64_t segment_bytes_for(std::uint64_t block_bytes) {
  if (block_bytes <= kSmallBytesMax) return kSmallSegmentBytes;
  if (block_bytes < kMiddleBytesEnd) return kMiddleSegmentBytes;
  return round_up(block_bytes, kLargeStepBytes);
}

/// Whether the rest of a block that is too large stays a block of its own.
bool splits(bool small, std::uint64_t rest_bytes) {
  return small ? rest_bytes >= kBlockBytes : rest_bytes > kSmallBytesMax;
}

}  // namespace

void PytorchModel::add_free(std::uint64_t address, std::uint64_t bytes, std::uint64_t segment) {
  blocks_[address] = Block{bytes, segment, true};
  free_[segments_.at(segment).pool].emplace(bytes, address);
}

void PytorchModel::remove_free(Blocks::iterator block) {
  free_[segments_.at(block->second.segment).pool].erase({block->second.bytes, block->first});
}

void PytorchModel::take_segment(std::uint64_t address, std::uint64_t bytes, Pool pool) {
  segments_[address] = Segment{bytes, pool};
  reserved_bytes_ += bytes;
  ++ranges_version_;
  next_address_ = std::max(next_address_, round_up(address + bytes, kLargeStepBytes));
  add_free(address, bytes, address);
}

void PytorchModel::occupy(Blocks::iterator free_block, std::uint64_t bytes) {
  const std::uint64_t address = free_block->first;
  const Block block = free_block->second;
  remove_free(free_block);
  free_block->second.free = false;
  const std::uint64_t rest_bytes = block.bytes - bytes;
  if (!splits(segments_.at(block.segment).pool.small, rest_bytes)) return;
  free_block->second.bytes = bytes;
  add_free(address + bytes, rest_bytes, block.segment);
}

Status PytorchModel::place_recorded(const AllocationTrace& trace,
                                    std::vector<std::uint64_t>* addresses,
                                    std::vector<std::uint32_t>* homeless) {
  // Blocks come in address order. A gap too small to have been split off belongs to the block
  // before it.
  for (std::uint32_t i = 0; i < trace.preexisting_count; ++i) {
    const std::uint64_t address = trace.blocks[i].recorded_address;
    const std::uint64_t bytes = round_up(trace.blocks[i].bytes, kBlockBytes);
    auto place = blocks_.upper_bound(address);
    const bool inside =
        place != blocks_.begin() && std::prev(place)->second.free &&
        address - std::prev(place)->first <= std::prev(place)->second.bytes &&
        bytes <= std::prev(place)->second.bytes - (address - std::prev(place)->first);
    if (!inside) {
      homeless->push_back(i);
      continue;
    }
    --place;
    const std::uint64_t front_bytes = address - place->first;
    if (front_bytes != 0) {
      const Block whole = place->second;
      remove_free(place);
      const bool small = segments_.at(whole.segment).pool.small;
      if (splits(small, front_bytes) || place->first == whole.segment) {
        add_free(place->first, front_bytes, whole.segment);
      } else {
        std::prev(place)->second.bytes += front_bytes;  // the one before it in the same segment
        blocks_.erase(place);
      }
      add_free(address, whole.bytes - front_bytes, whole.segment);
      place = blocks_.find(address);
    }
    // Cut exactly: what follows decides whether the rest was split off.
    const Block rest = place->second;
    remove_free(place);
    place->second.free = false;
    if (rest.bytes > bytes) {
      place->second.bytes = bytes;
      add_free(address + bytes, rest.bytes - bytes, rest.segment);
    }
    (*addresses)[i] = address;
  }
  // Rests that end a segment.
  for (auto block = blocks_.begin(); block != blocks_.end();) {
    const auto next = std::next(block);
    const Segment& segment = segments_.at(block->second.segment);
    if (block->second.free && block->first != block->second.segment &&
        !splits(segment.pool.small, block->second.bytes)) {
      remove_free(block);
      std::prev(block)->second.bytes += block->second.bytes;
      blocks_.erase(block);
    }
    block = next;
  }
  return {};
}

Status PytorchModel::begin(const AllocationTrace& trace, std::vector<std::uint64_t>* addresses) {
  std::uint64_t end = 0;
  for (const ReplaySegment& segment : trace.segments) {
    // Overlapping or odd ones come from damaged traces: what they hold is allocated anew.
    if (segment.bytes == 0 || segment.address < end || segment.address > kAddressEnd ||
        segment.bytes > kAddressEnd)
      continue;
    end = segment.address + segment.bytes;
    take_segment(
        segment.address, segment.bytes, Pool{segment.stream, segment.bytes <= kSmallSegmentBytes});
  }
  std::vector<std::uint32_t> homeless;
  SPW_RETURN_IF_ERROR(place_recorded(trace, addresses, &homeless));
  if (budget_bytes_ != 0 && reserved_bytes_ > budget_bytes_) release_cached();
  if (budget_bytes_ != 0 && reserved_bytes_ > budget_bytes_)
    return {Code::kOutOfMemory,
            "out of memory before the first event: the recorded segments hold " +
                format_bytes(reserved_bytes_) + ", the budget is " + format_bytes(budget_bytes_)};
  for (const std::uint32_t block : homeless) {
    SPW_ASSIGN_OR_RETURN((*addresses)[block], allocate(trace, block));
  }
  return {};
}

void PytorchModel::release_cached() {
  for (auto segment = segments_.begin(); segment != segments_.end();) {
    const auto block = blocks_.find(segment->first);
    if (block->second.free && block->second.bytes == segment->second.bytes) {
      remove_free(block);
      blocks_.erase(block);
      reserved_bytes_ -= segment->second.bytes;
      ++ranges_version_;
      segment = segments_.erase(segment);
    } else {
      ++segment;
    }
  }
}

Status PytorchModel::make_segment(std::uint64_t block_bytes, std::uint64_t asked_bytes, Pool pool) {
  const std::uint64_t bytes = segment_bytes_for(block_bytes);
  const auto too_much = [&] {
    return budget_bytes_ != 0 && (bytes > budget_bytes_ || reserved_bytes_ > budget_bytes_ - bytes);
  };
  if (too_much()) release_cached();
  if (too_much())
    return {Code::kOutOfMemory,
            "out of memory: " + format_bytes(asked_bytes) + " wanted, " +
                format_bytes(reserved_bytes_) + " held in " + std::to_string(segments_.size()) +
                " segments of a budget of " + format_bytes(budget_bytes_) + ", largest hole " +
                format_bytes(largest_hole_bytes())};
  take_segment(next_address_, bytes, pool);
  ++segments_made_;
  return {};
}

Result<std::uint64_t> PytorchModel::allocate(const AllocationTrace& trace, std::uint32_t block) {
  const std::uint64_t bytes = round_up(trace.blocks[block].bytes, kBlockBytes);
  const Pool pool{trace.blocks[block].stream, bytes <= kSmallBytesMax};
  auto found = free_[pool].lower_bound({bytes, 0});
  if (found == free_[pool].end()) {
    SPW_RETURN_IF_ERROR(make_segment(bytes, trace.blocks[block].bytes, pool));
    found = free_[pool].lower_bound({bytes, 0});
  }
  const std::uint64_t address = found->second;
  occupy(blocks_.find(address), bytes);
  return address;
}

Status PytorchModel::release(const AllocationTrace& trace,
                             std::uint32_t block,
                             std::uint64_t address,
                             std::uint32_t) {
  auto freed = blocks_.find(address);
  if (freed == blocks_.end() || freed->second.free)
    return {Code::kInternal,
            "the model lost a block of " + format_bytes(trace.blocks[block].bytes)};
  const std::uint64_t segment = freed->second.segment;
  std::uint64_t begin = freed->first;
  std::uint64_t end = begin + freed->second.bytes;
  const auto next = std::next(freed);
  if (next != blocks_.end() && next->second.segment == segment && next->second.free) {
    end += next->second.bytes;
    remove_free(next);
    blocks_.erase(next);
  }
  if (freed != blocks_.begin()) {
    const auto before = std::prev(freed);
    if (before->second.segment == segment && before->second.free) {
      begin = before->first;
      remove_free(before);
      blocks_.erase(before);
    }
  }
  blocks_.erase(freed);
  add_free(begin, end - begin, segment);
  return {};
}

std::uint64_t PytorchModel::largest_hole_bytes() const {
  std::uint64_t largest = 0;
  for (const auto& [pool, blocks] : free_)
    if (!blocks.empty()) largest = std::max(largest, blocks.rbegin()->first);
  return largest;
}

std::vector<ReservedRange> PytorchModel::reserved_ranges() const {
  std::vector<ReservedRange> ranges;
  for (const auto& [address, segment] : segments_) ranges.push_back({address, segment.bytes});
  return ranges;
}

}  // namespace spillway
