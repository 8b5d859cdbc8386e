// SPDX-License-Identifier: Apache-2.0
// Slots never overlap, never run out before the capacity does, and are found from inside.
#include "device/sim/slot_arena.hpp"

#include "core/random.hpp"

#include <doctest/doctest.h>

#include <map>

using namespace spillway;
using namespace spillway::sim;

TEST_SUITE("unit") {
  TEST_CASE("a freed slot is the next one handed out") {
    SlotArena arena(1 << 20, 4096, 4096);
    const std::uint64_t a = arena.allocate(100, 4096, 1, 0);
    const std::uint64_t b = arena.allocate(100, 4096, 2, 0);
    CHECK(a != b);
    ByteRange found;
    REQUIRE(arena.free(a, &found) == MemoryError::kOk);
    CHECK(found == ByteRange{a, 100});
    CHECK(arena.allocate(4096, 4096, 3, 0) == a);
  }

  TEST_CASE("what is not the start of a live block says what it is") {
    SlotArena arena(1 << 20, 4096, 4096);
    const std::uint64_t a = arena.allocate(5000, 8192, 1, 0);
    ByteRange found;
    CHECK(arena.free(a + 1, &found) == MemoryError::kInterior);
    CHECK(found == ByteRange{a, 5000});
    CHECK(arena.free(a + 5000, &found) == MemoryError::kOutOfBounds);
    CHECK(arena.free(arena.span_bytes(), &found) == MemoryError::kForeign);
    CHECK(arena.free(0, &found) == MemoryError::kForeign);
    CHECK(arena.live_count() == 1);
    REQUIRE(arena.free(a, &found) == MemoryError::kOk);
    CHECK(arena.free(a, &found) == MemoryError::kDoubleFree);
    CHECK(arena.free(a + 1, &found) == MemoryError::kFreed);
    CHECK(arena.find(a).slot == nullptr);
    CHECK(arena.live_count() == 0);
  }

  TEST_CASE("a reset arena gives the offsets of a new one") {
    SlotArena arena(1 << 20, 4096, 0);
    const std::uint64_t a = arena.allocate(4096, 4096, 1, 0);
    const std::uint64_t b = arena.allocate(4096, 4096, 2, 0);
    ByteRange found;
    (void)arena.free(a, &found);
    arena.reset();
    CHECK(arena.find(b).slot == nullptr);
    CHECK(arena.free(b, &found) == MemoryError::kForeign);
    CHECK(arena.allocate(4096, 4096, 1, 0) == a);
    CHECK(arena.allocate(4096, 4096, 2, 0) == b);
  }

  TEST_CASE("the whole capacity can be one block, or as many as fit") {
    for (const std::uint64_t gap : {std::uint64_t{0}, std::uint64_t{4096}}) {
      for (const std::uint64_t capacity : {std::uint64_t{4096}, std::uint64_t{5} * 4096}) {
        SlotArena arena(capacity, 4096, gap);
        const std::uint64_t one = arena.allocate(capacity, capacity, 1, 0);
        REQUIRE(one != SlotArena::kNowhere);
        ByteRange found;
        REQUIRE(arena.free(one, &found) == MemoryError::kOk);
        for (std::uint64_t used = 0; used < capacity; used += 4096) {
          CHECK(arena.allocate(4096, 4096, 1, 0) != SlotArena::kNowhere);
        }
      }
    }
  }
}

TEST_SUITE("model") {
  TEST_CASE("random blocks up to the capacity always find a slot, apart from all others") {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
      CAPTURE(seed);
      Random random(seed);
      const std::uint64_t capacity = 4096 * (1 + random.below(300));
      const std::uint64_t gap = random.below(2) * 4096;
      SlotArena arena(capacity, 4096, gap);
      std::map<std::uint64_t, std::uint64_t> live;  // begin -> bytes, a multiple of 4096
      std::uint64_t used = 0;
      for (int step = 0; step < 2000; ++step) {
        const std::uint64_t rest = capacity - used;
        if (rest > 0 && random.below(2) == 0) {
          const std::uint64_t bytes = 4096 * (1 + random.below(rest / 4096));
          const std::uint64_t at = arena.allocate(bytes, bytes, 7, 9);
          REQUIRE(at != SlotArena::kNowhere);
          REQUIRE(at + bytes + gap <= arena.span_bytes());
          const auto next = live.lower_bound(at);
          if (next != live.end()) REQUIRE(at + bytes + gap <= next->first);
          if (next != live.begin()) {
            REQUIRE(std::prev(next)->first + std::prev(next)->second + gap <= at);
          }
          live[at] = bytes;
          used += bytes;
        } else if (!live.empty()) {
          auto it = live.begin();
          std::advance(it, static_cast<std::ptrdiff_t>(random.below(live.size())));
          const SlotArena::Found found = arena.find(it->first + random.below(it->second));
          REQUIRE(found.slot != nullptr);
          REQUIRE(found.begin == it->first);
          REQUIRE(found.slot->bytes == it->second);
          REQUIRE(found.slot->serial == 7);
          REQUIRE(found.slot->flags == 9);
          ByteRange freed;
          REQUIRE(arena.free(it->first, &freed) == MemoryError::kOk);
          used -= it->second;
          live.erase(it);
        }
        REQUIRE(arena.live_count() == live.size());
      }
      std::map<std::uint64_t, std::uint64_t> seen;
      arena.for_each_live(
          [&](std::uint64_t begin, const SlotArena::Slot& slot) { seen[begin] = slot.bytes; });
      CHECK(seen == live);
      arena.for_each_idle([&](std::uint64_t begin, std::uint64_t bytes) {
        const auto next = live.lower_bound(begin);
        CHECK((next == live.end() || begin + bytes <= next->first));
      });
    }
  }
}
