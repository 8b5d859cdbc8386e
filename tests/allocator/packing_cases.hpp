// SPDX-License-Identifier: Apache-2.0
// Packing problems for tests: made up at random, with a known optimum, or read from the shared data
// by a reader of its own.
#pragma once

#include "allocator/packing.hpp"
#include "core/random.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace spillway::test {

inline PackBuffer pack_buffer(std::uint64_t begin, std::uint64_t end, std::uint64_t bytes) {
  PackBuffer buffer;
  buffer.begin = begin;
  buffer.end = end;
  buffer.bytes = bytes;
  return buffer;
}

inline PackingProblem random_problem(Random* random,
                                     std::uint64_t count,
                                     std::uint64_t times,
                                     std::uint64_t bytes_max) {
  PackingProblem problem;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t begin = random->below(times);
    problem.buffers.push_back(
        pack_buffer(begin, begin + 1 + random->below(times - begin), 1 + random->below(bytes_max)));
  }
  return problem;
}

/// A box of `times` x `height` cut into `count` buffers: the optimum is `height`, with no byte to
/// spare at any time.
inline PackingProblem cut_box(Random* random,
                              std::size_t count,
                              std::uint64_t times,
                              std::uint64_t height) {
  PackingProblem problem;
  problem.buffers.push_back(pack_buffer(0, times, height));
  for (std::uint64_t tries = 0; problem.buffers.size() < count && tries < 100 * count; ++tries) {
    const std::size_t at = random->below(problem.buffers.size());
    PackBuffer& buffer = problem.buffers[at];
    PackBuffer rest = buffer;
    if (random->below(2) == 0) {
      if (buffer.end - buffer.begin < 2) continue;
      rest.begin = buffer.end = buffer.begin + 1 + random->below(buffer.end - buffer.begin - 1);
    } else {
      if (buffer.bytes < 2) continue;
      rest.bytes = 1 + random->below(buffer.bytes - 1);
      buffer.bytes -= rest.bytes;
    }
    problem.buffers.push_back(rest);
  }
  return problem;
}

/// At every moment the sum of sizes is `height`: whatever ends is made up for by others. Many such
/// problems have packings of that height, some do not.
inline PackingProblem refilled(Random* random, std::size_t count, std::uint64_t height) {
  PackingProblem problem;
  std::vector<std::size_t> alive;
  std::uint64_t time = 0;
  const auto fill = [&](std::uint64_t bytes) {
    while (bytes > 0) {
      const std::uint64_t size = 1 + random->below(bytes < 4 ? bytes : 4);
      alive.push_back(problem.buffers.size());
      problem.buffers.push_back(pack_buffer(time, time + 1, size));
      bytes -= size;
    }
  };
  fill(height);
  while (problem.buffers.size() < count) {
    ++time;
    std::uint64_t freed = 0;
    for (std::uint64_t ends = 1 + random->below(3); ends > 0 && !alive.empty(); --ends) {
      const std::size_t at = random->below(alive.size());
      problem.buffers[alive[at]].end = time;
      freed += problem.buffers[alive[at]].bytes;
      alive.erase(alive.begin() + static_cast<std::ptrdiff_t>(at));
    }
    fill(freed);
  }
  for (const std::size_t i : alive) problem.buffers[i].end = time + 1;
  return problem;
}

/// Whether a packing of at most `height` exists: every way to place what begins, moment by moment.
/// For few bytes only.
inline bool fits_within(const PackingProblem& problem, std::uint64_t height) {
  using Layout = std::map<std::size_t, std::uint64_t>;  // offsets of what is alive
  std::set<std::uint64_t> times;
  for (const PackBuffer& buffer : problem.buffers) times.insert(buffer.begin);
  std::set<Layout> layouts = {{}};
  for (const std::uint64_t time : times) {
    std::set<Layout> left;
    for (Layout layout : layouts) {
      std::erase_if(layout, [&](const auto& at) { return problem.buffers[at.first].end <= time; });
      left.insert(std::move(layout));
    }
    layouts = std::move(left);
    for (std::size_t i = 0; i < problem.buffers.size(); ++i) {
      const PackBuffer& buffer = problem.buffers[i];
      if (buffer.begin != time || buffer.begin == buffer.end) continue;
      std::set<Layout> next;
      for (const Layout& layout : layouts) {
        for (std::uint64_t offset = 0; offset + buffer.bytes <= height;
             offset += buffer.alignment) {
          bool free = true;
          for (const auto& [other, at] : layout)
            free = free &&
                   (at + problem.buffers[other].bytes <= offset || offset + buffer.bytes <= at);
          if (!free) continue;
          Layout placed = layout;
          placed.emplace(i, offset);
          next.insert(std::move(placed));
        }
      }
      layouts = std::move(next);
    }
  }
  return !layouts.empty();
}

/// Lines "id,lower,upper,size..." below a header.
inline PackingProblem read_problem(const std::filesystem::path& path) {
  PackingProblem problem;
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  while (std::getline(in, line)) {
    if (line.empty()) continue;
    std::size_t at = line.find(',');
    std::uint64_t numbers[3] = {};
    for (std::uint64_t& number : numbers) {
      number = std::stoull(line.substr(at + 1));
      at = line.find(',', at + 1);
    }
    problem.buffers.push_back(pack_buffer(numbers[0], numbers[1], numbers[2]));
  }
  return problem;
}

}  // namespace spillway::test
