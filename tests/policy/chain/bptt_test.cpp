// SPDX-License-Identifier: Apache-2.0
// The recurrences of Gruslys et al. against a shortest path over everything that a program may do,
// and against revolve, which is the same problem with hidden states alone.
#include "policy/chain/bptt.hpp"

#include "policy/chain/revolve.hpp"

#include <doctest/doctest.h>

#include <map>
#include <queue>
#include <tuple>

using namespace spillway;

namespace {

/// Least forward steps by Dijkstra over (running state, stored hidden states, stored internal
/// states, steps left). The first state holds one slot for good; the running state and the step in
/// "save all" mode right before its backward hold none.
std::uint64_t by_search(
    std::uint32_t steps, std::uint32_t slots, std::uint32_t alpha, bool hidden, bool internal) {
  using Key = std::tuple<std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t>;
  using Item = std::pair<std::uint64_t, Key>;
  std::priority_queue<Item, std::vector<Item>, std::greater<>> queue;
  std::map<Key, std::uint64_t> done;
  queue.push({0, Key{0, 0, 0, steps}});
  const auto bits = [](std::uint32_t mask) {
    return static_cast<std::uint32_t>(__builtin_popcount(mask));
  };
  while (!queue.empty()) {
    const auto [cost, key] = queue.top();
    queue.pop();
    if (!done.emplace(key, cost).second) continue;
    const auto [front, kept, saved, left] = key;
    if (left == 0) return cost;
    const auto push = [&, cost_now = cost](std::uint64_t more, const Key& next) {
      const std::uint32_t held = 1 + bits(std::get<1>(next)) + alpha * bits(std::get<2>(next));
      if (held <= slots) queue.push({cost_now + more, next});
    };
    // Backward of the last step that is left.
    const std::uint32_t last = left - 1;
    const std::uint32_t rest = (1u << last) - 1;  // what lies behind it is of no use any more
    if ((saved >> last & 1) != 0) push(0, Key{steps, kept & rest, saved & rest, last});
    if (front == last) push(1, Key{steps, kept & rest, saved & rest, last});
    if (front < last) {
      push(1, Key{front + 1, kept, saved, left});
      if (internal) push(1, Key{front + 1, kept, saved | 1u << front, left});
      if (hidden && front > 0) push(0, Key{front, kept | 1u << front, saved, left});
    }
    if (front == last && internal && last > 0)
      push(1, Key{front + 1, kept, saved | 1u << front, left});
    for (std::uint32_t i = 0; i < left; ++i) {
      if (i == 0 || (kept >> i & 1) != 0) push(0, Key{i, kept, saved, left});
      if ((saved >> i & 1) != 0 && i + 1 < left) push(0, Key{i + 1, kept, saved, left});
      if ((kept >> i & 1) != 0) push(0, Key{front, kept & ~(1u << i), saved, left});
      if ((saved >> i & 1) != 0) push(0, Key{front, kept, saved & ~(1u << i), left});
    }
  }
  return 0;
}

Chain equal_stages(std::uint32_t length) {
  Chain chain;
  chain.forward_ns.assign(length, 1);
  chain.backward_ns.assign(length, 0);
  chain.input_bytes.assign(length + 1, 1);
  chain.saved_bytes.assign(length, 1);
  chain.forward_extra_bytes.assign(length, 0);
  chain.backward_extra_bytes.assign(length, 0);
  return chain;
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("with hidden states bptt is revolve plus the run of each step before its backward") {
    const BpttTable table(BpttStates::kHidden, 60, 12, 1);
    for (std::uint32_t m = 1; m <= 12; ++m)
      for (std::uint32_t t = 1; t <= 60; ++t) {
        CAPTURE(m);
        CAPTURE(t);
        CHECK(table.forward_steps(t, m) == revolve_forward_steps(t, m) + t);
      }
  }

  TEST_CASE("bptt's limits: one slot is quadratic, enough slots are 2t - 1 or t") {
    const BpttTable hidden(BpttStates::kHidden, 20, 20, 1);
    const BpttTable internal(BpttStates::kInternal, 20, 20, 1);
    for (std::uint32_t t = 1; t <= 20; ++t) {
      CHECK(hidden.forward_steps(t, 1) == t * (t + 1) / 2);
      CHECK(hidden.forward_steps(t, t) == 2 * t - 1);
      CHECK(internal.forward_steps(t, 1) == t * (t + 1) / 2);
      CHECK(internal.forward_steps(t, t) == t);
    }
  }

  TEST_CASE("bptt saves 95 percent of the memory for a third more time, as its abstract says") {
    // An internal state of 20 hidden states: a twentieth of what storing all of them takes. A
    // step's backward takes two forwards, as is usual.
    constexpr std::uint32_t kSteps = 200;
    constexpr std::uint32_t kAlpha = 20;
    const BpttTable table(BpttStates::kMixed, kSteps, kSteps * kAlpha / 20, kAlpha);
    const std::uint64_t forwards = table.forward_steps(kSteps, kSteps * kAlpha / 20);
    CHECK(forwards <= 2 * kSteps - 1);
    const double slower = static_cast<double>(forwards + 2 * std::uint64_t{kSteps}) / (3 * kSteps);
    CHECK(slower > 1.25);
    CHECK(slower <= 4.0 / 3);
  }
}

TEST_SUITE("property") {
  TEST_CASE("bptt's recurrences find what a search over all programs finds") {
    for (std::uint32_t t = 1; t <= 6; ++t)
      for (std::uint32_t m = 1; m <= 8; ++m) {
        CAPTURE(t);
        CAPTURE(m);
        CHECK(BpttTable(BpttStates::kHidden, t, m, 1).forward_steps(t, m) ==
              by_search(t, m, 1, true, false));
        CHECK(BpttTable(BpttStates::kInternal, t, m, 1).forward_steps(t, m) ==
              by_search(t, m, 1, false, true));
        for (std::uint32_t alpha = 1; alpha <= 4; ++alpha) {
          CAPTURE(alpha);
          CHECK(BpttTable(BpttStates::kMixed, t, m, alpha).forward_steps(t, m) ==
                by_search(t, m, alpha, true, true));
        }
      }
  }

  TEST_CASE("a bptt schedule is legal and takes the steps of its table") {
    for (const BpttStates states : {BpttStates::kHidden, BpttStates::kInternal, BpttStates::kMixed})
      for (const std::uint32_t alpha : {1u, 3u, 5u})
        for (std::uint32_t t = 1; t <= 30; ++t) {
          const BpttTable table(states, t, 16, alpha);
          for (const std::uint32_t m : {1u, 2u, 4u, 7u, 16u}) {
            CAPTURE(static_cast<int>(states));
            CAPTURE(alpha);
            CAPTURE(t);
            CAPTURE(m);
            const ChainReplay result = replay(equal_stages(t), table.schedule(m));
            REQUIRE(result.legal);
            CHECK(static_cast<std::uint64_t>(result.time_ns) == table.forward_steps(t, m));
          }
        }
  }
}
