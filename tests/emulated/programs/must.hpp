// SPDX-License-Identifier: Apache-2.0
// How the test programs judge: a line on stderr and exit code 1 for the first thing that is not as
// it must be.
#pragma once

#include <cstdio>
#include <unistd.h>

namespace spillway::emulated {

/// Not exit(): destructors and other threads judge too.
[[noreturn]] inline void fail(const char* what, int line, int got) {
  std::fprintf(stderr, "line %d: %s: got %d\n", line, what, got);
  ::_exit(1);
}

}  // namespace spillway::emulated

// The call gives that code.
#define GIVES(expected, call)                                                   \
  do {                                                                          \
    const int spw_got = static_cast<int>(call);                                 \
    if (spw_got != static_cast<int>(expected))                                  \
      ::spillway::emulated::fail(#call " gives " #expected, __LINE__, spw_got); \
  } while (false)
#define MUST(condition)                                                    \
  do {                                                                     \
    if (!(condition)) ::spillway::emulated::fail(#condition, __LINE__, 0); \
  } while (false)
