// SPDX-License-Identifier: Apache-2.0
// A race report names both sides and the calls that would order them.
#include "device/sim/race_text.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace spillway;
using namespace spillway::sim;

namespace {

constexpr AgentInfo kStream7{true, 7};
constexpr AgentInfo kStream9{true, 9};
constexpr AgentInfo kHost0{false, 0};
constexpr AgentInfo kHost1{false, 1};

Site site(const char* call, std::uint64_t op, AccessKind kind) {
  return {call, op, {static_cast<AgentId>(op), op * 10}, kind};
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("between two streams the cure is a record and a wait") {
    const Conflict race{site("cuMemcpyDtoHAsync_v2", 11, AccessKind::kRead),
                        site("scale", 12, AccessKind::kWrite),
                        {0x1000, 0x2000},
                        0};
    CHECK(race_text(race, kStream9, kStream7) ==
          "kernel `scale` on stream 7 (op 12) writes [0x1000, 0x2000) while cuMemcpyDtoHAsync_v2 "
          "on stream 9 (op 11) may still read it; nothing orders them: record an event on stream 9 "
          "after op 11 and make stream 7 wait for it before op 12");
    CHECK(race_text(race, kStream9, kStream7, "block 3").find("writes block 3 while") !=
          std::string::npos);
  }

  TEST_CASE("a host that comes too early must synchronise with the stream or an event") {
    const Conflict race{site("cuMemcpyDtoHAsync_v2", 11, AccessKind::kWrite),
                        site("checksum", 12, AccessKind::kRead),
                        {0, 16},
                        0};
    CHECK(race_text(race, kStream9, kHost0) ==
          "host code `checksum` on host thread 0 (op 12) reads [0x0, 0x10) while "
          "cuMemcpyDtoHAsync_v2 on stream 9 (op 11) may still write it; nothing orders them: host "
          "thread 0 must synchronise with stream 9, or with an event recorded on it after op 11, "
          "before op 12");
  }

  TEST_CASE("unmapping early says that it takes effect at once") {
    const Conflict race{site("attention", 11, AccessKind::kRead),
                        site("cuMemUnmap", 12, AccessKind::kUnmap),
                        {0, 16},
                        0};
    CHECK(race_text(race, kStream7, kHost0) ==
          "cuMemUnmap on host thread 0 (op 12) unmaps [0x0, 0x10) while kernel `attention` on "
          "stream 7 (op 11) may still read it; nothing orders them: host thread 0 must synchronise "
          "with stream 7, or with an event recorded on it after op 11, before op 12; cuMemUnmap "
          "takes effect at once, it does not wait for streams");
  }

  TEST_CASE("a use that nothing orders before the free makes the free wait") {
    const Conflict race{site("cuMemFreeAsync", 11, AccessKind::kFree),
                        site("attention", 12, AccessKind::kRead),
                        {0, 16},
                        0};
    CHECK(race_text(race, kStream9, kStream7) ==
          "kernel `attention` on stream 7 (op 12) reads [0x0, 0x10), which cuMemFreeAsync on "
          "stream 9 (op 11) frees; nothing orders them: record an event on stream 7 after op 12 "
          "and make stream 9 wait for it before op 11, and that needs op 12 to be made before op "
          "11");
  }

  TEST_CASE("memory is used on another stream only after its allocation") {
    const Conflict race{site("cuMemAllocAsync", 11, AccessKind::kAllocate),
                        site("attention", 12, AccessKind::kWrite),
                        {0, 16},
                        0};
    CHECK(race_text(race, kStream9, kStream7) ==
          "kernel `attention` on stream 7 (op 12) writes [0x0, 0x10), which cuMemAllocAsync on "
          "stream 9 (op 11) allocates; nothing orders them: record an event on stream 9 after op "
          "11 and make stream 7 wait for it before op 12");
  }

  TEST_CASE("between host threads the cure is a hand-over") {
    const Conflict both_hosts{
        site("fill", 11, AccessKind::kWrite), site("checksum", 12, AccessKind::kRead), {0, 16}, 0};
    CHECK(race_text(both_hosts, kHost1, kHost0)
              .find("host thread 1 must hand over to host thread 0 between op 11 and op 12 (a "
                    "mutex, an "
                    "atomic or a thread join)") != std::string::npos);
    CHECK(race_text(both_hosts, kHost1, kStream7)
              .find("host thread 1 must hand over to the thread that enqueues op 12") !=
          std::string::npos);
  }

  TEST_CASE("a wait on too old a record is told apart from no wait at all") {
    const Conflict race{site("produce", 11, AccessKind::kWrite),
                        site("cuMemcpyDtoHAsync_v2", 12, AccessKind::kRead),
                        {0, 16},
                        104};
    const std::string text = race_text(race, kStream7, kStream9);
    CHECK(text.find(". stream 9 did wait for stream 7, but on too old a record: that covers tick "
                    "104 of stream 7, and op 11 is tick 110") != std::string::npos);
    CHECK(text.find("record an event on stream 7 after op 11") != std::string::npos);
    CHECK(race_text(race, kHost1, kHost0)
              .find("The newest step of host thread 1 handed over is tick 104") !=
          std::string::npos);
  }

  TEST_CASE("the agents of a race are looked up in the engine") {
    HappensBefore engine;
    const AgentId host = engine.add_host_thread(3);
    const AgentId produce = engine.add_stream(21);
    const AgentId consume = engine.add_stream(22);
    std::vector<Conflict> races;
    engine.access({0, 8}, AccessKind::kWrite, engine.issue(produce, host), "produce", 1, races);
    engine.access({4, 9}, AccessKind::kRead, engine.issue(consume, host), "consume", 2, races);
    REQUIRE(races.size() == 1);
    CHECK(race_text(races[0], engine) ==
          "kernel `consume` on stream 22 (op 2) reads [0x4, 0x8) while kernel `produce` on stream "
          "21 (op 1) may still write it; nothing orders them: record an event on stream 21 after "
          "op 1 and make stream 22 wait for it before op 2");
  }
}
