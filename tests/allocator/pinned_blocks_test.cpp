// SPDX-License-Identifier: Apache-2.0
// The book-keeping of the pinned pool against a map with one entry per quantum, over random
// operations: who owns what, which hole is the best, and the invariants.
#include "allocator/pinned_blocks.hpp"

#include "core/random.hpp"
#include "tests/allocator/pinned_lab.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

using namespace spillway;

namespace {

using Block = PinnedBlocks::Block;
using Fence = PinnedBlocks::Fence;
using State = PinnedBlocks::State;

constexpr std::uint64_t kQuantum = 512;

/// What a quantum is used for: 0 is free.
struct Owner {
  bool live = false;
  std::uint64_t stream_id = kNoStream;
  std::uint64_t capture_id = 0;
  Fence* fence = nullptr;  // pending only
};

/// The naive model: an owner's number per quantum, and what is known of each owner.
class Model {
 public:
  void add_slab(std::uintptr_t begin, std::uint64_t bytes) {
    slabs_[begin].assign(bytes / kQuantum, 0);
  }
  void remove_slab(std::uintptr_t begin) { slabs_.erase(begin); }

  struct Hole {
    std::uintptr_t begin = 0;
    std::uint64_t bytes = 0;
  };
  /// The smallest free stretch of at least `bytes`, the lowest among equals.
  [[nodiscard]] std::optional<Hole> best_hole(std::uint64_t bytes) const {
    std::optional<Hole> best;
    for (const auto& [begin, units] : slabs_) {
      for (std::size_t i = 0; i < units.size();) {
        std::size_t end = i;
        while (end < units.size() && units[end] == 0) ++end;
        const Hole hole{begin + i * kQuantum, (end - i) * kQuantum};
        if (end > i && hole.bytes >= bytes && (!best || hole.bytes < best->bytes)) best = hole;
        i = end == i ? i + 1 : end;
      }
    }
    return best;
  }
  /// Whether some stretch of free quanta and those of owners that `may` accepts is long enough.
  template <typename May>
  [[nodiscard]] bool has_run(std::uint64_t bytes, const May& may) const {
    for (const auto& [begin, units] : slabs_) {
      std::uint64_t sum = 0;
      for (const std::uint64_t unit : units) {
        sum = unit == 0 || may(owners_.at(unit)) ? sum + kQuantum : 0;
        if (sum >= bytes) return true;
      }
    }
    return false;
  }
  /// All quanta of [begin, begin + bytes) become those of a new owner; false: one is live.
  bool give(std::uintptr_t begin, std::uint64_t bytes, const Owner& owner) {
    const std::uint64_t number = ++last_owner_;
    owners_[number] = owner;
    return for_each(begin, bytes, [&](std::uint64_t& unit) {
      const bool was_live = unit != 0 && owners_.at(unit).live;
      unit = number;
      return !was_live;
    });
  }
  void make_free(std::uintptr_t begin, std::uint64_t bytes) {
    for_each(begin, bytes, [](std::uint64_t& unit) {
      unit = 0;
      return true;
    });
  }
  void make_pending(std::uintptr_t begin, std::uint64_t bytes, const Owner& owner) {
    const std::uint64_t number = ++last_owner_;
    owners_[number] = owner;
    for_each(begin, bytes, [&](std::uint64_t& unit) {
      unit = number;
      return true;
    });
  }
  /// Every pending quantum whose owner `change` turns into nothing becomes free.
  template <typename Change>
  void for_pending(const Change& change) {
    for (auto& [number, owner] : owners_) {
      if (owner.live || !change(owner)) continue;
      for (auto& [begin, units] : slabs_)
        std::replace(units.begin(), units.end(), number, std::uint64_t{0});
    }
  }
  /// The same state of every quantum as the blocks say.
  [[nodiscard]] bool equals(const PinnedBlocks& blocks) const {
    if (blocks.slabs().size() != slabs_.size()) return false;
    for (const auto& [begin, slab] : blocks.slabs()) {
      const auto found = slabs_.find(begin);
      if (found == slabs_.end() || found->second.size() * kQuantum != slab.bytes) return false;
      for (const Block* block = slab.first; block != nullptr; block = block->right) {
        for (std::uint64_t at = 0; at < block->bytes; at += kQuantum) {
          const std::uint64_t unit = found->second[(block->begin - begin + at) / kQuantum];
          if ((unit == 0) != (block->state == State::kFree)) return false;
          if (unit == 0) continue;
          const Owner& owner = owners_.at(unit);
          if (owner.live != (block->state == State::kLive)) return false;
          if (owner.capture_id != block->capture_id || owner.stream_id != block->stream_id)
            return false;
          if (!owner.live && owner.fence != block->fence) return false;
        }
      }
    }
    return true;
  }

