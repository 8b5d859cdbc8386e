// SPDX-License-Identifier: Apache-2.0
// Lives follow from the same changes that the charts draw, so that table and picture cannot
// disagree.
#include "integration/report/report_tensors.hpp"

#include <algorithm>
#include <array>

namespace spillway {
namespace {

bool is_usable(Place place) { return place == Place::kResident; }

bool starts_with(std::string_view text, std::string_view start) {
  return text.substr(0, start.size()) == start;
}

bool is_python(std::string_view frame) { return frame.find(".py:") != std::string_view::npos; }

bool is_library(std::string_view frame) {
  constexpr std::array<std::string_view, 4> kFolders = {
      "site-packages/", "dist-packages/", "/lib/python", "<frozen"};
  if (starts_with(frame, "torch/") || starts_with(frame, "lib/python")) return true;
  return std::any_of(kFolders.begin(), kFolders.end(), [frame](std::string_view folder) {
    return frame.find(folder) != std::string_view::npos;
  });
}

}  // namespace

std::vector<TensorLife> tensor_lives(const Profile& profile,
                                     const StepAxis& axis,
                                     const std::vector<PlaceChange>& changes) {
  std::vector<TensorLife> lives(profile.storages.size());
  for (std::size_t s = 0; s < lives.size(); ++s) {
    const auto uses = profile.uses_of(profile.storages[s]);
    if (uses.empty() || uses.back() >= axis.op_end_ns.size()) continue;
    lives[s].first_use_ns = axis.op_begin_ns[uses.front()];
    lives[s].last_use_ns = axis.op_end_ns[uses.back()];
  }
  struct State {
    Place place = Place::kNone;
    std::int64_t host_since_ns = -1;
    bool seen = false;
  };
  std::vector<State> states(lives.size());
  for (const PlaceChange& change : changes) {
    if (change.storage >= lives.size()) continue;
    State& state = states[change.storage];
    TensorLife& life = lives[change.storage];
    if (state.seen && is_usable(state.place) && !is_usable(change.place)) {
      // The end of a tensor is not an eviction: nothing uses it afterwards.
      const bool ends = change.place == Place::kNone && change.at_ns >= life.last_use_ns;
      if (!ends) {
        if (life.evicted_ns < 0) life.evicted_ns = change.at_ns;
        ++life.evictions;
      }
    }
    if (state.seen && !is_usable(state.place) && is_usable(change.place))
      life.back_ns = change.at_ns;
    if (change.host_bytes > 0 && state.host_since_ns < 0) state.host_since_ns = change.at_ns;
    if (change.host_bytes == 0 && state.host_since_ns >= 0) {
      life.on_host_ns += change.at_ns - state.host_since_ns;
      state.host_since_ns = -1;
    }
    state.place = change.place;
    state.seen = true;
  }
  for (std::size_t s = 0; s < lives.size(); ++s)
    if (states[s].host_since_ns >= 0) lives[s].on_host_ns += axis.end_ns - states[s].host_since_ns;
  return lives;
}

std::vector<StringId> stack_frames(const Profile& profile, StackId stack, std::size_t limit) {
  std::vector<StringId> frames;
  // Parents come before children in a sound profile; the limit also ends a cycle in an unsound one.
  while (stack.valid() && stack.value != 0 && stack.index() < profile.frames.size() &&
         frames.size() < limit) {
    frames.push_back(profile.frames[stack.index()].text);
    stack = profile.frames[stack.index()].parent;
  }
  return frames;
}

std::string_view source_line(const Profile& profile, StackId stack) {
  const std::vector<StringId> frames = stack_frames(profile, stack, 512);
  std::string_view python;
  for (const StringId frame : frames) {
    const std::string_view text = profile.text(frame);
    if (!is_python(text)) continue;
    if (!is_library(text)) return text;
    if (python.empty()) python = text;
  }
  if (!python.empty()) return python;
  return frames.empty() ? std::string_view() : profile.text(frames.front());
}

}  // namespace spillway
