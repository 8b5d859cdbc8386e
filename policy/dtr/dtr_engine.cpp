// SPDX-License-Identifier: Apache-2.0
// The engine: residency, locks and names per storage, a pool of evictable storages in the
// reference's order (the last minimum wins, so order matters), and an explicit stack where the
// reference recurses.
#include "policy/dtr/dtr_engine.hpp"

#include "policy/dtr/dtr_graph.hpp"

#include <limits>
#include <vector>

namespace spillway {
namespace {

using EventKind = DtrLog::EventKind;
constexpr std::uint32_t kNone = DtrLog::kNone;

/// Evictable storages in the order in which they became so.
class Pool {
 public:
  explicit Pool(std::size_t storage_count)
      : next_(storage_count + 1, kNone), previous_(storage_count + 1, kNone) {
    end_ = static_cast<std::uint32_t>(storage_count);
    next_[end_] = previous_[end_] = cursor_ = end_;
  }
  [[nodiscard]] bool has(std::uint32_t storage) const { return next_[storage] != kNone; }
  void append(std::uint32_t storage) {
    ++size_;
    previous_[storage] = previous_[end_];
    next_[storage] = end_;
    next_[previous_[end_]] = storage;
    previous_[end_] = storage;
  }
  void remove(std::uint32_t storage) {
    --size_;
    if (storage == cursor_) cursor_ = previous_[storage];
    next_[previous_[storage]] = next_[storage];
    previous_[next_[storage]] = previous_[storage];
    next_[storage] = previous_[storage] = kNone;
  }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] std::uint32_t first() const { return next_[end_]; }
  [[nodiscard]] std::uint32_t after(std::uint32_t storage) const { return next_[storage]; }
  [[nodiscard]] std::uint32_t end() const { return end_; }
  /// Round and round: every storage in turn, `end()` once per turn.
  std::uint32_t next_in_turn() { return cursor_ = next_[cursor_]; }

 private:
  std::vector<std::uint32_t> next_, previous_;  // a ring through the entry `end_`
  std::uint32_t end_;
  std::uint32_t cursor_;
  std::size_t size_ = 0;
};

struct StorageState {
  std::int64_t last_access_ns = 0;
  std::uint32_t locks = 0;
  std::uint32_t names = 0;
  bool pinned = false;
};

/// One tensor being made, in place of a recursive call.
struct Frame {
  std::uint32_t op = 0;
  std::uint32_t tensor = kNone;     // asked for; the last of the op's storages to enter the pool
  std::uint32_t missing_begin = 0;  // [missing_begin, end of missing_) were undefined on entry
  std::uint32_t missing_next = 0;
  bool first_run = false;
};

class Engine {
 public:
  Engine(const DtrLog& log, DtrScore score, std::uint64_t budget_bytes, const DtrOptions& options)
      : log_(log),
        score_(score),
        budget_bytes_(budget_bytes),
        options_(options),
        graph_(log, score == DtrScore::kEq, options.walk_limit),
        states_(log.storages.size()),
        defined_(log.tensors.size(), 0),
        pool_(log.storages.size()) {
    result_.log_ns = log.model_ns();
    result_.clock_ns = 1;
    if (options_.remat_count_max == 0)
      options_.remat_count_max = 1'000'000 + 100 * std::uint64_t{log.ops.size()};
  }

  DtrResult run() {
    for (const DtrLog::Event& event : log_.events)
      if (!on_event(event)) return result_;
    for (const std::uint32_t tensor : log_.results) {
      if (defined_[tensor] == 0 && !make(log_.tensors[tensor].op, tensor, false)) return result_;
      pin(log_.tensors[tensor].storage);
    }
    return result_;
  }

 private:
  bool on_event(const DtrLog::Event& event) {
    if (event.kind == EventKind::kCompute) return first_run(event.target);
    const std::uint32_t storage = log_.tensors[event.target].storage;
    StorageState& state = states_[storage];
    if (event.kind == EventKind::kName) {
      ++state.names;
    } else if (event.kind == EventKind::kPin) {
      pin(storage);
    } else if (state.names != 0 && --state.names == 0) {
      if (log_.storages[storage].fixed) --state.locks;
      if (graph_.is_resident(storage) && !state.pinned) evict(storage);
    }
    return true;
  }