 private:
  template <typename Visit>
  bool for_each(std::uintptr_t begin, std::uint64_t bytes, const Visit& visit) {
    auto slab = std::prev(slabs_.upper_bound(begin));
    bool all = true;
    for (std::uint64_t i = 0; i < bytes / kQuantum; ++i)
      all = visit(slab->second.at((begin - slab->first) / kQuantum + i)) && all;
    return all;
  }

  std::map<std::uintptr_t, std::vector<std::uint64_t>> slabs_;
  std::map<std::uint64_t, Owner> owners_;
  std::uint64_t last_owner_ = 0;
};

/// One run of random operations.
class Walk {
 public:
  explicit Walk(std::uint64_t seed) : random_(seed) {}

  /// Empty, or what went wrong.
  std::string run(int operations) {
    for (int i = 0; i < operations; ++i) {
      step();
      if (!problem_.empty()) return problem_ + " at operation " + std::to_string(i);
      if (i % 16 != 0) continue;
      const Status status = blocks_.check_invariants(fences_.size());
      if (!status.ok()) return status.message() + " at operation " + std::to_string(i);
      if (!model_.equals(blocks_))
        return "differs from the model at operation " + std::to_string(i);
    }
    return {};
  }
  std::uint64_t runs_taken = 0;

 private:
  void step() {
    switch (random_.below(12)) {
      case 0:
        return slab();
      case 1:
      case 2:
      case 3:
      case 4:
        return allocate();
      case 5:
        return gather();
      case 6:
        return finish_fence();
      case 7:
        return forget();
      default:
        return release();
    }
  }

  void slab() {
    if (blocks_.slabs().size() < 3 || random_.below(4) == 0) {
      if (blocks_.slabs().size() > 6) return;
      const std::uint64_t bytes = (1 + random_.below(64)) * kQuantum;
      const std::uintptr_t begin = next_slab_;
      // At times directly behind the one before: neighbours across slabs are not joined.
      next_slab_ += bytes + random_.below(2) * 4096;
      blocks_.add_slab(begin, bytes);
      model_.add_slab(begin, bytes);
      return;
    }
    for (auto& [begin, slab] : blocks_.slabs()) {
      if (!slab.idle()) continue;
      model_.remove_slab(begin);
      blocks_.remove_slab(&slab);
      return;
    }
  }

  void allocate() {
    const std::uint64_t bytes = (1 + random_.below(random_.below(3) == 0 ? 48 : 6)) * kQuantum;
    const std::uint64_t stream_id = random_.below(3);
    const std::uint64_t capture_id = random_.below(4) == 0 ? 1 + random_.below(2) : 0;
    const std::optional<Model::Hole> hole = model_.best_hole(bytes);
    Block* found = blocks_.best_free(bytes);
    if ((found != nullptr) != hole.has_value() ||
        (found != nullptr && (found->begin != hole->begin || found->bytes != hole->bytes))) {
      problem_ = "best fit differs";
      return;
    }
    Block* own = blocks_.best_pending(stream_id, capture_id, bytes);
    if (own != nullptr && random_.below(2) == 0) found = own;
    if (found == nullptr) return;
    Block* block = blocks_.take(found, bytes, stream_id, capture_id);
    if (!model_.give(block->begin, bytes, {true, stream_id, capture_id, nullptr}))
      problem_ = "live memory was given out";
    live_.push_back(block->begin);
  }

