// SPDX-License-Identifier: Apache-2.0
// One piece of a packing problem, worked on in rounds. A round is a fixed list of tasks (orders,
// climbers, searches) with a fixed allotment of steps each, so that its result does not depend on
// how many threads share it.
#pragma once

#include "allocator/packing_greedy.hpp"
#include "allocator/packing_improve.hpp"
#include "allocator/packing_search.hpp"
#include "allocator/packing_threads.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace spillway {

class PieceSolver {
 public:
  PieceSolver(PackPiece piece, std::uint64_t seed);
  PieceSolver(PieceSolver&&) = delete;
  PieceSolver& operator=(PieceSolver&&) = delete;
  PieceSolver(const PieceSolver&) = delete;
  PieceSolver& operator=(const PieceSolver&) = delete;
  ~PieceSolver();

  /// The first round places in every order; later ones search and climb. At most about `step_limit`
  /// steps (the first round places once at least). Ends early at a height of `enough_bytes`.
  /// Returns the steps spent.
  std::uint64_t run_round(std::uint64_t step_limit,
                          std::uint64_t enough_bytes,
                          PackingThreads* threads,
                          const std::function<bool()>& stop);

  [[nodiscard]] const PackPiece& piece() const { return piece_; }
  [[nodiscard]] const PieceLayout& best() const { return best_; }
  [[nodiscard]] const std::string& method() const { return method_; }
  /// In bytes, with what the piece stands on.
  [[nodiscard]] std::uint64_t height_bytes() const { return to_bytes(best_.height); }
  /// No packing of the piece is lower.
  [[nodiscard]] std::uint64_t lower_bound_bytes() const { return to_bytes(lower_bound_); }

 private:
  struct Slot;
  /// One way to search; those that found something are used more.
  struct Way {
    SectionRule section_rule = SectionRule::kFewest;
    BufferRule buffer_rule = BufferRule::kArea;
    std::uint32_t tries = 0;
    std::uint32_t finds = 0;
  };
  struct TaskResult {
    PieceLayout layout;  // empty offsets: nothing better
    std::string method;
    std::int64_t lower_bound = 0;
    std::uint64_t steps = 0;
  };
  struct Round;

  [[nodiscard]] std::uint64_t to_bytes(std::int64_t height) const {
    return piece_.base_bytes + static_cast<std::uint64_t>(height) * piece_.unit_bytes;
  }
  std::uint64_t run_tasks_of(const Round& round, PackingThreads* threads);
  TaskResult place(int task, const Round& round, const std::function<bool()>& stop);
  TaskResult climb(Slot* slot, const Round& round, const std::function<bool()>& stop);
  TaskResult search(Slot* slot, int task, const Round& round, const std::function<bool()>& stop);
  void make_slots();
  void choose_ways();

  const PackPiece piece_;
  const std::uint64_t seed_;
  const bool searchable_;
  std::uint64_t round_count_ = 0;
  PieceLayout best_;
  std::string method_;
  std::int64_t lower_bound_ = 0;  // units
  struct Start {
    std::string name;
    std::vector<std::uint32_t> order;
    PieceLayout layout;  // of lowest fits; empty offsets: not tried
  };
  std::vector<Start> starts_;
  std::vector<Way> ways_;
  std::size_t next_way_ = 0;
  std::vector<std::unique_ptr<Slot>> slots_;
};

}  // namespace spillway
