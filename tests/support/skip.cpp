// SPDX-License-Identifier: Apache-2.0
// The skip flag of one test program; see skip.hpp.
#include "tests/support/skip.hpp"

#include <atomic>
#include <cstdio>

namespace spillway::test {
namespace {
std::atomic<bool> skipped = false;
}  // namespace

void report_skipped(std::string_view what) {
  skipped = true;
  std::printf("skipped: needs %.*s\n", static_cast<int>(what.size()), what.data());
  std::fflush(stdout);
}

bool was_skipped() { return skipped; }

}  // namespace spillway::test
