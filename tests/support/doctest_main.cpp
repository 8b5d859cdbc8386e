// SPDX-License-Identifier: Apache-2.0
// Entry of every doctest program. A run in which nothing failed and a test reported itself skipped
// exits with $SPILLWAY_SKIP_CODE when ctest set it, so that ctest counts the test as skipped and
// not as passed.
#define DOCTEST_CONFIG_IMPLEMENT
#include "tests/support/skip.hpp"

#include <doctest/doctest.h>

#include <cstdlib>

int main(int argc, char** argv) {
  doctest::Context context(argc, argv);
  const int status = context.run();
  if (context.shouldExit() || status != 0) return status;
  const char* code = std::getenv("SPILLWAY_SKIP_CODE");
  if (code != nullptr && spillway::test::was_skipped()) return std::atoi(code);
  return status;
}
