// SPDX-License-Identifier: Apache-2.0
// The PTX of the suite's kernels, and that ptxas takes it where a toolkit is present.
#include "tests/device/conformance/kernels.hpp"

#include "tests/support/run_program.hpp"
#include "tests/support/skip.hpp"
#include "tests/support/temp_dir.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace spillway::conformance {
namespace {

// Each loop strides by the whole grid, so any launch shape does all elements.
constexpr const char* kPtx = R"(
.version 6.0
.target sm_50
.address_size 64

.visible .entry spw_conformance_fill(
    .param .u64 p_out, .param .u32 p_value, .param .u64 p_n)
{
  .reg .pred %done;
  .reg .b32 %r<5>;
  .reg .b64 %rd<8>;
  ld.param.u64 %rd0, [p_out];
  ld.param.u32 %r0, [p_value];
  ld.param.u64 %rd1, [p_n];
  mov.u32 %r1, %ctaid.x;
  mov.u32 %r2, %ntid.x;
  mov.u32 %r3, %tid.x;
  mov.u32 %r4, %nctaid.x;
  mul.wide.u32 %rd2, %r1, %r2;
  cvt.u64.u32 %rd3, %r3;
  add.u64 %rd2, %rd2, %rd3;
  mul.wide.u32 %rd4, %r4, %r2;
FILL_NEXT:
  setp.ge.u64 %done, %rd2, %rd1;
  @%done bra FILL_END;
  shl.b64 %rd5, %rd2, 2;
  add.u64 %rd6, %rd0, %rd5;
  st.u32 [%rd6], %r0;
  add.u64 %rd2, %rd2, %rd4;
  bra FILL_NEXT;
FILL_END:
  ret;
}

.visible .entry spw_conformance_copy(
    .param .u64 p_to, .param .u64 p_from, .param .u64 p_n)
{
  .reg .pred %done;
  .reg .b32 %r<5>;
  .reg .b64 %rd<9>;
  ld.param.u64 %rd0, [p_to];
  ld.param.u64 %rd7, [p_from];
  ld.param.u64 %rd1, [p_n];
  mov.u32 %r1, %ctaid.x;
  mov.u32 %r2, %ntid.x;
  mov.u32 %r3, %tid.x;
  mov.u32 %r4, %nctaid.x;
  mul.wide.u32 %rd2, %r1, %r2;
  cvt.u64.u32 %rd3, %r3;
  add.u64 %rd2, %rd2, %rd3;
  mul.wide.u32 %rd4, %r4, %r2;
COPY_NEXT:
  setp.ge.u64 %done, %rd2, %rd1;
  @%done bra COPY_END;
  shl.b64 %rd5, %rd2, 2;
  add.u64 %rd6, %rd7, %rd5;
  ld.u32 %r0, [%rd6];
  add.u64 %rd8, %rd0, %rd5;
  st.u32 [%rd8], %r0;
  add.u64 %rd2, %rd2, %rd4;
  bra COPY_NEXT;
COPY_END:
  ret;
}

.visible .entry spw_conformance_increment(
    .param .u64 p_data, .param .u64 p_n)
{
  .reg .pred %done;
  .reg .b32 %r<5>;
  .reg .b64 %rd<7>;
  ld.param.u64 %rd0, [p_data];
  ld.param.u64 %rd1, [p_n];
  mov.u32 %r1, %ctaid.x;
  mov.u32 %r2, %ntid.x;
  mov.u32 %r3, %tid.x;
  mov.u32 %r4, %nctaid.x;
  mul.wide.u32 %rd2, %r1, %r2;
  cvt.u64.u32 %rd3, %r3;
  add.u64 %rd2, %rd2, %rd3;
  mul.wide.u32 %rd4, %r4, %r2;
INCREMENT_NEXT:
  setp.ge.u64 %done, %rd2, %rd1;
  @%done bra INCREMENT_END;
  shl.b64 %rd5, %rd2, 2;
  add.u64 %rd6, %rd0, %rd5;
  ld.u32 %r0, [%rd6];
  add.u32 %r0, %r0, 1;
  st.u32 [%rd6], %r0;
  add.u64 %rd2, %rd2, %rd4;
  bra INCREMENT_NEXT;
INCREMENT_END:
  ret;
}

.visible .entry spw_conformance_spin(
    .param .u64 p_cycles)
{
  .reg .pred %more;
  .reg .b64 %rd<4>;
  ld.param.u64 %rd0, [p_cycles];
  mov.u64 %rd1, %clock64;
SPIN_NEXT:
  mov.u64 %rd2, %clock64;
  sub.u64 %rd3, %rd2, %rd1;
  setp.lt.u64 %more, %rd3, %rd0;
  @%more bra SPIN_NEXT;
  ret;
}
)";

}  // namespace

const char* kernels_ptx() { return kPtx; }

}  // namespace spillway::conformance

TEST_SUITE("unit") {
  TEST_CASE("the PTX of the conformance kernels has every kernel, and ptxas takes it") {
    namespace conformance = spillway::conformance;
    const std::string ptx = conformance::kernels_ptx();
    for (const char* name : {conformance::kFillName,
                             conformance::kCopyName,
                             conformance::kIncrementName,
                             conformance::kSpinName})
      CHECK(ptx.find(std::string(".entry ") + name + "(") != std::string::npos);
    const char* ptxas = "/usr/local/cuda/bin/ptxas";
    if (!std::filesystem::exists(ptxas)) {
      spillway::test::report_skipped(ptxas);
      return;
    }
    const spillway::test::TempDir dir;
    const std::string source = (dir.path() / "kernels.ptx").string();
    std::ofstream(source) << ptx;
    for (const char* arch : {"sm_80", "sm_90", "sm_100"}) {
      CAPTURE(arch);
      const auto run = spillway::test::run_program(
          {ptxas, std::string("-arch=") + arch, source, "-o", (dir.path() / "out.cubin").string()});
      CAPTURE(run.err);
      CHECK(run.exit_code == 0);
    }
  }
}
