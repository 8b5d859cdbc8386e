// SPDX-License-Identifier: Apache-2.0
// See workload.hpp.
#include "bench/support/workload.hpp"

#include "core/random.hpp"
#include "core/trace.hpp"
#include "integration/trace/reader.hpp"

#include <algorithm>
#include <unordered_map>
#include <utility>

namespace spillway::bench {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

// Appends calls and keeps the slots: a freed slot is the next one given out.
class Script {
 public:
  explicit Script(std::vector<AllocOp>* to) : to_(to) {}

  void continue_in(std::vector<AllocOp>* to) { to_ = to; }

  std::uint32_t allocate(std::uint64_t bytes, std::uint32_t stream) {
    std::uint32_t slot = 0;
    if (free_slots_.empty()) {
      slot = static_cast<std::uint32_t>(live_.size());
      live_.push_back({});
    } else {
      slot = free_slots_.back();
      free_slots_.pop_back();
    }
    live_[slot] = {bytes, slot, stream};
    live_bytes_ += bytes;
    live_bytes_peak = std::max(live_bytes_peak, live_bytes_);
    ++live_count_;
    live_count_peak = std::max(live_count_peak, live_count_);
    to_->push_back(live_[slot]);
    return slot;
  }

  void free(std::uint32_t slot) {
    to_->push_back({0, slot, live_[slot].stream});
    live_bytes_ -= live_[slot].bytes;
    --live_count_;
    live_[slot].bytes = 0;
    free_slots_.push_back(slot);
  }

  void free_all() {
    for (std::uint32_t slot = 0; slot < live_.size(); ++slot) {
      if (live_[slot].bytes != 0) free(slot);
    }
  }

  [[nodiscard]] std::uint32_t slot_count() const {
    return static_cast<std::uint32_t>(live_.size());
  }
  [[nodiscard]] std::uint64_t live_bytes() const { return live_bytes_; }
  std::uint64_t live_bytes_peak = 0;
  std::uint32_t live_count_peak = 0;

 private:
  std::vector<AllocOp>* to_;
  std::vector<AllocOp> live_;  // per slot; bytes of 0: empty
  std::vector<std::uint32_t> free_slots_;
  std::uint64_t live_bytes_ = 0;
  std::uint32_t live_count_ = 0;
};

void finish(const Script& script, Workload* workload) {
  workload->slot_count = script.slot_count();
  workload->live_bytes_peak = script.live_bytes_peak;
  workload->live_count_peak = script.live_count_peak;
  workload->pair_count = static_cast<std::size_t>(
      std::count_if(workload->body.begin(), workload->body.end(), [](const AllocOp& op) {
        return op.bytes != 0;
      }));
}

class StepSink final : public TraceSink {
 public:
  explicit StepSink(Script* script) : script_(script) {}
  void string(StringId, std::string_view) override {}
  void record(const Record& record) override {
    if (record.kind == RecordKind::kAlloc && record.arg != 0) {
      slot_of_[record.id] = script_->allocate(record.arg, stream_index(record.stream));
    } else if (record.kind == RecordKind::kFreeRequested ||
               record.kind == RecordKind::kFreeCompleted) {
      const auto found = slot_of_.find(record.id);
      if (found == slot_of_.end()) return;
      script_->free(found->second);
      slot_of_.erase(found);
    }
  }
  [[nodiscard]] std::uint32_t stream_count() const {
    return static_cast<std::uint32_t>(streams_.size());
  }

 private:
  std::uint32_t stream_index(std::uint32_t stream) {
    return streams_.emplace(stream, static_cast<std::uint32_t>(streams_.size())).first->second;
  }
  Script* script_;
  std::unordered_map<std::uint64_t, std::uint32_t> slot_of_;  // storage -> slot
  std::unordered_map<std::uint32_t, std::uint32_t> streams_;
};

}  // namespace

Result<Workload> recorded_step(const std::string& path) {
  Workload workload;
  Script script(&workload.body);
  StepSink sink(&script);
  SPW_ASSIGN_OR_RETURN(const TraceInfo info, read_trace(path, {}, sink));
  static_cast<void>(info);
  script.free_all();
  finish(script, &workload);
  if (workload.pair_count == 0) return Status(Code::kBadInput, path + ": no allocation in it");
  workload.name = "recorded step";
  workload.input = path.substr(path.find_last_of('/') + 1);
  workload.stream_count = sink.stream_count();
  return workload;
}

