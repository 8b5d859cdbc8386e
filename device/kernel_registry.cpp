// SPDX-License-Identifier: Apache-2.0
#include "device/kernel_registry.hpp"

#include <deque>
#include <string_view>

namespace spillway {
namespace {

// A deque keeps addresses stable; a function-local static exists before any registration at
// start-up.
std::deque<KernelSpec>& kernels() {
  static std::deque<KernelSpec> all;
  return all;
}

}  // namespace

void register_kernel(const KernelSpec& spec) {
  for (KernelSpec& known : kernels()) {
    if (std::string_view(known.name) == spec.name) {
      known = spec;
      return;
    }
  }
  kernels().push_back(spec);
}

const KernelSpec* find_kernel(const char* name) {
  for (const KernelSpec& known : kernels())
    if (std::string_view(known.name) == name) return &known;
  return nullptr;
}

}  // namespace spillway
