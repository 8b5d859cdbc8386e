// SPDX-License-Identifier: Apache-2.0
// A program built with -ffast-math, whose start-up code makes the processor flush subnormals: the
// library that it calls must not follow. Compares with the file that it is given.
#include "tests/kernels/same_bits/library_lines.hpp"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

int main(int argc, char** argv) {
  if (argc != 2) return 2;
#if defined(__x86_64__)
  // Some compilers leave it to the program.
  constexpr unsigned int kFlush = 0x8040;
  _mm_setcsr(_mm_getcsr() | kFlush);
#endif
  bool same = true;
  for (const int threads : {1, 2})
    same = spillway::same_bits::agrees_with(spillway::same_bits::library_lines(threads, nullptr),
                                            argv[1]) &&
           same;
#if defined(__x86_64__)
  if ((_mm_getcsr() & kFlush) != kFlush) {
    std::fputs("the library left another floating-point environment behind\n", stderr);
    return 1;
  }
#endif
  return same ? 0 : 1;
}
