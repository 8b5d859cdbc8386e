// SPDX-License-Identifier: Apache-2.0
#include "device/sim/schedule.hpp"

#include <algorithm>

namespace spillway::sim {

void Schedule::reset(const Options& options) {
  mode_ = options.mode;
  random_ = Random(options.seed);
  step_ = 0;
  choices_ = options.choices;
  branches_.clear();
  if (mode_ == Mode::kRandom) {
    // Runs in which the host is far ahead, far behind and in step with the device.
    static constexpr std::uint64_t kBias[] = {1, 4, 7};
    host_bias_ = kBias[random_.below(3)];
  }
  if (mode_ == Mode::kPct) {
    host_priority_.clear();
    device_priority_.clear();
    change_points_.clear();
    next_change_ = 0;
    for (int i = 1; i < options.pct_depth; ++i)
      change_points_.push_back(1 + random_.below(std::max<std::uint64_t>(options.pct_steps, 1)));
    std::sort(change_points_.begin(), change_points_.end());
  }
}

std::size_t Schedule::pick(std::span<const std::uint32_t> entities) {
  ++step_;
  if (entities.size() == 1) return 0;
  switch (mode_) {
    case Mode::kEager:
    case Mode::kTimed:
      // The first stream if any, else the running thread.
      for (std::size_t i = 0; i < entities.size(); ++i)
        if (entities[i] >= kDeviceEntity) return i;
      return 0;
    case Mode::kLazy:
      return 0;
    case Mode::kReplay:
      return replay(static_cast<std::uint32_t>(entities.size()));
    case Mode::kPct:
      return pick_pct(entities);
    case Mode::kRandom:
      break;
  }
  std::size_t hosts = 0;
  while (hosts < entities.size() && entities[hosts] < kDeviceEntity) ++hosts;
  const std::size_t devices = entities.size() - hosts;
  if (hosts == 0) return random_.below(devices);
  if (devices == 0 || random_.below(8) < host_bias_) return random_.below(hosts);
  return hosts + random_.below(devices);
}

std::uint64_t& Schedule::priority_of(std::uint32_t entity) {
  const bool device = entity >= kDeviceEntity;
  std::vector<std::uint64_t>& table = device ? device_priority_ : host_priority_;
  const std::size_t index = device ? entity - kDeviceEntity : entity;
  if (index >= table.size()) table.resize(index + 1, 0);
  // Initial priorities lie above those that change points hand out.
  if (table[index] == 0) table[index] = (1ull << 32) + random_.below(1ull << 32);
  return table[index];
}

std::size_t Schedule::pick_pct(std::span<const std::uint32_t> entities) {
  std::size_t best = 0;
  for (std::size_t i = 0; i < entities.size(); ++i)
    if (priority_of(entities[i]) > priority_of(entities[best])) best = i;
  if (next_change_ < change_points_.size() && step_ >= change_points_[next_change_]) {
    // The i-th change point gives the lowest priority but i - 1 to whoever was about to run.
    priority_of(entities[best]) = change_points_.size() - next_change_;
    ++next_change_;
    for (std::size_t i = 0; i < entities.size(); ++i)
      if (priority_of(entities[i]) > priority_of(entities[best])) best = i;
  }
  return best;
}

std::uint32_t Schedule::choose(std::uint32_t n) {
  if (n <= 1) return 0;
  switch (mode_) {
    case Mode::kRandom:
    case Mode::kPct:
      return static_cast<std::uint32_t>(random_.below(n));
    case Mode::kReplay:
      return replay(n);
    default:
      return 0;
  }
}

std::uint32_t Schedule::replay(std::uint32_t count) {
  std::uint32_t taken = 0;
  if (branches_.size() < choices_.size()) taken = std::min(choices_[branches_.size()], count - 1);
  branches_.push_back({taken, count});
  return taken;
}

}  // namespace spillway::sim
