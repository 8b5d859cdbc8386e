// SPDX-License-Identifier: Apache-2.0
// Entry of every doctest program. A run in which nothing failed and a test reported itself skipped
// exits with $SPILLWAY_SKIP_CODE when ctest set it, so that ctest counts the test as skipped and
// not as passed; with $SPILLWAY_NEED_ALL_TESTS (./run test --need-data) it is a failure instead,
// for want of a GPU only with $SPILLWAY_NEED_GPU (./run gpu).
#define DOCTEST_CONFIG_IMPLEMENT
#include "tests/support/skip.hpp"

#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <string>

int main(int argc, char** argv) {
  doctest::Context context(argc, argv);
  const int status = context.run();
  if (context.shouldExit() || status != 0) return status;
  if (!spillway::test::was_skipped()) return 0;
  // NOLINTBEGIN(concurrency-mt-unsafe): nothing here changes the environment.
  const bool need_all = std::getenv("SPILLWAY_NEED_ALL_TESTS") != nullptr;
  const bool need_gpu = std::getenv("SPILLWAY_NEED_GPU") != nullptr;
  if (need_gpu || (need_all && spillway::test::was_skipped_for_more_than_a_gpu())) {
    std::puts("this run allows no skip");
    return 1;
  }
  const char* code = std::getenv("SPILLWAY_SKIP_CODE");
  // NOLINTEND(concurrency-mt-unsafe)
  return code == nullptr ? 0 : std::stoi(code);
}