  bool first_run(std::uint32_t op_index) {
    const DtrLog::Op& op = log_.ops[op_index];
    graph_.add_op(op_index);
    const std::uint32_t wanted = op.outputs_begin == op.outputs_end ? kNone : op.outputs_begin;
    for (std::uint32_t tensor = op.outputs_begin; tensor < op.outputs_end; ++tensor)
      if (log_.storages[log_.tensors[tensor].storage].fixed && !log_.is_view(tensor))
        ++states_[log_.tensors[tensor].storage].locks;
    if (!make(op_index, wanted, true)) return false;
    for (std::uint32_t tensor = op.outputs_begin; tensor < op.outputs_end; ++tensor) {
      StorageState& state = states_[log_.tensors[tensor].storage];
      state.last_access_ns = result_.clock_ns;
      ++state.names;
    }
    return true;
  }

  void pin(std::uint32_t storage) {
    states_[storage].pinned = true;
    lock(storage);
  }
  void lock(std::uint32_t storage) {
    if (states_[storage].locks++ == 0 && pool_.has(storage)) pool_.remove(storage);
  }
  void unlock(std::uint32_t storage) {
    if (--states_[storage].locks == 0) pool_.append(storage);
  }

  void evict(std::uint32_t storage) {
    if (pool_.has(storage)) pool_.remove(storage);
    held_bytes_ -= log_.storages[storage].bytes;
    graph_.evict(storage);
    for (const std::uint32_t tensor : graph_.tensors_of(storage)) defined_[tensor] = 0;
  }

  /// Infinite when what the score divides by is 0. Where the score is above `best`, any value
  /// above it: walks through evicted storages end there, which decides nothing but time.
  double score_of(std::uint32_t storage, double best) {
    const auto size = static_cast<double>(log_.storages[storage].bytes);
    const auto stale = static_cast<double>(result_.clock_ns - states_[storage].last_access_ns);
    const double divisor = score_ == DtrScore::kLru                                 ? stale
                           : score_ == DtrScore::kSize || score_ == DtrScore::kMsps ? size
                                                                                    : size * stale;
    if (divisor == 0) return std::numeric_limits<double>::infinity();
    const auto enough = [divisor, best](std::int64_t sum_ns) {
      return static_cast<double>(sum_ns) / divisor > best;
    };
    std::int64_t sum_ns = graph_.cost_of(storage);
    switch (score_) {
      case DtrScore::kDtr:
        sum_ns = graph_.with_evicted_ancestors(storage, sum_ns, enough);
        sum_ns = graph_.with_evicted_descendants(storage, sum_ns, enough);
        break;
      case DtrScore::kEq:
        sum_ns += graph_.evicted_components(storage);
        break;
      case DtrScore::kMsps:
        sum_ns = graph_.with_evicted_ancestors(storage, sum_ns, enough);
        break;
      case DtrScore::kLocal:
        break;
      case DtrScore::kLru:
      case DtrScore::kSize:
        sum_ns = 1;
        break;
    }
    return static_cast<double>(sum_ns) / divisor;
  }

  bool evict_one() {
    const bool all = options_.scan_limit == 0 || pool_.size() <= options_.scan_limit;
    const std::uint32_t victim = all ? best_of_all() : best_of_some(options_.scan_limit);
    if (victim == kNone) return false;
    ++result_.eviction_count;
    result_.evicted_bytes += log_.storages[victim].bytes;
    evict(victim);
    return true;
  }

  std::uint32_t best_of_all() {
    std::uint32_t victim = kNone;
    double best = std::numeric_limits<double>::infinity();
    for (std::uint32_t storage = pool_.first(); storage != pool_.end();
         storage = pool_.after(storage)) {
      const double score = score_of(storage, best);
      if (score > best) continue;
      best = score;
      victim = storage;
      if (score == 0) break;
    }
    return victim;
  }

  std::uint32_t best_of_some(std::size_t limit) {
    std::uint32_t victim = kNone;
    double best = std::numeric_limits<double>::infinity();
    std::size_t ends = 0;
    for (std::size_t looked = 0; looked < limit && ends < 2 && best != 0;) {
      const std::uint32_t storage = pool_.next_in_turn();
      if (storage == pool_.end()) {
        ++ends;
        continue;
      }
      ++looked;
      const double score = score_of(storage, best);
      if (score > best) continue;
      best = score;
      victim = storage;
    }
    return victim;
  }

  void enter(std::uint32_t op_index, std::uint32_t tensor, bool first) {
    const auto inputs = log_.inputs_of(log_.ops[op_index]);
    for (const std::uint32_t input : inputs)
      states_[log_.tensors[input].storage].last_access_ns = result_.clock_ns;
    const auto begin = static_cast<std::uint32_t>(missing_.size());
    for (const std::uint32_t input : inputs) {
      if (defined_[input] != 0)
        lock(log_.tensors[input].storage);
      else
        missing_.push_back(input);
    }
    frames_.push_back({op_index, tensor, begin, begin, first});
  }

