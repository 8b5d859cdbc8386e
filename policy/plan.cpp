// SPDX-License-Identifier: Apache-2.0
// Names of actions, and the sum of activation bytes per action.
#include "policy/plan.hpp"

#include <array>

namespace spillway {

std::string_view name_of(Action action) {
  constexpr std::array<std::string_view, kActionCount> kNames = {
      "keep", "compress", "offload", "recompute"};
  const auto i = static_cast<std::size_t>(action);
  return i < kNames.size() ? kNames[i] : kNames[0];
}

ActionBytes bytes_by_action(const Profile& profile,
                            const ProfileSummary& summary,
                            const Plan& plan) {
  ActionBytes sum;
  for (const StorageId id : activations(profile, summary)) {
    const std::uint64_t bytes = profile.storages[id.index()].bytes;
    const Action action =
        id.index() < plan.decisions.size() ? plan.decisions[id.index()].action : Action::kKeep;
    switch (action) {
      case Action::kKeep:
        sum.keep += bytes;
        break;
      case Action::kCompress:
        sum.compress += bytes;
        break;
      case Action::kOffload:
        sum.offload += bytes;
        break;
      case Action::kRecompute:
        sum.recompute += bytes;
        break;
    }
  }
  return sum;
}

}  // namespace spillway
