// SPDX-License-Identifier: Apache-2.0
// Carriage return and "erase to end of line"; nothing when stderr is not a terminal.
#include "integration/cli/progress.hpp"

#include <cstdio>
#include <unistd.h>

namespace spillway::cli {

Progress::Progress() : active_(::isatty(STDERR_FILENO) == 1) {}
Progress::~Progress() { clear(); }

void Progress::show(const std::string& what, std::uint64_t done, std::uint64_t total) {
  if (!active_) return;
  const auto now = std::chrono::steady_clock::now();
  if (drawn_ && now - last_ < std::chrono::milliseconds(100)) return;
  last_ = now;
  drawn_ = true;
  if (total > 0) {
    std::fprintf(stderr,
                 "\r%s %d %%\x1b[K",
                 what.c_str(),
                 static_cast<int>(100.0 * static_cast<double>(done) / static_cast<double>(total)));
  } else {
    std::fprintf(stderr, "\r%s\x1b[K", what.c_str());
  }
  std::fflush(stderr);
}

void Progress::clear() {
  if (!drawn_) return;
  std::fputs("\r\x1b[K", stderr);
  std::fflush(stderr);
  drawn_ = false;
}

}  // namespace spillway::cli
