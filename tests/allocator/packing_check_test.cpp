// SPDX-License-Identifier: Apache-2.0
// The judge itself: it accepts what is right and names every planted fault.
#include "allocator/packing_check.hpp"

#include "tests/allocator/packing_cases.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace spillway;
using namespace spillway::test;

namespace {

/// Two buffers meet in [5, 10), the third follows the first in time and lies on it.
PackingProblem three() {
  PackingProblem problem;
  problem.buffers = {pack_buffer(0, 10, 100), pack_buffer(5, 20, 50), pack_buffer(10, 30, 100)};
  return problem;
}

Packing packing_of(std::vector<std::uint64_t> offsets, std::uint64_t height, std::uint64_t load) {
  Packing packing;
  packing.offsets = std::move(offsets);
  packing.height_bytes = height;
  packing.load_bound_bytes = load;
  return packing;
}

void check_broken(const PackingProblem& problem, const Packing& packing, const std::string& text) {
  const Status status = check_packing(problem, packing);
  CHECK(status.code() == Code::kInternal);
  CHECK_MESSAGE(status.message().find(text) != std::string::npos, status.message());
}

/// Every pair, every byte range.
bool overlaps(const PackingProblem& problem, const std::vector<std::uint64_t>& offsets) {
  for (std::size_t a = 0; a < offsets.size(); ++a) {
    for (std::size_t b = a + 1; b < offsets.size(); ++b) {
      const PackBuffer& x = problem.buffers[a];
      const PackBuffer& y = problem.buffers[b];
      if (x.begin < y.end && y.begin < x.end && offsets[a] < offsets[b] + y.bytes &&
          offsets[b] < offsets[a] + x.bytes)
        return true;
    }
  }
  return false;
}

}  // namespace

TEST_SUITE("unit: packing check") {
  TEST_CASE("a right packing passes; lifetimes are half-open") {
    CHECK(check_packing(three(), packing_of({0, 100, 0}, 150, 150)).ok());
    CHECK(check_packing({}, packing_of({}, 0, 0)).ok());
  }

  TEST_CASE("each law that is broken is named") {
    check_broken(three(), packing_of({0, 99, 0}, 149, 150), "overlaps buffer");
    check_broken(three(), packing_of({0, 100, 100}, 200, 150), "overlaps buffer");
    check_broken(three(), packing_of({0, 100, 0}, 151, 150), "height 151, found 150");
    check_broken(three(), packing_of({0, 100, 0}, 150, 149), "load bound 149, found 150");
    check_broken(three(), packing_of({0, 100}, 150, 150), "2 offsets for 3 buffers");
    PackingProblem problem = three();
    problem.buffers[1].alignment = 64;
    check_broken(problem, packing_of({0, 100, 0}, 150, 150), "buffer 1 is off its alignment");
    problem = three();
    problem.buffers[2].fixed_offset = 7;
    check_broken(problem, packing_of({0, 100, 0}, 150, 150), "buffer 2 is not at its fixed offset");
    problem = three();
    problem.buffers[0].bytes = ~std::uint64_t{0};
    check_broken(problem, packing_of({8, 100, 0}, 150, 150), "buffer 0 ends past the last address");
    problem = three();
    problem.buffers[0].begin = 11;
    check_broken(problem, packing_of({0, 100, 0}, 150, 150), "buffer 0 ends before it begins");
  }

  TEST_CASE("buffers without bytes or without a lifetime are in nobody's way") {
    PackingProblem problem = three();
    problem.buffers.push_back(pack_buffer(3, 9, 0));
    problem.buffers.push_back(pack_buffer(7, 7, 1000));
    CHECK(check_packing(problem, packing_of({0, 100, 0, 40, 40}, 150, 150)).ok());
  }

  TEST_CASE("bytes count as placed: rounded up to the common divisor of the alignments") {
    PackingProblem problem = three();
    for (PackBuffer& buffer : problem.buffers) buffer.alignment = 64;
    CHECK(check_packing(problem, packing_of({0, 128, 0}, 192, 192)).ok());
    problem.buffers[0].alignment = 192;
    CHECK(check_packing(problem, packing_of({0, 128, 0}, 192, 192)).ok());
  }
}

TEST_SUITE("property: packing check") {
  TEST_CASE("it says overlap exactly when some pair of buffers does") {
    int found = 0;
    for (std::uint64_t seed = 0; seed < 400; ++seed) {
      CAPTURE(seed);
      Random random(seed);
      const PackingProblem problem = random_problem(&random, 2 + random.below(8), 12, 6);
      std::vector<std::uint64_t> offsets;
      for (std::size_t i = 0; i < problem.buffers.size(); ++i) offsets.push_back(random.below(30));
      const Status status = check_packing(problem, packing_of(offsets, 0, 0));
      const bool says = status.message().find("overlaps") != std::string::npos;
      CHECK(says == overlaps(problem, offsets));
      found += says ? 1 : 0;
    }
    CHECK(found > 50);
    CHECK(found < 350);
  }
}
