// SPDX-License-Identifier: Apache-2.0
// The library gives the bits of same_bits/golden.txt with every instruction set that the processor
// has, with 1 and 2 threads, and whatever floating-point environment its caller set up.
#include "tests/kernels/same_bits/library_lines.hpp"
#include "tests/support/paths.hpp"

#include <doctest/doctest.h>

#include <cfenv>
#include <string>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace spillway {
namespace {

std::string golden_path() {
  return (test::source_dir() / "tests/kernels/same_bits/golden.txt").string();
}

/// Another rounding mode, and subnormals flushed on input and output, while it lives.
class OddFloatEnvironment {
 public:
  explicit OddFloatEnvironment(int rounding) {
    std::fegetenv(&saved_);
    std::fesetround(rounding);
#if defined(__x86_64__)
    _mm_setcsr(_mm_getcsr() | 0x8040);
#endif
  }
  OddFloatEnvironment(const OddFloatEnvironment&) = delete;
  OddFloatEnvironment& operator=(const OddFloatEnvironment&) = delete;
  ~OddFloatEnvironment() { std::fesetenv(&saved_); }

 private:
  std::fenv_t saved_{};
};

}  // namespace

TEST_SUITE("kernels") {
  TEST_CASE("every instruction set gives the same bits with 1 and 2 threads") {
    for (int isa = 0; isa < kHostIsaCount; ++isa) {
      const HostKernels* kernels = host_kernels(static_cast<HostIsa>(isa));
      if (kernels == nullptr) continue;
      CAPTURE(std::string(name_of(static_cast<HostIsa>(isa))));
      for (const int threads : {1, 2})
        CHECK(same_bits::agrees_with(same_bits::library_lines(threads, kernels),
                                     golden_path().c_str()));
    }
  }

  TEST_CASE("bits do not follow the caller's rounding mode nor its flushing of subnormals") {
    for (const int rounding : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
      CAPTURE(rounding);
      for (const int threads : {1, 2}) {
        const OddFloatEnvironment environment(rounding);
        CHECK(same_bits::agrees_with(same_bits::library_lines(threads, nullptr),
                                     golden_path().c_str()));
        CHECK(std::fegetround() == rounding);
      }
    }
  }
}

}  // namespace spillway