  /// Makes `tensor` and first whatever it needs. False when the run is over.
  bool make(std::uint32_t op_index, std::uint32_t tensor, bool first) {
    enter(op_index, tensor, first);
    while (!frames_.empty()) {
      Frame& frame = frames_.back();
      if (frame.missing_next < missing_.size()) {
        const std::uint32_t input = missing_[frame.missing_next];
        if (defined_[input] != 0) {
          lock(log_.tensors[input].storage);
          ++frame.missing_next;
        } else {
          enter(log_.tensors[input].op, input, false);
        }
        continue;
      }
      const Frame done = frame;
      missing_.resize(done.missing_begin);
      frames_.pop_back();
      if (!run_op(done)) return false;
    }
    return true;
  }

  bool run_op(const Frame& frame) {
    const DtrLog::Op& op = log_.ops[frame.op];
    std::uint64_t total_bytes = 0;
    for (std::uint32_t tensor = op.outputs_begin; tensor < op.outputs_end; ++tensor)
      total_bytes += bytes_of(tensor);
    while (held_bytes_ + total_bytes + op.workspace_bytes > budget_bytes_) {
      if (evict_one()) continue;
      result_.end = DtrEnd::kOutOfMemory;
      return false;
    }
    result_.clock_ns += op.cost_ns;
    (frame.first_run ? result_.model_ns : result_.remat_ns) += op.cost_ns;
    if (!frame.first_run) ++result_.remat_count;
    if (options_.order != nullptr) options_.order->push_back(frame.op);
    held_bytes_ += total_bytes;
    result_.peak_bytes = std::max(result_.peak_bytes, held_bytes_ + op.workspace_bytes);
    for (std::uint32_t tensor = op.outputs_begin; tensor < op.outputs_end; ++tensor) {
      if (defined_[tensor] != 0) {
        held_bytes_ -= bytes_of(tensor);
      } else if (tensor != frame.tensor) {
        define(tensor);
      }
    }
    if (frame.tensor != kNone) define(frame.tensor);
    for (const std::uint32_t input : log_.inputs_of(op)) unlock(log_.tensors[input].storage);
    if (result_.remat_ns > result_.log_ns || result_.remat_count > options_.remat_count_max) {
      result_.end = DtrEnd::kThrash;
      return false;
    }
    return true;
  }

  std::uint64_t bytes_of(std::uint32_t tensor) const {
    return log_.is_view(tensor) ? 0 : log_.storages[log_.tensors[tensor].storage].bytes;
  }

  void define(std::uint32_t tensor) {
    defined_[tensor] = 1;
    const std::uint32_t storage = log_.tensors[tensor].storage;
    if (graph_.is_resident(storage)) return;
    graph_.bring_back(storage);
    if (states_[storage].locks == 0) pool_.append(storage);
  }

  const DtrLog& log_;
  DtrScore score_;
  std::uint64_t budget_bytes_;
  DtrOptions options_;
  DtrGraph graph_;
  std::vector<StorageState> states_;
  std::vector<char> defined_;  // per tensor
  Pool pool_;
  std::vector<Frame> frames_;
  std::vector<std::uint32_t> missing_;
  std::uint64_t held_bytes_ = 0;
  DtrResult result_;
};

constexpr std::string_view kNames[kDtrScoreCount] = {
    "h_DTR", "h_eq", "h_local", "LRU", "size", "MSPS"};
constexpr std::string_view kSimulatorNames[kDtrScoreCount] = {
    "DTR", "DTREqClass", "DTRLocal", "LRU", "LargestStorage", "MSPS"};

}  // namespace

std::string_view name_of(DtrScore score) { return kNames[static_cast<std::size_t>(score)]; }

std::string_view simulator_name_of(DtrScore score) {
  return kSimulatorNames[static_cast<std::size_t>(score)];
}

std::optional<DtrScore> find_dtr_score(std::string_view name) {
  for (int i = 0; i < kDtrScoreCount; ++i)
    if (kNames[i] == name) return static_cast<DtrScore>(i);
  return std::nullopt;
}

std::string_view name_of(DtrEnd end) {
  switch (end) {
    case DtrEnd::kOk:
      return "ok";
    case DtrEnd::kOutOfMemory:
      return "OOM";
    case DtrEnd::kThrash:
      return "THRASH";
  }
  return "";
}

Result<DtrResult> run_dtr(const DtrLog& log,
                          DtrScore score,
                          std::uint64_t budget_bytes,
                          const DtrOptions& options) {
  SPW_RETURN_IF_ERROR(check_invariants(log));
  if (options.order != nullptr) options.order->clear();
  return Engine(log, score, budget_bytes, options).run();
}

}  // namespace spillway
