// SPDX-License-Identifier: Apache-2.0
// The judge of the happens-before engine: an explicit graph of everything that happened, ancestors
// of every node written out, and for each byte the list of all accesses. Slow, simple, and without
// clocks, epochs or intervals.
#pragma once

#include <algorithm>
#include <cstddef>
#include <set>
#include <utility>
#include <vector>

namespace spillway::sim::test {

class RaceOracle {
 public:
  using Node = std::size_t;

  /// One access to one byte: who, and the kind as a number (0 is a read).
  using Touch = std::pair<Node, int>;

  explicit RaceOracle(std::size_t bytes) : bytes_(bytes) {}

  /// Something that happens right after all of `before`.
  Node add(const std::vector<Node>& before) {
    std::vector<bool> ancestors(ancestors_.size() + 1, false);
    for (const Node node : before) {
      ancestors[node] = true;
      for (Node other = 0; other < ancestors_[node].size(); ++other)
        if (ancestors_[node][other]) ancestors[other] = true;
    }
    ancestors_.push_back(ancestors);
    return ancestors_.size() - 1;
  }

  [[nodiscard]] bool happens_before(Node first, Node second) const {
    return first < ancestors_[second].size() && ancestors_[second][first];
  }
  [[nodiscard]] bool ordered(Node a, Node b) const {
    return a == b || happens_before(a, b) || happens_before(b, a);
  }

  /// All earlier accesses to `byte` that race with this one.
  [[nodiscard]] std::set<Touch> races(std::size_t byte, Touch now) const {
    std::set<Touch> found;
    for (const Touch& old : bytes_[byte].history)
      if ((old.second != 0 || now.second != 0) && !ordered(old.first, now.first)) found.insert(old);
    return found;
  }

  /// What a checker that keeps only the last write and the newest reads since can still name: the
  /// last write, and each read since that no later read comes after.
  [[nodiscard]] std::set<Touch> nameable(std::size_t byte) const {
    std::set<Touch> found;
    const std::vector<Touch>& history = bytes_[byte].history;
    for (std::size_t i = history.size(); i-- > 0;) {
      if (history[i].second != 0) {
        found.insert(history[i]);
        break;
      }
      bool newest = true;
      for (std::size_t j = i + 1; j < history.size(); ++j)
        newest = newest && history[j].first != history[i].first &&
                 !happens_before(history[i].first, history[j].first);
      if (newest) found.insert(history[i]);
    }
    return found;
  }

  /// True when no access to `byte` has raced so far.
  [[nodiscard]] bool clean(std::size_t byte) const { return bytes_[byte].clean; }

  void access(std::size_t byte, Touch now) {
    if (!races(byte, now).empty()) bytes_[byte].clean = false;
    bytes_[byte].history.push_back(now);
  }

  void forget(std::size_t byte) { bytes_[byte] = {}; }

 private:
  struct Byte {
    std::vector<Touch> history;
    bool clean = true;
  };
  std::vector<Byte> bytes_;
  std::vector<std::vector<bool>> ancestors_;
};

}  // namespace spillway::sim::test
