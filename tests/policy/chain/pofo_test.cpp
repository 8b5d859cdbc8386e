// SPDX-License-Identifier: Apache-2.0
// The search against every plan of short chains, each run by an event model of its own: one queue
// out of the device in forward, one back, in mirrored time, in backward.
#include "policy/chain/pofo.hpp"

#include "core/random.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <limits>

using namespace spillway;

namespace {

Chain random_chain(Random& random, std::size_t length) {
  Chain chain;
  chain.input_bytes.push_back(1 + random.below(3));
  for (std::size_t i = 0; i < length; ++i) {
    chain.forward_ns.push_back(1 + static_cast<std::int64_t>(random.below(6)));
    chain.backward_ns.push_back(1 + static_cast<std::int64_t>(random.below(9)));
    chain.input_bytes.push_back(1 + random.below(3));
    chain.saved_bytes.push_back(chain.input_bytes.back() + random.below(4));
    chain.forward_extra_bytes.push_back(random.below(2));
    chain.backward_extra_bytes.push_back(random.below(2));
  }
  return chain;
}

/// A stretch of time in which `need` bytes are used beside what is held; before it bytes may have
/// to leave the queue first.
struct Piece {
  double duration_ns;
  double need;
};

/// Runs pieces one after another while `queued` bytes, then `behind` bytes, leave at `rate`. Bytes
/// of `queued` that have not left take memory; `behind` is held for the whole time anyway.
struct Flow {
  double rate = 0;
  double room = 0;  // memory for pieces and queue
  double queued = 0;
  double behind = 0;
  double now_ns = 0;