Workload made_up_step(std::uint32_t layers, std::uint32_t tokens) {
  constexpr std::uint64_t kBatch = 4;
  constexpr std::uint64_t kWidth = 1024;
  constexpr std::uint64_t kHeads = 16;
  constexpr std::uint64_t kVocabulary = 50257;
  constexpr std::uint64_t kFloat = 4;
  const std::uint64_t rows = kBatch * tokens;
  const std::uint64_t hidden = rows * kWidth * kFloat;
  const std::uint64_t scores = kBatch * kHeads * tokens * tokens * kFloat;
  // One block, in order: norm, its statistics, q k v, scores, softmax, its row sums, context,
  // projection, second norm, its statistics, widened, activated, narrowed.
  const std::vector<std::uint64_t> kept = {hidden,
                                           rows * kFloat,
                                           hidden,
                                           hidden,
                                           hidden,
                                           scores,
                                           scores,
                                           rows * kHeads * kFloat,
                                           hidden,
                                           hidden,
                                           hidden,
                                           rows * kFloat,
                                           4 * hidden,
                                           4 * hidden,
                                           hidden};
  Workload workload;
  workload.name = "made-up step";
  workload.input = "GPT-2 medium, batch 4, " + std::to_string(tokens) + " tokens";
  Script script(&workload.body);
  std::vector<std::vector<std::uint32_t>> saved;
  const auto temporary = [&script](std::uint64_t bytes) { script.free(script.allocate(bytes, 0)); };
  for (std::uint32_t layer = 0; layer < layers; ++layer) {
    saved.emplace_back();
    for (const std::uint64_t bytes : kept) {
      temporary(bytes);  // what an unfused op makes on the way
      saved.back().push_back(script.allocate(bytes, 0));
      temporary(512);
    }
  }
  const std::uint32_t logits = script.allocate(rows * kVocabulary * kFloat, 0);
  temporary(rows * kVocabulary * kFloat);
  script.free(logits);
  std::vector<std::uint32_t> gradients;
  for (std::uint32_t layer = layers; layer-- > 0;) {
    for (std::size_t i = saved[layer].size(); i-- > 0;) {
      const std::uint32_t gradient = script.allocate(kept[i], 0);
      temporary(kept[i]);
      script.free(saved[layer][i]);
      script.free(gradient);
    }
    for (const std::uint64_t parameters : {3 * kWidth * kWidth,
                                           kWidth * kWidth,
                                           4 * kWidth * kWidth,
                                           4 * kWidth * kWidth,
                                           kWidth,
                                           kWidth}) {
      gradients.push_back(script.allocate(parameters * kFloat, 0));
    }
  }
  for (const std::uint32_t gradient : gradients) {
    temporary(kWidth * kFloat);
    script.free(gradient);
  }
  finish(script, &workload);
  return workload;
}

std::vector<std::uint64_t> sizes_of(const Workload& workload) {
  std::vector<std::uint64_t> sizes;
  for (const auto* part : {&workload.prologue, &workload.body}) {
    for (const AllocOp& op : *part) {
      if (op.bytes != 0) sizes.push_back(op.bytes);
    }
  }
  return sizes;
}

Workload back_to_back(std::span<const std::uint64_t> sizes, std::size_t pairs) {
  Workload workload;
  workload.name = "back to back";
  Script script(&workload.body);
  for (std::size_t i = 0; i < pairs; ++i) script.free(script.allocate(sizes[i % sizes.size()], 0));
  finish(script, &workload);
  return workload;
}

Workload random_replace(std::span<const std::uint64_t> sizes,
                        std::uint32_t live,
                        std::size_t pairs,
                        std::uint64_t seed) {
  Workload workload;
  workload.name = std::to_string(live) + " live, replaced at random";
  Random random(seed);
  const auto size = [&] { return sizes[random.below(sizes.size())]; };
  Script script(&workload.prologue);
  for (std::uint32_t i = 0; i < live; ++i) script.allocate(size(), 0);
  script.continue_in(&workload.body);
  for (std::size_t i = 0; i < pairs; ++i) {
    script.free(static_cast<std::uint32_t>(random.below(live)));
    script.allocate(size(), 0);  // takes the slot just freed
  }
  script.continue_in(&workload.epilogue);
  script.free_all();
  finish(script, &workload);
  return workload;
}

Workload rmm_random(std::size_t count, std::uint64_t max_mib, std::uint64_t seed) {
  constexpr std::uint64_t kLiveMax = 16000 * kMiB;
  Workload workload;
  workload.name = "RMM random, 1 to " + std::to_string(max_mib) + " MiB";
  Random random(seed);
  Script script(&workload.body);
  std::vector<std::uint32_t> live;
  const auto free_one = [&] {
    const std::size_t chosen = random.below(live.size());
    std::swap(live[chosen], live.back());
    script.free(live.back());
    live.pop_back();
  };
  for (std::size_t made = 0; made < count;) {
    if (!live.empty() && random.below(100) >= 73) {
      free_one();
      continue;
    }
    const std::uint64_t bytes = (1 + random.below(max_mib)) * kMiB;
    while (!live.empty() && script.live_bytes() + bytes > kLiveMax) free_one();
    live.push_back(script.allocate(bytes, 0));
    ++made;
  }
  while (!live.empty()) free_one();
  finish(script, &workload);
  return workload;
}

}  // namespace spillway::bench
