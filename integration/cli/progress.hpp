// SPDX-License-Identifier: Apache-2.0
// Progress of long work: one line on stderr, only on a terminal, wiped when done.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace spillway::cli {

class Progress {
 public:
  Progress();
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  Progress(Progress&&) = delete;
  Progress& operator=(Progress&&) = delete;

  /// Shows `what`, with a percentage when `total` > 0. Redraws at most ten times a second.
  void show(const std::string& what, std::uint64_t done = 0, std::uint64_t total = 0);
  void clear();

 private:
  bool active_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point last_{};
};

}  // namespace spillway::cli