  bool run(const std::vector<Piece>& pieces) {
    for (const Piece& piece : pieces) {
      if (piece.need > room) return false;
      const double too_much = queued + piece.need - room;
      if (too_much > 0) advance(too_much / rate);
      advance(piece.duration_ns);
    }
    return true;
  }
  void advance(double ns) {
    now_ns += ns;
    double bytes = ns * rate;
    const double first = std::min(bytes, queued);
    queued -= first;
    behind -= std::min(bytes - first, behind);
  }
};

/// Time of a plan; infinity when it does not fit.
double time_of(const Chain& chain,
               const RotorTable& table,
               const PofoOptions& options,
               const std::vector<PofoGroup>& groups) {
  constexpr double kNever = std::numeric_limits<double>::infinity();
  double held = 0;
  double out = 0;
  double back = 0;
  double time = 0;
  std::uint64_t left = 0;  // by the group before
  for (const PofoGroup& group : groups) {
    const auto x = static_cast<double>(left);
    const double room = static_cast<double>(options.memory_bytes) - held - x;
    std::vector<Piece> forward;
    std::vector<Piece> backward;
    for (std::uint32_t s = group.first; s <= group.last; ++s) {
      const auto extra = static_cast<double>(chain.forward_extra_bytes[s]);
      const auto duration = static_cast<double>(chain.forward_ns[s]);
      if (group.save_all) {
        forward.push_back({duration, static_cast<double>(chain.saved_bytes[s]) + extra});
        backward.push_back(
            {static_cast<double>(chain.backward_ns[s]),
             static_cast<double>(chain.saved_bytes[s] + chain.input_bytes[s] +
                                 chain.input_bytes[s + 1] + chain.backward_extra_bytes[s])});
      } else {
        const double input = s == group.first ? 0 : static_cast<double>(chain.input_bytes[s]);
        forward.push_back(
            {duration, input + static_cast<double>(chain.input_bytes[s + 1]) + extra});
      }
    }
    if (!group.save_all) {
      const auto again = table.time_ns(group.first, group.last, group.rotor_slots);
      if (!again) return kNever;
      backward.push_back({static_cast<double>(*again),
                          static_cast<double>(group.rotor_slots * table.slot_bytes())});
    }
    const double moved = group.offload_input ? x : 0;
    Flow outward{options.offload_bytes_per_ns, room, out, moved};
    Flow homeward{options.prefetch_bytes_per_ns, room, back, 0};
    if (!outward.run(forward) || !homeward.run(backward)) return kNever;
    time += outward.now_ns + homeward.now_ns;
    out = outward.queued + outward.behind;
    back = homeward.queued + moved;
    if (!group.offload_input) held += x;
    left = group.save_all ? chain.saved_bytes[group.last] : chain.input_bytes[group.last + 1];
  }
  return time + out / options.offload_bytes_per_ns + back / options.prefetch_bytes_per_ns;
}

/// The least time over all plans. `all_memories`: try every number of slots for a stretch, not
/// only those where its time changes.
double by_enumeration(const Chain& chain,
                      const RotorTable& table,
                      const PofoOptions& options,
                      bool all_memories) {
  double best = std::numeric_limits<double>::infinity();
  std::vector<PofoGroup> groups;
  const std::function<void(std::uint32_t)> go_on = [&](std::uint32_t first) {
    if (first == chain.length()) {
      best = std::min(best, time_of(chain, table, options, groups));
      return;
    }
    for (const bool offload : {false, true}) {
      if (offload && first == 0) continue;
      groups.push_back({first, first, true, offload, 0});
      go_on(first + 1);
      groups.pop_back();
      for (std::uint32_t last = first; last < chain.length(); ++last) {
        std::vector<std::uint32_t> memories =
            rotor_breakpoints(table, first, last, options.memory_bytes);
        if (all_memories) {
          memories.clear();
          for (std::uint32_t m = 0; m <= options.memory_bytes; ++m) memories.push_back(m);
        }
        for (const std::uint32_t slots : memories) {
          groups.push_back({first, last, false, offload, slots});
          go_on(last + 1);
          groups.pop_back();
        }
      }
    }
  };
  go_on(0);
  return best;
}

void compare(std::uint64_t seed, std::size_t length, std::uint64_t most_bytes, bool all_memories) {
  CAPTURE(seed);
  Random random(seed);
  const Chain chain = random_chain(random, length);
  PofoOptions options;
  options.memory_bytes = 5 + random.below(most_bytes);
  options.offload_bytes_per_ns = 0.1 + random.unit() * 2;
  options.prefetch_bytes_per_ns = 0.1 + random.unit() * 2;
  const RotorTable table(chain, 1, static_cast<std::uint32_t>(options.memory_bytes));
  const double least = by_enumeration(chain, table, options, all_memories);
  const auto plan = pofo(chain, table, options);
  REQUIRE(plan.has_value() == (least < std::numeric_limits<double>::infinity()));
  if (!plan) return;
  CHECK(plan->time_ns == doctest::Approx(least).epsilon(1e-9));
  // The plan that it names takes that time, and its schedule runs.
  CHECK(time_of(chain, table, options, plan->groups) == doctest::Approx(least).epsilon(1e-9));
  CHECK(replay(chain, schedule_of(*plan, table)).legal);
  options.beam = 48;
  const auto narrow = pofo(chain, table, options);
  if (narrow) CHECK(narrow->time_ns >= least * (1 - 1e-9));
}

}  // namespace

TEST_SUITE("property") {
  TEST_CASE("pofo finds the fastest of all plans of chains of up to four stages") {
    for (std::uint64_t seed = 1; seed <= 120; ++seed) compare(seed, 1 + seed % 4, 9, true);
  }

  TEST_CASE("pofo finds the fastest of all plans of chains of five and six stages") {
    for (std::uint64_t seed = 300; seed < 312; ++seed) compare(seed, 5 + seed % 2, 20, false);
  }

  TEST_CASE("a faster link never makes pofo slower") {
    for (std::uint64_t seed = 500; seed < 540; ++seed) {
      CAPTURE(seed);
      Random random(seed);
      const Chain chain = random_chain(random, 9);
      PofoOptions options;
      options.memory_bytes = 12 + random.below(40);
      options.offload_bytes_per_ns = options.prefetch_bytes_per_ns = 0.2;
      const RotorTable table(chain, 1, static_cast<std::uint32_t>(options.memory_bytes));
      const auto slow = pofo(chain, table, options);
      options.offload_bytes_per_ns = options.prefetch_bytes_per_ns = 2;
      const auto fast = pofo(chain, table, options);
      REQUIRE(slow.has_value() == fast.has_value());
      if (slow) CHECK(fast->time_ns <= slow->time_ns + 1e-9);
    }
  }
}
