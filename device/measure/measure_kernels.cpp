// SPDX-License-Identifier: Apache-2.0
// PTX for compute 6.0 and later, compiled by the driver for the GPU that is there; and what the
// simulated GPU runs and charges instead.
#include "device/measure/measure_kernels.hpp"

#include "device/kernel_registry.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

namespace spillway::measure {
namespace {

// %globaltimer counts nanoseconds in steps of up to 1 us. The arithmetic is 8 chains of 4 fused
// multiply-adds a round, so that the units stay full; its sum is stored, so that none is dropped.
constexpr const char* kPtx = R"(.version 6.0
.target sm_60
.address_size 64

.visible .entry spw_measure_nothing()
{
  ret;
}

.visible .entry spw_measure_wait(.param .u64 p_ns)
{
  .reg .u64 %end, %now, %ns;
  .reg .pred %more;
  ld.param.u64 %ns, [p_ns];
  mov.u64 %now, %globaltimer;
  add.u64 %end, %now, %ns;
again:
  mov.u64 %now, %globaltimer;
  setp.lt.u64 %more, %now, %end;
  @%more bra again;
  ret;
}

.visible .entry spw_measure_copy(.param .u64 p_to, .param .u64 p_from, .param .u64 p_pieces)
{
  .reg .u64 %to, %from, %pieces, %i, %offset;
  .reg .u32 %block, %width, %thread, %a, %b, %c, %d;
  .reg .pred %beyond;
  ld.param.u64 %to, [p_to];
  ld.param.u64 %from, [p_from];
  ld.param.u64 %pieces, [p_pieces];
  mov.u32 %block, %ctaid.x;
  mov.u32 %width, %ntid.x;
  mov.u32 %thread, %tid.x;
  cvt.u64.u32 %offset, %thread;
  mad.wide.u32 %i, %block, %width, %offset;
  setp.ge.u64 %beyond, %i, %pieces;
  @%beyond bra done;
  shl.b64 %offset, %i, 4;
  add.u64 %to, %to, %offset;
  add.u64 %from, %from, %offset;
  ld.v4.u32 {%a, %b, %c, %d}, [%from];
  st.v4.u32 [%to], {%a, %b, %c, %d};
done:
  ret;
}

.visible .entry spw_measure_arithmetic(.param .u64 p_out, .param .u32 p_rounds)
{
  .reg .u64 %out, %i, %offset;
  .reg .u32 %block, %width, %thread, %rounds;
  .reg .f32 %x0, %x1, %x2, %x3, %x4, %x5, %x6, %x7, %by, %plus;
  .reg .pred %more;
  ld.param.u64 %out, [p_out];
  ld.param.u32 %rounds, [p_rounds];
  mov.u32 %block, %ctaid.x;
  mov.u32 %width, %ntid.x;
  mov.u32 %thread, %tid.x;
  cvt.u64.u32 %offset, %thread;
  mad.wide.u32 %i, %block, %width, %offset;
  mov.f32 %by, 0f3F7FFFFE;
  mov.f32 %plus, 0f34000000;
  mov.f32 %x0, 0f3F800000;
  mov.f32 %x1, 0f40000000;
  mov.f32 %x2, 0f40400000;
  mov.f32 %x3, 0f40800000;
  mov.f32 %x4, 0f40A00000;
  mov.f32 %x5, 0f40C00000;
  mov.f32 %x6, 0f40E00000;
  mov.f32 %x7, 0f41000000;
again:
  SPW_CHAINS
  SPW_CHAINS
  SPW_CHAINS
  SPW_CHAINS
  sub.u32 %rounds, %rounds, 1;
  setp.ne.u32 %more, %rounds, 0;
  @%more bra again;
  add.f32 %x0, %x0, %x1;
  add.f32 %x2, %x2, %x3;
  add.f32 %x4, %x4, %x5;
  add.f32 %x6, %x6, %x7;
  add.f32 %x0, %x0, %x2;
  add.f32 %x4, %x4, %x6;
  add.f32 %x0, %x0, %x4;
  shl.b64 %offset, %i, 2;
  add.u64 %out, %out, %offset;
  st.global.f32 [%out], %x0;
  ret;
}
)";

constexpr int kChains = 8;
constexpr int kStepsPerRound = 4;
static_assert(kFlopsPerRound == std::uint64_t{2} * kChains * kStepsPerRound);

// What the simulated GPU runs. The waiting kernel only costs time.

void nothing_body(const LaunchShape& /*shape*/) {}
void nothing_accesses(AccessList& /*list*/, const LaunchShape& /*shape*/) {}
KernelCost nothing_cost(const LaunchShape& /*shape*/) { return {}; }

void wait_body(const LaunchShape& /*shape*/, std::uint64_t /*ns*/) {}
void wait_accesses(AccessList& /*list*/, const LaunchShape& /*shape*/, std::uint64_t /*ns*/) {}
KernelCost wait_cost(const LaunchShape& /*shape*/, std::uint64_t ns) {
  KernelCost cost;
  cost.fixed_ns = static_cast<std::int64_t>(ns);
  return cost;
}

std::uint64_t copied_bytes(const LaunchShape& shape, std::uint64_t pieces) {
  return std::min(shape.threads(), pieces) * 16;
}
void copy_body(const LaunchShape& shape, void* to, const void* from, std::uint64_t pieces) {
  std::memmove(to, from, copied_bytes(shape, pieces));
}
void copy_accesses(
    AccessList& list, const LaunchShape& shape, void* to, const void* from, std::uint64_t pieces) {
  list.reads(from, copied_bytes(shape, pieces));
  list.writes(to, copied_bytes(shape, pieces));
}
KernelCost copy_cost(const LaunchShape& shape, void*, const void*, std::uint64_t pieces) {
  KernelCost cost;
  cost.memory_bytes = 2 * copied_bytes(shape, pieces);
  return cost;
}

void arithmetic_body(const LaunchShape& shape, float* out, std::uint32_t rounds) {
  float x[kChains];
  for (int i = 0; i < kChains; ++i) x[i] = static_cast<float>(i + 1);
  for (std::uint64_t step = 0; step < std::uint64_t{rounds} * kStepsPerRound; ++step) {
    for (float& one : x) one = std::fma(one, 0x1.fffffcp-1f, 0x1p-23f);
  }
  const float sum = ((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + (x[6] + x[7]));
  for (std::uint64_t i = 0; i < shape.threads(); ++i) out[i] = sum;
}
void arithmetic_accesses(AccessList& list, const LaunchShape& shape, float* out, std::uint32_t) {
  list.writes(out, shape.threads() * sizeof(float));
}
KernelCost arithmetic_cost(const LaunchShape& shape, float*, std::uint32_t rounds) {
  KernelCost cost;
  cost.flops = static_cast<double>(shape.threads()) * static_cast<double>(rounds) *
               static_cast<double>(kFlopsPerRound);
  cost.memory_bytes = shape.threads() * sizeof(float);
  return cost;
}

void register_bodies() {
  register_kernel(make_kernel<nothing_body, nothing_accesses, nothing_cost>("spw_measure_nothing"));
  register_kernel(make_kernel<wait_body, wait_accesses, wait_cost>("spw_measure_wait"));
  register_kernel(make_kernel<copy_body, copy_accesses, copy_cost>("spw_measure_copy"));
  register_kernel(
      make_kernel<arithmetic_body, arithmetic_accesses, arithmetic_cost>("spw_measure_arithmetic"));
}

}  // namespace

Result<MeasureKernels> MeasureKernels::load(const Driver& driver) {
  register_bodies();
  const std::string ptx = measure_ptx();
  SPW_ASSIGN_OR_RETURN(Module module, Module::load(driver, ptx.c_str()));
  SPW_ASSIGN_OR_RETURN(const Kernel<> nothing,
                       Kernel<>::find(driver, module, "spw_measure_nothing"));
  using Wait = Kernel<std::uint64_t>;
  SPW_ASSIGN_OR_RETURN(const Wait wait, Wait::find(driver, module, "spw_measure_wait"));
  using Copy = Kernel<cu::DevicePtr, cu::DevicePtr, std::uint64_t>;
  SPW_ASSIGN_OR_RETURN(const Copy copy, Copy::find(driver, module, "spw_measure_copy"));
  using Arithmetic = Kernel<cu::DevicePtr, std::uint32_t>;
  SPW_ASSIGN_OR_RETURN(const Arithmetic arithmetic,
                       Arithmetic::find(driver, module, "spw_measure_arithmetic"));
  return MeasureKernels{std::move(module), nothing, wait, copy, arithmetic};
}

std::string measure_ptx() {
  std::string chains;
  for (int i = 0; i < kChains; ++i) {
    const std::string x = "%x" + std::to_string(i);
    chains.append("  fma.rn.f32 ").append(x).append(", ").append(x).append(", %by, %plus;\n");
  }
  static constexpr const char* kMark = "  SPW_CHAINS\n";
  std::string text = kPtx;
  for (std::size_t at = text.find(kMark); at != std::string::npos; at = text.find(kMark, at))
    text.replace(at, std::strlen(kMark), chains);
  return text;
}

LaunchShape copy_shape(std::uint64_t bytes) { return shape_for(bytes / 16, kBlockThreads); }

}  // namespace spillway::measure
