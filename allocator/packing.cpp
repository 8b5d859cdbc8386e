// SPDX-License-Identifier: Apache-2.0
// The piece that stands highest is worked on, round by round: the others cannot lower the top.
#include "allocator/packing.hpp"

#include "allocator/packing_check.hpp"
#include "allocator/packing_piece.hpp"
#include "allocator/packing_solver.hpp"
#include "allocator/packing_threads.hpp"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

namespace spillway {
namespace {

constexpr std::uint64_t kWorkDefault = 200'000'000;
constexpr std::uint64_t kWorkWhilePoor = 600'000'000;
constexpr double kPoorRatio = 1.003;

/// Fixed buffers over each other can be packed by nobody.
Status check_fixed(const PackPieces& pieces) {
  for (const PackPiece& piece : pieces.pieces) {
    if (!piece.pinned) continue;
    AddressIndex index(piece.section_count);
    std::uint64_t steps = 0;
    std::vector<std::uint32_t> fixed;
    for (std::uint32_t i = 0; i < piece.count(); ++i)
      if (piece.fixed[i] >= 0) fixed.push_back(i);
    std::sort(fixed.begin(), fixed.end(), [&piece](std::uint32_t a, std::uint32_t b) {
      return piece.fixed[a] < piece.fixed[b];
    });
    for (const std::uint32_t i : fixed) {
      // In ascending order, what is free at an offset is free from there on.
      const std::int64_t top = index.top(piece.first[i], piece.last[i], &steps);
      if (top > piece.fixed[i])
        return {Code::kInvalidArgument,
                "packing: buffer " + std::to_string(piece.members[i]) +
                    ": its fixed offset lies in another fixed buffer"};
      index.add(piece.first[i], piece.last[i], piece.fixed[i], piece.fixed[i] + piece.size[i]);
    }
  }
  return {};
}

class Packer {
 public:
  Packer(PackPieces pieces, const PackingOptions& options)
      : pieces_(std::move(pieces)), options_(options), threads_(options.thread_count) {}

  Packing run() {
    const std::uint64_t least = std::max(pieces_.load_bound_bytes, pieces_.settled_height_bytes);
    enough_ = std::max(options_.capacity_bytes, least);
    for (PackPiece& piece : pieces_.pieces)
      solvers_.push_back(std::make_unique<PieceSolver>(std::move(piece), options_.seed));
    for (const auto& solver : solvers_)
      work_ += solver->run_round(left(), enough_, &threads_, options_.stop);
    for (PieceSolver* top = highest(); top != nullptr; top = highest()) {
      if (top->height_bytes() <= enough_) break;
      if (top->lower_bound_bytes() >= top->height_bytes()) break;  // optimal
      const std::uint64_t spent = left() == 0 || (options_.stop && options_.stop())
                                      ? 0
                                      : top->run_round(left(), enough_, &threads_, options_.stop);
      if (spent == 0) break;
      work_ += spent;
    }
    return result();
  }

 private:
  [[nodiscard]] std::uint64_t left() const {
    std::uint64_t limit = options_.work_limit;
    if (limit == 0) {
      std::uint64_t height = 0;
      for (const auto& solver : solvers_) height = std::max(height, solver->height_bytes());
      const auto load = static_cast<double>(pieces_.load_bound_bytes);
      limit = static_cast<double>(height) > kPoorRatio * load ? kWorkWhilePoor : kWorkDefault;
    }
    return limit - std::min(limit, work_);
  }

  PieceSolver* highest() {
    PieceSolver* top = nullptr;
    for (const auto& solver : solvers_)
      if (top == nullptr || solver->height_bytes() > top->height_bytes()) top = solver.get();
    return top;
  }

  Packing result() {
    Packing packing;
    packing.offsets = std::move(pieces_.offsets);
    packing.height_bytes = pieces_.settled_height_bytes;
    packing.load_bound_bytes = pieces_.load_bound_bytes;
    packing.lower_bound_bytes = std::max(pieces_.load_bound_bytes, pieces_.settled_height_bytes);
    packing.method = "bottom";
    packing.work = work_;
    for (const auto& solver : solvers_) {
      const PackPiece& piece = solver->piece();
      const PieceLayout& layout = solver->best();
      for (std::size_t i = 0; i < piece.count(); ++i)
        packing.offsets[piece.members[i]] =
            piece.base_bytes + static_cast<std::uint64_t>(layout.offsets[i]) * piece.unit_bytes;
      packing.lower_bound_bytes = std::max(packing.lower_bound_bytes, solver->lower_bound_bytes());
      if (solver->height_bytes() <= packing.height_bytes) continue;
      packing.height_bytes = solver->height_bytes();
      packing.method = solver->method();
    }
    packing.optimal = packing.height_bytes == packing.lower_bound_bytes;
    return packing;
  }

  PackPieces pieces_;
  const PackingOptions& options_;
  PackingThreads threads_;
  std::vector<std::unique_ptr<PieceSolver>> solvers_;
  std::uint64_t enough_ = 0;
  std::uint64_t work_ = 0;
};

}  // namespace

Result<Packing> pack(const PackingProblem& problem, const PackingOptions& options) {
  SPW_ASSIGN_OR_RETURN(PackPieces pieces, split_into_pieces(problem));
  SPW_RETURN_IF_ERROR(check_fixed(pieces));
  return Packer(std::move(pieces), options).run();
}

Result<PackedLayout> lay_out(const std::vector<Lifetime>& lifetimes,
                             std::uint64_t alignment,
                             const PackingOptions& options) {
  PackingProblem problem;
  problem.buffers.reserve(lifetimes.size());
  for (const Lifetime& lifetime : lifetimes) {
    PackBuffer buffer;
    buffer.begin = lifetime.begin;
    buffer.end = lifetime.end;
    buffer.bytes = lifetime.bytes;
    buffer.alignment = alignment;
    problem.buffers.push_back(buffer);
  }
  SPW_ASSIGN_OR_RETURN(Packing packing, pack(problem, options));
  SPW_RETURN_IF_ERROR(check_packing(problem, packing));
  return PackedLayout{std::move(packing.offsets), packing.height_bytes};
}

}  // namespace spillway
