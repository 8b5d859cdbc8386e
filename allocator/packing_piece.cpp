// SPDX-License-Identifier: Apache-2.0
// Stripping and splitting keep an optimum: below a stack, a buffer that is alive throughout can
// always be moved to the bottom; what shares no time shares no address conflict.
#include "allocator/packing_piece.hpp"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

namespace spillway {
namespace {

constexpr std::uint64_t kSumMax = std::uint64_t{1} << 62;

Status invalid(std::size_t buffer, const std::string& text) {
  return {Code::kInvalidArgument, "packing: buffer " + std::to_string(buffer) + ": " + text};
}

bool takes_room(const PackBuffer& buffer) { return buffer.bytes > 0 && buffer.begin < buffer.end; }

/// Adds, or says no at kSumMax.
bool add_checked(std::uint64_t* sum, std::uint64_t bytes) {
  if (bytes >= kSumMax || *sum >= kSumMax - bytes) return false;
  *sum += bytes;
  return true;
}

struct Part {
  std::vector<std::uint32_t> members;  // by begin
  std::uint64_t base_bytes;
};

class Splitter {
 public:
  explicit Splitter(const PackingProblem& problem) : buffers_(problem.buffers) {}

  Result<PackPieces> run() {
    SPW_RETURN_IF_ERROR(read());
    out_.load_bound_bytes = load_bound();
    while (!parts_.empty()) {
      const Part part = std::move(parts_.back());
      parts_.pop_back();
      take_apart(part);
    }
    // The piece with the largest load decides most; ties by position keep the order defined.
    std::sort(out_.pieces.begin(), out_.pieces.end(), [](const PackPiece& a, const PackPiece& b) {
      const std::uint64_t top_a = a.base_bytes + static_cast<std::uint64_t>(a.load) * a.unit_bytes;
      const std::uint64_t top_b = b.base_bytes + static_cast<std::uint64_t>(b.load) * b.unit_bytes;
      return top_a != top_b ? top_a > top_b : a.members.front() < b.members.front();
    });
    return std::move(out_);
  }

 private:
  Status read() {
    out_.offsets.assign(buffers_.size(), 0);
    if (buffers_.size() > std::size_t{1} << 30)
      return {Code::kInvalidArgument, "packing: more than 2^30 buffers"};
    for (std::size_t i = 0; i < buffers_.size(); ++i) {
      const PackBuffer& buffer = buffers_[i];
      if (buffer.begin > buffer.end) return invalid(i, "ends before it begins");
      if (buffer.alignment == 0) return invalid(i, "an alignment of 0");
      if (buffer.fixed_offset && *buffer.fixed_offset % buffer.alignment != 0)
        return invalid(i, "its fixed offset is off its alignment");
      if (takes_room(buffer)) quantum_ = std::gcd(quantum_, buffer.alignment);
    }
    // Any packer stays below the sum of all sizes and alignments above the highest fixed buffer.
    std::uint64_t sum = 0;
    std::uint64_t fixed_top = 0;
    Part all{{}, 0};
    placed_.assign(buffers_.size(), 0);
    for (std::size_t i = 0; i < buffers_.size(); ++i) {
      const PackBuffer& buffer = buffers_[i];
      if (buffer.fixed_offset) out_.offsets[i] = *buffer.fixed_offset;
      if (!takes_room(buffer)) continue;
      const std::uint64_t rest = buffer.bytes % quantum_;
      std::uint64_t top = buffer.fixed_offset.value_or(0);
      if (!add_checked(&sum, buffer.bytes) || !add_checked(&sum, buffer.alignment) ||
          top >= kSumMax || !add_checked(&top, buffer.bytes) || !add_checked(&top, quantum_))
        return invalid(i, "sizes add up to 2^62 bytes or more");
      placed_[i] = buffer.bytes + (rest == 0 ? 0 : quantum_ - rest);
      if (buffer.fixed_offset) fixed_top = std::max(fixed_top, top);
      if (buffer.fixed_offset || buffer.alignment != quantum_) plain_ = false;
      all.members.push_back(static_cast<std::uint32_t>(i));
    }
    if (!add_checked(&sum, fixed_top))
      return {Code::kInvalidArgument, "packing: sizes add up to 2^62 bytes or more"};
    std::sort(all.members.begin(), all.members.end(), [this](std::uint32_t a, std::uint32_t b) {
      return buffers_[a].begin != buffers_[b].begin ? buffers_[a].begin < buffers_[b].begin : a < b;
    });
    patience_ = 32 * all.members.size();
    if (!all.members.empty()) parts_.push_back(std::move(all));
    return {};
  }

  [[nodiscard]] std::uint64_t load_bound() const {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> ends;  // by time
    std::uint64_t peak = 0;
    if (parts_.empty()) return peak;
    for (const std::uint32_t i : parts_.front().members)
      ends.emplace_back(buffers_[i].end, placed_[i]);
    std::sort(ends.begin(), ends.end());
    std::uint64_t load = 0;
    std::size_t ended = 0;
    for (const std::uint32_t i : parts_.front().members) {
      for (; ends[ended].first <= buffers_[i].begin; ++ended) load -= ends[ended].second;
      load += placed_[i];
      peak = std::max(peak, load);
    }
    return peak;
  }

