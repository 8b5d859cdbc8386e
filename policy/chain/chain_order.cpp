// SPDX-License-Identifier: Apache-2.0
// Turns chain schedules into op runs. A storage that schedules manage is at hand while a
// checkpoint, a saved stage or the running input holds it; whatever a run needs beyond that is made
// again from what is at hand.
#include "core/check.hpp"
#include "policy/chain/profile_chain.hpp"
#include "policy/chain/rerun.hpp"

#include <algorithm>

namespace spillway {
namespace {

class OrderMaker {
 public:
  OrderMaker(const Profile& profile, const ProfileChain& chain)
      : profile_(profile), chain_(chain), rerun_(profile), holds_(profile.storages.size(), 0) {}

  std::vector<std::uint32_t> run(const std::vector<ChainSchedule>& schedules) {
    order_.reserve(profile_.ops.size() * 2);
    for (std::size_t r = 0; r < chain_.rounds.size(); ++r)
      run_round(chain_.rounds[r], schedules[r]);
    return std::move(order_);
  }

 private:
  using Held = std::vector<std::uint32_t>;

  void run_round(const ChainRound& round, const ChainSchedule& schedule);
  void forward(const ChainRound& round, std::uint32_t stage, bool save_all, bool output_wanted);
  void backward_until(std::uint32_t end_op);

  [[nodiscard]] bool is_alive(std::uint32_t s) const {
    const Storage& storage = profile_.storages[s];
    return (!storage.created_by.valid() || storage.created_by.value < position_) &&
           (!storage.freed_after.valid() || storage.freed_after.value >= position_);
  }
  [[nodiscard]] bool at_hand(std::uint32_t s) const {
    return chain_.managed[s] != 0 ? holds_[s] > 0 : is_alive(s);
  }
  /// May `s` be made again now?
  [[nodiscard]] bool can_remake(std::uint32_t s) const {
    return chain_.remakable[s] != 0 || is_alive(s);
  }

  void make(const Held& wanted) {
    const auto& ops = rerun_.collect(wanted, [&](std::uint32_t s) { return at_hand(s); });
    order_.insert(order_.end(), ops.begin(), ops.end());
  }
  void hold(const Held& held) {
    for (const std::uint32_t s : held) ++holds_[s];
  }
  void release(Held& held) {
    for (const std::uint32_t s : held) --holds_[s];
    held.clear();
  }

  const Profile& profile_;
  const ProfileChain& chain_;
  RerunCollector rerun_;
  std::vector<std::uint32_t> holds_;  // per storage: checkpoints, saved stages, running input
  std::vector<std::uint32_t> order_;
  std::uint32_t position_ = 0;  // the step's next own op
  Held running_;                // what the running input holds
  std::vector<Held> checkpoints_, inputs_, saved_;
  Held late_;  // made for a backward op that its stage did not foresee
};

void OrderMaker::forward(const ChainRound& round,
                         std::uint32_t k,
                         bool save_all,
                         bool output_wanted) {
  const ChainStage& stage = round.stages[k];
  Held output;
  if (output_wanted && k + 1 < round.stages.size()) output = round.stages[k + 1].input;
  Held saved;
  if (save_all) saved = stage.saved;
  if (position_ < stage.end_op) {
    for (; position_ < stage.end_op; ++position_) order_.push_back(position_);
  } else {
    const auto gone = [&](std::uint32_t s) { return !at_hand(s) && !can_remake(s); };
    output.erase(std::remove_if(output.begin(), output.end(), gone), output.end());
    saved.erase(std::remove_if(saved.begin(), saved.end(), gone), saved.end());
    Held wanted = output;
    wanted.insert(wanted.end(), saved.begin(), saved.end());
    make(wanted);
  }
  hold(output);
  hold(saved);
  saved_[k] = std::move(saved);
  release(running_);
  running_ = std::move(output);
}

void OrderMaker::backward_until(std::uint32_t end_op) {
  Held missing;
  for (; position_ < end_op; ++position_) {
    missing.clear();
    for (const Use use : profile_.uses_of(profile_.ops[position_])) {
      if (use.creates() && use.tensor().index() < profile_.storages.size()) continue;
      const std::uint32_t s = profile_.storage_of(use).value;
      if (chain_.managed[s] != 0 && holds_[s] == 0 &&
          std::find(missing.begin(), missing.end(), s) == missing.end())
        missing.push_back(s);
    }
    if (!missing.empty()) {
      make(missing);
      hold(missing);
      late_.insert(late_.end(), missing.begin(), missing.end());
    }
    order_.push_back(position_);
  }
  release(late_);
}

void OrderMaker::run_round(const ChainRound& round, const ChainSchedule& schedule) {
  const std::size_t n = round.stages.size();
  checkpoints_.assign(n, {});
  inputs_.assign(n, {});
  saved_.assign(n, {});
  for (std::size_t i = 0; i < schedule.size(); ++i) {
    const std::uint32_t k = schedule[i].stage;
    if (k >= n) continue;
    switch (schedule[i].kind) {
      case ChainStepKind::kForwardKeep:
        release(checkpoints_[k]);
        checkpoints_[k] = running_;
        hold(checkpoints_[k]);
        forward(round, k, false, true);
        break;
      case ChainStepKind::kForwardDrop:
        forward(round, k, false, true);
        break;
      case ChainStepKind::kForwardAll: {
        inputs_[k] = running_;
        hold(inputs_[k]);
        const bool backward_follows = i + 1 < schedule.size() &&
                                      schedule[i + 1].kind == ChainStepKind::kBackward &&
                                      schedule[i + 1].stage == k;
        forward(round, k, true, !backward_follows);
        break;
      }
      case ChainStepKind::kBackward:
        release(running_);
        backward_until(round.stages[k].backward_end);
        release(saved_[k]);
        release(inputs_[k]);
        break;
      case ChainStepKind::kRestore:
        release(running_);
        running_ = std::move(checkpoints_[k]);
        checkpoints_[k].clear();
        break;
    }
  }
  release(running_);
  for (Held& held : checkpoints_) release(held);
  for (Held& held : saved_) release(held);
  for (Held& held : inputs_) release(held);
  backward_until(round.end_op);
}

}  // namespace

std::vector<std::uint32_t> order_of(const Profile& profile,
                                    const ProfileChain& chain,
                                    const std::vector<ChainSchedule>& schedules) {
  SPW_CHECK(schedules.size() == chain.rounds.size());
  return OrderMaker(profile, chain).run(schedules);
}

ChainSchedule save_all_schedule(std::size_t stages) {
  ChainSchedule schedule;
  for (std::uint32_t s = 0; s < stages; ++s) schedule.push_back({ChainStepKind::kForwardAll, s});
  for (std::size_t s = stages; s-- > 0;)
    schedule.push_back({ChainStepKind::kBackward, static_cast<std::uint32_t>(s)});
  return schedule;
}

}  // namespace spillway
