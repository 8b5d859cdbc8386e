// SPDX-License-Identifier: Apache-2.0
// The documented rules of PyTorch's native CUDA caching allocator as a model, so that a comparison
// on somebody's trace is fair: 512 B blocks; requests up to 1 MiB in segments of 2 MiB; up to 10
// MiB in segments of 20 MiB; larger ones in segments of their own, rounded up to 2 MiB; per stream
// and pool the smallest block that fits, lowest address first; neighbours merged inside of a
// segment; segments kept until the budget is full. It starts from the segments that the trace
// recorded. Options (max_split_size, rounding, expandable segments) are not modelled.
#pragma once

#include "integration/replay/allocator_under_test.hpp"

#include <cstdint>
#include <map>
#include <set>
#include <tuple>
#include <utility>

namespace spillway {

class PytorchModel final : public AllocatorUnderTest {
 public:
  /// `budget_bytes` 0: no limit.
  explicit PytorchModel(std::uint64_t budget_bytes) : budget_bytes_(budget_bytes) {}

  [[nodiscard]] std::string_view name() const override { return "pytorch"; }
  /// Takes over the recorded segments and puts what was there where it was.
  Status begin(const AllocationTrace& trace, std::vector<std::uint64_t>* addresses) override;
  Result<std::uint64_t> allocate(const AllocationTrace& trace, std::uint32_t block) override;
  Status release(const AllocationTrace& trace,
                 std::uint32_t block,
                 std::uint64_t address,
                 std::uint32_t stream) override;
  [[nodiscard]] std::uint64_t reserved_bytes() const override { return reserved_bytes_; }
  [[nodiscard]] std::uint64_t largest_hole_bytes() const override;
  [[nodiscard]] std::vector<ReservedRange> reserved_ranges() const override;
  [[nodiscard]] bool grows_in_place() const override { return false; }
  [[nodiscard]] std::uint64_t ranges_version() const override { return ranges_version_; }
  [[nodiscard]] std::size_t segment_count() const { return segments_.size(); }
  /// cudaMalloc calls that the rules made during the replay.
  [[nodiscard]] std::size_t segments_made() const { return segments_made_; }

 private:
  struct Pool {
    std::uint32_t stream = 0;
    bool small = false;
    friend bool operator<(const Pool& a, const Pool& b) {
      return std::tie(a.stream, a.small) < std::tie(b.stream, b.small);
    }
  };
  struct Segment {
    std::uint64_t bytes = 0;
    Pool pool;
  };
  struct Block {
    std::uint64_t bytes = 0;
    std::uint64_t segment = 0;  // its address
    bool free = false;
  };
  using Blocks = std::map<std::uint64_t, Block>;
  using FreeBlocks = std::set<std::pair<std::uint64_t, std::uint64_t>>;  // (bytes, address)

  void take_segment(std::uint64_t address, std::uint64_t bytes, Pool pool);
  void add_free(std::uint64_t address, std::uint64_t bytes, std::uint64_t segment);
  void remove_free(Blocks::iterator block);
  /// A free block at `address` inside of the segment, cut out for `bytes`; the rest stays free
  /// where the rules split.
  void occupy(Blocks::iterator free_block, std::uint64_t bytes);
  Status place_recorded(const AllocationTrace& trace,
                        std::vector<std::uint64_t>* addresses,
                        std::vector<std::uint32_t>* homeless);
  Status make_segment(std::uint64_t block_bytes, std::uint64_t asked_bytes, Pool pool);
  void release_cached();

  std::uint64_t budget_bytes_;
  std::uint64_t reserved_bytes_ = 0;
  std::uint64_t next_address_ = std::uint64_t{2} << 20;  // of the next segment made
  std::size_t segments_made_ = 0;
  std::uint64_t ranges_version_ = 0;
  std::map<std::uint64_t, Segment> segments_;  // by address
  Blocks blocks_;                              // by address; they tile the segments
  std::map<Pool, FreeBlocks> free_;
};

}  // namespace spillway