  void take_apart(const Part& part) {
    std::vector<Part> groups = groups_in_time(part);
    if (groups.size() > 1) {
      for (Part& group : groups) parts_.push_back(std::move(group));
      return;
    }
    PackPiece piece = piece_of(part);
    // Nested lifetimes would peel one by one; that is bounded, and only a help.
    if (plain_ && patience_ >= part.members.size()) {
      patience_ -= part.members.size();
      Part rest{{}, part.base_bytes};
      for (std::size_t i = 0; i < piece.count(); ++i) {
        const std::uint32_t member = piece.members[i];
        if (piece.first[i] != 0 || piece.last[i] != piece.section_count - 1) {
          rest.members.push_back(member);
          continue;
        }
        out_.offsets[member] = rest.base_bytes;
        rest.base_bytes += placed_[member];
      }
      out_.settled_height_bytes = std::max(out_.settled_height_bytes, rest.base_bytes);
      if (rest.members.empty()) return;
      if (rest.members.size() != part.members.size()) {
        parts_.push_back(std::move(rest));
        return;
      }
    }
    out_.pieces.push_back(std::move(piece));
  }

  [[nodiscard]] std::vector<Part> groups_in_time(const Part& part) const {
    std::vector<Part> groups;
    std::uint64_t end = 0;
    for (const std::uint32_t i : part.members) {
      if (groups.empty() || buffers_[i].begin >= end) groups.push_back({{}, part.base_bytes});
      groups.back().members.push_back(i);
      end = std::max(end, buffers_[i].end);
    }
    return groups;
  }

  [[nodiscard]] PackPiece piece_of(const Part& part) const {
    PackPiece piece;
    piece.members = part.members;
    piece.base_bytes = part.base_bytes;
    const std::size_t count = part.members.size();
    std::vector<std::uint32_t> by_end(count);
    std::iota(by_end.begin(), by_end.end(), 0u);
    std::sort(by_end.begin(), by_end.end(), [&](std::uint32_t a, std::uint32_t b) {
      return buffers_[part.members[a]].end < buffers_[part.members[b]].end;
    });
    piece.first.resize(count);
    piece.last.resize(count);
    bool grown = false;  // since the last end: the set alive now is in no set before it
    std::size_t ended = 0;
    const auto end_until = [&](std::uint64_t time) {
      for (; ended < count && buffers_[part.members[by_end[ended]]].end <= time; ++ended) {
        if (grown) ++piece.section_count;
        grown = false;
        piece.last[by_end[ended]] = piece.section_count - 1;
      }
    };
    for (std::size_t i = 0; i < count; ++i) {
      end_until(buffers_[part.members[i]].begin);
      piece.first[i] = piece.section_count;
      grown = true;
    }
    end_until(~std::uint64_t{0});

    // Without fixed offsets and alignments a packing may be pushed down until offsets are sums of
    // sizes, so the sizes' common divisor is the finest step that matters.
    std::uint64_t unit = plain_ ? 0 : quantum_;
    if (plain_)
      for (const std::uint32_t member : part.members) unit = std::gcd(unit, placed_[member]);
    piece.unit_bytes = unit;
    piece.sections_load.assign(static_cast<std::size_t>(piece.section_count), 0);
    for (std::size_t i = 0; i < count; ++i) {
      const PackBuffer& buffer = buffers_[part.members[i]];
      const auto in_units = [unit](std::uint64_t bytes) {
        return static_cast<std::int64_t>(bytes / unit);
      };
      piece.size.push_back(in_units(placed_[part.members[i]]));
      piece.align.push_back(plain_ ? 1 : in_units(buffer.alignment));
      piece.fixed.push_back(buffer.fixed_offset ? in_units(*buffer.fixed_offset) : -1);
      // A hint only orders: one below the piece's floor counts as the floor.
      piece.hint.push_back(
          buffer.hint_offset
              ? in_units(std::min(*buffer.hint_offset, kSumMax) -
                         std::min(*buffer.hint_offset, std::min(part.base_bytes, kSumMax)))
              : -1);
      piece.aligned = piece.aligned || piece.align.back() != 1;
      piece.pinned = piece.pinned || piece.fixed.back() >= 0;
      piece.sections_load[static_cast<std::size_t>(piece.first[i])] += piece.size[i];
      if (piece.last[i] + 1 < piece.section_count)
        piece.sections_load[static_cast<std::size_t>(piece.last[i]) + 1] -= piece.size[i];
    }
    std::partial_sum(
        piece.sections_load.begin(), piece.sections_load.end(), piece.sections_load.begin());
    piece.load = *std::max_element(piece.sections_load.begin(), piece.sections_load.end());
    return piece;
  }

  const std::vector<PackBuffer>& buffers_;
  std::vector<std::uint64_t> placed_;  // bytes rounded up to the quantum
  std::uint64_t quantum_ = 0;
  bool plain_ = true;  // nothing is fixed and all alignments are equal
  std::size_t patience_ = 0;
  std::vector<Part> parts_;
  PackPieces out_;
};

}  // namespace

Result<PackPieces> split_into_pieces(const PackingProblem& problem) {
  return Splitter(problem).run();
}

}  // namespace spillway
