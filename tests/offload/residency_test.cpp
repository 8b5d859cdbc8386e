// SPDX-License-Identifier: Apache-2.0
// The table of residency, all of it: every state with every move, against a model that knows no
// states, only memory, what version of the contents lies in it, and one transfer under way.
#include "offload/residency.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <string>
#include <vector>

using namespace spillway;

namespace {

enum class Transfer { kNone, kEncode, kOut, kToDisk, kFromDisk, kIn, kRecompute };

/// A version of the contents: 0 is garbage. Whether an image is a payload goes with it.
struct World {
  int version = 0;  // newest; 0: never written
  std::optional<int> device;
  std::optional<int> payload;
  std::optional<int> host;
  std::optional<int> disk;
  bool image_is_payload = false;  // on host and disk
  bool recipe = false;            // dropped on purpose: can be made again
  bool lost = false;
  Transfer transfer = Transfer::kNone;

  friend auto operator<=>(const World&, const World&) = default;
};

/// What the move does to memory; nothing when it makes no sense there.
std::optional<World> apply(World w, Move move) {
  const bool idle = w.transfer == Transfer::kNone;
  const bool anything = w.device || w.payload || w.host || w.disk;
  const auto done = [&] { w.transfer = Transfer::kNone; };
  switch (move) {
    case Move::kWrite: {
      if (!idle) return std::nullopt;
      World written;
      written.version = 1;
      written.device = 1;
      return written;
    }
    case Move::kCompress:
      if (!idle || !w.device) return std::nullopt;
      w.payload = w.device;
      w.device.reset();
      return w;
    case Move::kTryCompress:
      if (!idle || !w.device) return std::nullopt;
      w.payload = 0;
      w.transfer = Transfer::kEncode;
      return w;
    case Move::kFits:
      if (w.transfer != Transfer::kEncode) return std::nullopt;
      w.payload = w.device;
      w.device.reset();
      done();
      return w;
    case Move::kGiveUpPayload:
      if (w.transfer != Transfer::kEncode) return std::nullopt;
      w.payload.reset();
      done();
      return w;
    case Move::kDecompress:
      if (!idle || !w.payload) return std::nullopt;
      w.device = w.payload;
      w.payload.reset();
      return w;
    case Move::kOffload:
      if (!idle || (!w.device && !w.payload)) return std::nullopt;
      w.host = 0;
      w.image_is_payload = w.payload.has_value();
      w.transfer = Transfer::kOut;
      return w;
    case Move::kOffloadIssued:
      if (w.transfer != Transfer::kOut) return std::nullopt;
      w.host = w.image_is_payload ? w.payload : w.device;
      w.device.reset();
      w.payload.reset();
      done();
      return w;
    case Move::kOffloadGivenUp:
      if (w.transfer != Transfer::kOut) return std::nullopt;
      w.host.reset();
      w.image_is_payload = false;
      done();
      return w;
    case Move::kSpill:
      if (!idle || !w.host) return std::nullopt;
      w.disk = 0;
      w.transfer = Transfer::kToDisk;
      return w;
    case Move::kSpilled:
      if (w.transfer != Transfer::kToDisk) return std::nullopt;
      w.disk = w.host;
      w.host.reset();
      done();
      return w;
    case Move::kSpillGivenUp:
      if (w.transfer != Transfer::kToDisk) return std::nullopt;
      w.disk.reset();
      done();
      return w;
    case Move::kFetch:
      if (!idle || !w.disk) return std::nullopt;
      w.host = 0;
      w.transfer = Transfer::kFromDisk;
      return w;
    case Move::kFetched:
      if (w.transfer != Transfer::kFromDisk) return std::nullopt;
      w.host = w.disk;
      w.disk.reset();
      done();
      return w;
    case Move::kFetchFailed:
      if (w.transfer != Transfer::kFromDisk) return std::nullopt;
      w.host.reset();
      done();
      return w;
    case Move::kPrefetch:
      if (!idle || !w.host) return std::nullopt;
      (w.image_is_payload ? w.payload : w.device) = 0;
      w.transfer = Transfer::kIn;
      return w;
    case Move::kPrefetchIssued:
      if (w.transfer != Transfer::kIn) return std::nullopt;
      (w.image_is_payload ? w.payload : w.device) = w.host;
      w.host.reset();
      w.image_is_payload = false;
      done();
      return w;
    case Move::kPrefetchGivenUp:
      if (w.transfer != Transfer::kIn) return std::nullopt;
      (w.image_is_payload ? w.payload : w.device).reset();
      done();
      return w;
    case Move::kDrop: {
      if (!idle || !anything) return std::nullopt;
      World dropped;
      dropped.version = w.version;
      dropped.recipe = true;
      return dropped;
    }
    case Move::kRecompute:
      if (!idle || !w.recipe) return std::nullopt;
      w.device = 0;
      w.transfer = Transfer::kRecompute;
      return w;
    case Move::kRecomputed:
      if (w.transfer != Transfer::kRecompute) return std::nullopt;
      w.device = w.version;
      w.recipe = false;
      done();
      return w;
    case Move::kRecomputeGivenUp:
      if (w.transfer != Transfer::kRecompute) return std::nullopt;
      w.device.reset();
      done();
      return w;
    case Move::kLose: {
      if (!idle || (!anything && !w.recipe)) return std::nullopt;
      World lost;
      lost.version = w.version;
      lost.lost = true;
      return lost;
    }
  }
  return std::nullopt;
}

Forms held_in(const World& w) {
  return {w.device.has_value(), w.payload.has_value(), w.host.has_value(), w.disk.has_value()};
}
Forms good_in(const World& w) {
  const auto is_good = [&](std::optional<int> form) { return form && *form == w.version; };
  return {is_good(w.device), is_good(w.payload), is_good(w.host), is_good(w.disk)};
}

struct Place {
  TensorState state;
  World world;
  friend auto operator<=>(const Place&, const Place&) = default;
};

}  // namespace

