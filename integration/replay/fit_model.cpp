// SPDX-License-Identifier: Apache-2.0
// Best fit and first fit over an ordered map of holes.
#include "integration/replay/fit_model.hpp"

#include "core/units.hpp"

#include <algorithm>
#include <iterator>
#include <string>

namespace spillway {
namespace {

constexpr std::uint64_t kQuantumBytes = 512;

std::uint64_t in_quanta(std::uint64_t bytes) {
  return (bytes + kQuantumBytes - 1) / kQuantumBytes * kQuantumBytes;
}

}  // namespace

void FitModel::insert_hole(std::uint64_t address, std::uint64_t bytes) {
  auto next = holes_.lower_bound(address);
  if (next != holes_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == address) {
      address = before->first;
      bytes += before->second;
      erase_hole(before);
    }
  }
  if (next != holes_.end() && address + bytes == next->first) {
    bytes += next->second;
    erase_hole(next);
  }
  holes_.emplace(address, bytes);
  by_size_.emplace(bytes, address);
}

void FitModel::erase_hole(std::map<std::uint64_t, std::uint64_t>::iterator hole) {
  by_size_.erase({hole->second, hole->first});
  holes_.erase(hole);
}

Result<std::uint64_t> FitModel::allocate(const AllocationTrace& trace, std::uint32_t block) {
  const std::uint64_t bytes = in_quanta(trace.blocks[block].bytes);
  auto hole = holes_.end();
  if (fit_ == Fit::kBest) {
    const auto found = by_size_.lower_bound({bytes, 0});
    if (found != by_size_.end()) hole = holes_.find(found->second);
  } else {
    hole = std::find_if(
        holes_.begin(), holes_.end(), [bytes](const auto& h) { return h.second >= bytes; });
  }
  if (hole == holes_.end()) {
    // The last hole grows when it touches the end.
    std::uint64_t address = top_;
    if (!holes_.empty() && holes_.rbegin()->first + holes_.rbegin()->second == top_)
      address = holes_.rbegin()->first;
    const std::uint64_t top = address + bytes;
    if (budget_bytes_ != 0 && top > budget_bytes_)
      return Status(Code::kOutOfMemory,
                    "out of memory: " + format_bytes(trace.blocks[block].bytes) +
                        " wanted, the arena is " + format_bytes(top_) + " of a budget of " +
                        format_bytes(budget_bytes_) + ", largest hole " +
                        format_bytes(largest_hole_bytes()));
    insert_hole(top_, top - top_);
    top_ = top;
    hole = holes_.find(address);
  }
  const auto [address, hole_bytes] = *hole;
  erase_hole(hole);
  if (hole_bytes > bytes) insert_hole(address + bytes, hole_bytes - bytes);
  return address;
}

Status FitModel::release(const AllocationTrace& trace,
                         std::uint32_t block,
                         std::uint64_t address,
                         std::uint32_t) {
  insert_hole(address, in_quanta(trace.blocks[block].bytes));
  return {};
}

std::vector<ReservedRange> FitModel::reserved_ranges() const {
  return top_ == 0 ? std::vector<ReservedRange>() : std::vector<ReservedRange>{{0, top_}};
}

}  // namespace spillway
