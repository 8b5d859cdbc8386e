// SPDX-License-Identifier: Apache-2.0
// Chooses among the compiled copies of the bodies.
#include "kernels/host/host_kernels.hpp"

#include <array>

namespace spillway {

const HostKernels& host_kernels_baseline();
#ifdef SPW_HOST_WIDE
const HostKernels& host_kernels_avx2();
const HostKernels& host_kernels_avx512();
#endif

namespace {

bool processor_has(HostIsa isa) {
#ifdef SPW_HOST_WIDE
  switch (isa) {
    case HostIsa::kBaseline:
      return true;
    case HostIsa::kAvx2:
      return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("bmi2") != 0 &&
             __builtin_cpu_supports("fma") != 0;
    case HostIsa::kAvx512:
      return processor_has(HostIsa::kAvx2) && __builtin_cpu_supports("avx512f") != 0 &&
             __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512cd") != 0 &&
             __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0;
  }
  return false;
#else
  return isa == HostIsa::kBaseline;
#endif
}

}  // namespace

std::string_view name_of(HostIsa isa) {
  constexpr std::array<std::string_view, kHostIsaCount> kNames = {"baseline", "avx2", "avx512"};
  return kNames[static_cast<std::size_t>(isa)];
}

const HostKernel* HostKernels::find(Codec codec, Dtype dtype) const {
  for (const HostKernel& kernel : kernels)
    if (kernel.codec == codec && kernel.dtype == dtype) return &kernel;
  return nullptr;
}

const HostKernels* host_kernels(HostIsa isa) {
  if (!processor_has(isa)) return nullptr;
  switch (isa) {
    case HostIsa::kBaseline:
      return &host_kernels_baseline();
#ifdef SPW_HOST_WIDE
    case HostIsa::kAvx2:
      return &host_kernels_avx2();
    case HostIsa::kAvx512:
      return &host_kernels_avx512();
#else
    default:
      break;
#endif
  }
  return nullptr;
}

HostIsa best_host_isa() {
  for (const HostIsa isa : {HostIsa::kAvx512, HostIsa::kAvx2})
    if (processor_has(isa)) return isa;
  return HostIsa::kBaseline;
}

const HostKernels& best_host_kernels() {
  static const HostKernels* const kBest = host_kernels(best_host_isa());
  return *kBest;
}

}  // namespace spillway