  void gather() {
    const std::uint64_t bytes = (1 + random_.below(48)) * kQuantum;
    const std::uint64_t stream_id = random_.below(3);
    const std::uint64_t capture_id = random_.below(3);
    const bool foreign = random_.below(2) == 0;
    const PinnedBlocks::Run run = blocks_.best_run(bytes, stream_id, capture_id, foreign);
    const bool expected = model_.has_run(bytes, [&](const Owner& owner) {
      return !owner.live && owner.capture_id == capture_id && owner.stream_id != kNoStream &&
             (foreign || owner.stream_id == stream_id);
    });
    if (expected != (run.first != nullptr)) problem_ = "a run was missed or made up";
    if (run.first == nullptr) return;
    std::uint64_t sum = 0;
    for (const Block* block = run.first;; block = block->right) {
      sum += block->bytes;
      if (block == run.last) break;
    }
    if (sum < bytes) problem_ = "a run that is too short";
    blocks_.claim(run);
    if (random_.below(3) == 0) {
      blocks_.unclaim(run);
      return;
    }
    ++runs_taken;
    Fence* fence = random_.below(2) == 0 ? nullptr : new_fence(stream_id);
    const std::uintptr_t begin = run.first->begin;
    blocks_.merge(run, bytes, stream_id, capture_id, fence);
    if (!model_.give(begin, bytes, {true, stream_id, capture_id, nullptr}))
      problem_ = "live memory was gathered";
    if (sum > bytes) {
      if (fence == nullptr)
        model_.make_free(begin + bytes, sum - bytes);
      else
        model_.make_pending(begin + bytes, sum - bytes, {false, stream_id, capture_id, fence});
    }
    live_.push_back(begin);
  }

  void release() {
    if (live_.empty()) return;
    const std::size_t pick = random_.below(live_.size());
    const std::uintptr_t begin = live_[pick];
    live_[pick] = live_.back();
    live_.pop_back();
    Block* block = blocks_.find(begin);
    if (block == nullptr || blocks_.around(begin + block->bytes - 1) != block) {
      problem_ = "a live block is not found";
      return;
    }
    if (random_.below(3) == 0) {
      model_.make_free(begin, block->bytes);
      blocks_.make_free(block);
      return;
    }
    const std::uint64_t capture_id = random_.below(4) == 0 ? 1 + random_.below(2) : 0;
    const bool parked = capture_id != 0 && random_.below(3) == 0;
    const std::uint64_t stream_id = random_.below(3);
    Fence* fence = new_fence(stream_id);
    const std::uint64_t group = parked ? kNoStream : stream_id;
    model_.make_pending(begin, block->bytes, {false, group, capture_id, fence});
    blocks_.make_pending(block, group, capture_id, fence);
  }

  void finish_fence() {
    if (fences_.empty()) return;
    const std::size_t pick = random_.below(fences_.size());
    Fence* fence = fences_[pick];
    fence->done = true;
    model_.for_pending([](const Owner& owner) {
      return owner.capture_id == 0 && (owner.fence == nullptr || owner.fence->done);
    });
    blocks_.sweep();
    fences_[pick] = fences_.back();
    fences_.pop_back();
    blocks_.drop(fence);
  }

  void forget() {
    const std::uint64_t capture_id = 1 + random_.below(2);
    // Fences here are recorded for real: what is not done waits on, by its fence's stream.
    model_.for_pending([&](Owner& owner) {
      if (owner.capture_id != capture_id) return false;
      if (owner.fence->done) return true;
      owner.capture_id = 0;
      owner.stream_id = owner.fence->stream_id;
      return false;
    });
    blocks_.forget_capture(capture_id);
  }

  /// Held by the walk until it is done.
  Fence* new_fence(std::uint64_t stream_id) {
    Fence* fence = blocks_.make_fence(RecordedEvent(), stream_id);
    fences_.push_back(fence);
    return fence;
  }

  Random random_;
  PinnedBlocks blocks_;
  Model model_;
  std::vector<std::uintptr_t> live_;
  std::vector<Fence*> fences_;
  std::uintptr_t next_slab_ = 4096;
  std::string problem_;
};

}  // namespace

TEST_SUITE("model") {
  TEST_CASE("the books agree with one entry per quantum over random operations") {
    std::uint64_t runs_taken = 0;
    test::for_seeds(100, [&](std::uint64_t seed) {
      Walk walk(seed);
      const std::string problem = walk.run(2000);
      runs_taken += walk.runs_taken;
      return problem;
    });
    CHECK(runs_taken > 10);
  }
}
