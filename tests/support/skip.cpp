// SPDX-License-Identifier: Apache-2.0
// The skip flag of one test program; see skip.hpp.
#include "tests/support/skip.hpp"

#include <atomic>
#include <cstdio>

namespace spillway::test {
namespace {
std::atomic<bool> skipped = false;
std::atomic<bool> skipped_for_more = false;

void tell(const char* begin, std::string_view what) {
  std::printf("skipped: needs %s%.*s\n", begin, static_cast<int>(what.size()), what.data());
  std::fflush(stdout);
}
}  // namespace

void report_skipped(std::string_view what) {
  skipped = true;
  skipped_for_more = true;
  tell("", what);
}

void report_skipped_without_gpu(std::string_view why) {
  skipped = true;
  tell("a GPU: ", why);
}

bool was_skipped() { return skipped; }
bool was_skipped_for_more_than_a_gpu() { return skipped_for_more; }

}  // namespace spillway::test
