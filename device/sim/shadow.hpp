// SPDX-License-Identifier: Apache-2.0
// Shadow memory of the race checker: for every byte the last write and the reads since. An interval
// map in sorted chunks of at most 32 intervals, because programs touch the same block boundaries
// again and again. Rules: FastTrack (Flanagan and Freund, PLDI 2009), one read record per agent.
#pragma once

#include "device/sim/access.hpp"
#include "device/sim/vector_clock.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace spillway::sim {

/// Interval map: range -> {last write, reads since}.
///
///   A read races with the last write that its clock does not cover; a write also with each read
///   since that write that its clock does not cover.
///
/// A read record that the clock of a newer read covers is dropped: a write that races with the old
/// read races with the new one as well, so the first race on a byte is always reported. Therefore
/// at most one record per agent is kept. Neighbours with equal histories merge.
///
/// REQUIRES: accesses come in an order that agrees with happens-before (order of issue does).
class Shadow {
 public:
  /// Checks the access against the history of `range`, appends what races to `out` (one entry per
  /// run of bytes and earlier access), then adds it to the history. An empty range does nothing.
  /// REQUIRES: clock covers site.epoch; site.epoch.tick > 0.
  void access(Range range, const VectorClock& clock, const Site& site, std::vector<Conflict>& out);

  /// Drops the history of `range`: no later access races with anything before.
  void forget(Range range);

  /// Drops everything and keeps the memory; costs next to nothing when little was used.
  void reset();

  /// Intervals held now.
  [[nodiscard]] std::size_t interval_count() const { return interval_count_; }

  /// Read records held now by the byte at `address`.
  [[nodiscard]] std::size_t read_count(std::uint64_t address) const;

  /// True when intervals are sorted, disjoint, not empty, and no two neighbours could merge, and
  /// when chunks and cells are neither lost nor shared. For tests; walks everything.
  [[nodiscard]] bool check_invariants() const;

 private:
  static constexpr std::uint32_t kChunkEntries = 32;
  static constexpr std::uint32_t kInlineReads = 2;

  /// A Site packed to half a cache line; tick 0 is "none".
  struct Record {
    const char* call = "";
    std::uint64_t op = 0;
    std::uint64_t tick = 0;
    AgentId agent = 0;
    AccessKind kind = AccessKind::kRead;

    [[nodiscard]] Epoch epoch() const { return {agent, tick}; }
    [[nodiscard]] bool same(const Record& other) const {
      return tick == other.tick && agent == other.agent && op == other.op && kind == other.kind;
    }
  };

  /// History of one interval. Reads are sorted by agent; up to two lie inside. INVARIANT: with more
  /// than two, many_reads has all of them and no others.
  struct Cell {
    Record write;
    std::array<Record, kInlineReads> few_reads;
    std::vector<Record> many_reads;
    std::uint32_t read_count = 0;

    [[nodiscard]] const Record* reads() const {
      return read_count <= kInlineReads ? few_reads.data() : many_reads.data();
    }
    [[nodiscard]] bool same(const Cell& other) const;
    /// A checksum: cells that are the same have the same one.
    [[nodiscard]] std::uint32_t mark() const;
    void set_write(const Record& record);
    void copy_from(const Cell& other);
    /// Adds `record` and drops all reads that `clock` covers.
    void add_read(const Record& record, const VectorClock& clock);
  };

  struct Entry {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    std::uint32_t cell = 0;
    std::uint32_t mark = 0;  // Cell::mark() of the cell, so that neighbours compare without it
  };

  struct Chunk {
    std::uint32_t count = 0;
    std::array<Entry, kChunkEntries> entries;
  };

  /// Place of an interval: chunk number in address order, and slot. One past the last interval is
  /// {order_.size(), 0}.
  struct Place {
    std::size_t chunk = 0;
    std::uint32_t slot = 0;
  };

  [[nodiscard]] bool at_end(Place place) const { return place.chunk == order_.size(); }
  [[nodiscard]] Chunk& chunk_at(std::size_t chunk) { return chunks_[order_[chunk]]; }
  [[nodiscard]] const Chunk& chunk_at(std::size_t chunk) const { return chunks_[order_[chunk]]; }
  [[nodiscard]] Entry& entry(Place place) { return chunk_at(place.chunk).entries[place.slot]; }
  [[nodiscard]] const Entry& entry(Place place) const {
    return chunk_at(place.chunk).entries[place.slot];
  }
  [[nodiscard]] Place next(Place place) const;
  /// REQUIRES: not the first.
  [[nodiscard]] Place previous(Place place) const;
  /// First interval that ends after `address`.
  [[nodiscard]] Place find(std::uint64_t address) const;

  void set_begin(Place place, std::uint64_t begin);
  /// Puts an interval before `place`; returns where it is now.
  Place insert(Place place, const Entry& what);
  void erase(Place place);
  /// Removes all intervals from `place` on that begin before `end`.
  void erase_until(Place place, std::uint64_t end);
  /// Cuts the interval at `place` in two when `address` lies inside; returns the one that begins
  /// at `address` then, and `place` otherwise.
  Place split(Place place, std::uint64_t address);
  /// Makes both ends of `range` borders. `first` is find(range.begin); returns that place anew.
  Place split_at_ends(Place first, Range range);
  [[nodiscard]] bool same(const Entry& a, const Entry& b) const {
    return a.mark == b.mark && cells_[a.cell].same(cells_[b.cell]);
  }
  /// Merges neighbours from the one before `place` to the one that begins at `end`.
  void merge(Place place, std::uint64_t end);

  std::uint32_t take_cell();
  std::uint32_t take_chunk();

  void check(const Entry& found,
             Range range,
             const VectorClock& clock,
             const Site& site,
             std::size_t first_out,
             std::vector<Conflict>& out) const;
  void write(Place first, Range range, const Record& record);
  void read(Place first, Range range, const Record& record, const VectorClock& clock);

  // INVARIANT: first_[i] == chunks_[order_[i]].entries[0].begin; no chunk in order_ is empty.
  std::vector<std::uint64_t> first_;
  std::vector<std::uint32_t> order_;
  std::vector<Chunk> chunks_;
  std::vector<Cell> cells_;
  std::vector<std::uint32_t> free_chunks_;
  std::vector<std::uint32_t> free_cells_;
  std::size_t chunks_used_ = 0;  // chunks_ and cells_ from here on were not used since reset
  std::size_t cells_used_ = 0;
  std::size_t interval_count_ = 0;
};

}  // namespace spillway::sim