TEST_SUITE("offload") {
  TEST_CASE("every state with every move does to memory what the model does, or is in neither") {
    std::vector<Place> places = {{TensorState::kUnwritten, World{}}};
    std::set<Place> seen(places.begin(), places.end());
    std::set<TensorState> states;
    int cells = 0;
    int legal = 0;
    for (std::size_t i = 0; i < places.size(); ++i) {
      const Place place = places[i];
      CAPTURE(std::string(name_of(place.state)));
      CHECK(states.insert(place.state).second);  // one world a state: the state says it all
      CHECK(held(place.state) == held_in(place.world));
      CHECK(good(place.state) == good_in(place.world));
      for (int m = 0; m < kMoves; ++m) {
        const auto move = static_cast<Move>(m);
        CAPTURE(std::string(name_of(move)));
        const std::optional<TensorState> next = after(place.state, move);
        const std::optional<World> world = apply(place.world, move);
        ++cells;
        CHECK(next.has_value() == world.has_value());
        if (!next || !world) continue;
        ++legal;
        const Place then{*next, *world};
        if (seen.insert(then).second) places.push_back(then);
      }
    }
    CHECK(states.size() == kTensorStates);
    CHECK(cells == kTensorStates * kMoves);
    CHECK(legal == 54);
  }

  TEST_CASE("contents are given up by drop, by loss and by new contents alone") {
    for (int s = 0; s < kTensorStates; ++s)
      for (int m = 0; m < kMoves; ++m) {
        const auto state = static_cast<TensorState>(s);
        const auto move = static_cast<Move>(m);
        const std::optional<TensorState> next = after(state, move);
        if (!next || move == Move::kDrop || move == Move::kLose || move == Move::kWrite) continue;
        const bool had = !(good(state) == Forms{});
        const bool has = !(good(*next) == Forms{});
        CAPTURE(std::string(name_of(state)));
        CAPTURE(std::string(name_of(move)));
        if (had) CHECK(has);
      }
  }

  TEST_CASE(
      "from wherever there are contents an acquire has device bytes after six moves at most") {
    for (int s = 0; s < kTensorStates; ++s) {
      auto state = static_cast<TensorState>(s);
      CAPTURE(std::string(name_of(state)));
      const bool has_none = state == TensorState::kUnwritten || state == TensorState::kLost;
      int moves = 0;
      while (const std::optional<Move> move = towards_resident(state)) {
        const std::optional<TensorState> next = after(state, *move);
        REQUIRE(next.has_value());
        state = *next;
        REQUIRE(++moves <= 6);
      }
      CHECK(state == (has_none ? static_cast<TensorState>(s) : TensorState::kResident));
    }
  }

  TEST_CASE("what is under way ends in two ways at least, and never in a third thing under way") {
    for (int s = 0; s < kTensorStates; ++s) {
      const auto state = static_cast<TensorState>(s);
      if (held(state) == good(state)) continue;
      CAPTURE(std::string(name_of(state)));
      int ends = 0;
      for (int m = 0; m < kMoves; ++m) {
        const std::optional<TensorState> next = after(state, static_cast<Move>(m));
        if (!next) continue;
        ++ends;
        CHECK(held(*next) == good(*next));
      }
      CHECK(ends == 2);
    }
  }

  TEST_CASE("states and moves have names of their own, and users see nine words") {
    std::set<std::string_view> names;
    for (int s = 0; s < kTensorStates; ++s) names.insert(name_of(static_cast<TensorState>(s)));
    CHECK(names.size() == kTensorStates);
    names.clear();
    for (int m = 0; m < kMoves; ++m) names.insert(name_of(static_cast<Move>(m)));
    CHECK(names.size() == kMoves);
    names.clear();
    for (int s = 0; s < kTensorStates; ++s)
      names.insert(name_of(residency_of(static_cast<TensorState>(s))));
    CHECK(names.size() == 9);
    CHECK(names.count("") == 0);
  }
}
