// SPDX-License-Identifier: Apache-2.0
// Ends are swept before begins of the same instant: lifetimes are half-open.
#include "allocator/packing_check.hpp"

#include <algorithm>
#include <cstddef>
#include <map>
#include <numeric>
#include <string>
#include <utility>

namespace spillway {
namespace {

constexpr std::uint64_t kEnd = ~std::uint64_t{0};

Status broken(std::size_t buffer, const std::string& law) {
  return {Code::kInternal, "packing: buffer " + std::to_string(buffer) + " " + law};
}

bool takes_room(const PackBuffer& buffer) { return buffer.bytes > 0 && buffer.begin < buffer.end; }

/// Address ranges of the buffers alive now.
class LiveRanges {
 public:
  /// The buffer that is in the way, or `none`.
  std::size_t add(std::uint64_t begin, std::uint64_t end, std::size_t buffer, std::size_t none) {
    const auto above = ranges_.lower_bound(begin);
    if (above != ranges_.end() && above->first < end) return above->second.second;
    if (above != ranges_.begin()) {
      const auto below = std::prev(above);
      if (below->second.first > begin) return below->second.second;
    }
    ranges_.emplace_hint(above, begin, std::make_pair(end, buffer));
    return none;
  }
  void remove(std::uint64_t begin) { ranges_.erase(begin); }

 private:
  std::map<std::uint64_t, std::pair<std::uint64_t, std::size_t>> ranges_;
};

struct Moment {
  std::uint64_t time;
  bool begins;
  std::size_t buffer;
};

std::vector<Moment> moments_of(const PackingProblem& problem) {
  std::vector<Moment> moments;
  for (std::size_t i = 0; i < problem.buffers.size(); ++i) {
    const PackBuffer& buffer = problem.buffers[i];
    if (!takes_room(buffer)) continue;
    moments.push_back({buffer.begin, true, i});
    moments.push_back({buffer.end, false, i});
  }
  std::sort(moments.begin(), moments.end(), [](const Moment& a, const Moment& b) {
    return a.time != b.time ? a.time < b.time : a.begins < b.begins;
  });
  return moments;
}

}  // namespace

Status check_packing(const PackingProblem& problem, const Packing& packing) {
  const std::vector<PackBuffer>& buffers = problem.buffers;
  if (packing.offsets.size() != buffers.size())
    return {Code::kInternal,
            "packing: " + std::to_string(packing.offsets.size()) + " offsets for " +
                std::to_string(buffers.size()) + " buffers"};
  std::uint64_t quantum = 0;
  for (const PackBuffer& buffer : buffers)
    if (takes_room(buffer)) quantum = std::gcd(quantum, buffer.alignment);

  std::vector<std::uint64_t> ends(buffers.size(), 0);
  std::uint64_t height = 0;
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    const PackBuffer& buffer = buffers[i];
    const std::uint64_t offset = packing.offsets[i];
    if (buffer.begin > buffer.end) return broken(i, "ends before it begins");
    if (buffer.alignment == 0 || offset % buffer.alignment != 0)
      return broken(i, "is off its alignment");
    if (buffer.fixed_offset && *buffer.fixed_offset != offset)
      return broken(i, "is not at its fixed offset");
    if (!takes_room(buffer)) continue;
    const std::uint64_t rest = quantum == 0 ? 0 : buffer.bytes % quantum;
    const std::uint64_t padding = rest == 0 ? 0 : quantum - rest;
    if (buffer.bytes > kEnd - offset || padding > kEnd - offset - buffer.bytes)
      return broken(i, "ends past the last address");
    ends[i] = offset + buffer.bytes + padding;
    height = std::max(height, ends[i]);
  }

  LiveRanges live;
  std::uint64_t load = 0;
  std::uint64_t load_peak = 0;
  for (const Moment& moment : moments_of(problem)) {
    const std::uint64_t offset = packing.offsets[moment.buffer];
    const std::uint64_t placed = ends[moment.buffer] - offset;
    if (!moment.begins) {
      live.remove(offset);
      load -= placed;
      continue;
    }
    const std::size_t other = live.add(offset, ends[moment.buffer], moment.buffer, buffers.size());
    if (other != buffers.size())
      return broken(moment.buffer, "overlaps buffer " + std::to_string(other));
    load += placed;  // disjoint ranges below `height`: no overflow
    load_peak = std::max(load_peak, load);
  }
  if (height != packing.height_bytes)
    return {Code::kInternal,
            "packing: height " + std::to_string(packing.height_bytes) + ", found " +
                std::to_string(height)};
  if (load_peak != packing.load_bound_bytes)
    return {Code::kInternal,
            "packing: load bound " + std::to_string(packing.load_bound_bytes) + ", found " +
                std::to_string(load_peak)};
  return {};
}

}  // namespace spillway
