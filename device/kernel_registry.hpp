// SPDX-License-Identifier: Apache-2.0
// Kernels by name, with what a device without CUDA cores needs to run and to judge them: a body for
// the host, what it reads and writes, what it costs. The simulated GPU looks a launched function up
// here; a real one never does. Registration is at start-up, before the first look-up of a name.
//
//   void scale(const LaunchShape&, float* x, float by, std::uint64_t count);   // the body
//   void scale_accesses(AccessList& a, const LaunchShape&, float* x, float, std::uint64_t count) {
//     a.updates(x, count * sizeof(float));
//   }
//   KernelCost scale_cost(const LaunchShape&, float*, float, std::uint64_t count);
//   register_kernel(make_kernel<scale, scale_accesses, scale_cost>("scale"));
#pragma once

#include "device/calibration.hpp"
#include "device/driver_types.hpp"
#include "device/launch_shape.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace spillway {

/// How a kernel uses a range. kWrite promises that every byte is written whatever was there; a
/// kernel that leaves some bytes alone declares kUpdate.
enum class AccessMode : std::uint8_t { kRead, kWrite, kUpdate };

struct KernelAccess {
  cu::DevicePtr pointer = 0;
  std::uint64_t bytes = 0;
  AccessMode mode = AccessMode::kRead;
};

/// Filled by a kernel's declaration. Pointers are device addresses (or pinned host memory).
class AccessList {
 public:
  void reads(const void* pointer, std::uint64_t bytes) { add(pointer, bytes, AccessMode::kRead); }
  void writes(const void* pointer, std::uint64_t bytes) { add(pointer, bytes, AccessMode::kWrite); }
  void updates(const void* pointer, std::uint64_t bytes) {
    add(pointer, bytes, AccessMode::kUpdate);
  }

  void clear() { list_.clear(); }
  [[nodiscard]] std::span<const KernelAccess> all() const { return list_; }

 private:
  void add(const void* pointer, std::uint64_t bytes, AccessMode mode) {
    if (bytes != 0) list_.push_back({reinterpret_cast<std::uintptr_t>(pointer), bytes, mode});
  }
  std::vector<KernelAccess> list_;
};

/// For the timed model: it takes the longer of arithmetic and memory traffic, or fixed_ns if set.
struct KernelCost {
  double flops = 0;
  std::uint64_t memory_bytes = 0;
  std::int64_t fixed_ns = 0;
  MathMode math = MathMode::kFp32;  // whose rate the arithmetic runs at
};

/// Where the body finds the bytes behind a device address.
class PointerResolver {
 public:
  virtual void* host_address(const void* device_address) const = 0;

 protected:
  ~PointerResolver() = default;
};

struct KernelSpec {
  const char* name = "";
  std::span<const std::uint32_t> parameter_bytes;  // size of each parameter, in order
  void (*body)(const LaunchShape&, const void* const* parameters, const PointerResolver&) = nullptr;
  void (*accesses)(AccessList&, const LaunchShape&, const void* const* parameters) = nullptr;
  KernelCost (*cost)(const LaunchShape&, const void* const* parameters) = nullptr;
};

/// Adds or replaces the kernel of that name. The name must outlive the program. Not thread-safe
/// against look-ups.
void register_kernel(const KernelSpec& spec);

/// Null when there is none. The result stays valid.
const KernelSpec* find_kernel(const char* name);

/// Turns three typed functions into a KernelSpec: each takes the kernel's own parameters, pointers
/// as pointers; the body sees them as addresses it can use.
template <auto kBody, auto kAccesses, auto kCost>
struct KernelMaker;

template <typename... P,
          void (*kBody)(const LaunchShape&, P...),
          void (*kAccesses)(AccessList&, const LaunchShape&, P...),
          KernelCost (*kCost)(const LaunchShape&, P...)>
struct KernelMaker<kBody, kAccesses, kCost> {
  // NOLINTNEXTLINE(bugprone-sizeof-expression): a parameter may be a pointer
  static constexpr std::array<std::uint32_t, sizeof...(P)> kBytes{sizeof(P)...};

  template <typename T>
  static T value(const void* parameter) {
    return *static_cast<const T*>(parameter);
  }
  template <typename T>
  static T resolved(const void* parameter, const PointerResolver& resolver) {
    if constexpr (std::is_pointer_v<T>)
      return static_cast<T>(resolver.host_address(value<T>(parameter)));
    else
      return value<T>(parameter);
  }
  template <std::size_t... I>
  static void body(const LaunchShape& shape,
                   const void* const* parameters,
                   const PointerResolver& resolver,
                   std::index_sequence<I...>) {
    kBody(shape, resolved<P>(parameters[I], resolver)...);
  }
  template <std::size_t... I>
  static void accesses(AccessList& list,
                       const LaunchShape& shape,
                       const void* const* parameters,
                       std::index_sequence<I...>) {
    kAccesses(list, shape, value<P>(parameters[I])...);
  }
  template <std::size_t... I>
  static KernelCost cost(const LaunchShape& shape,
                         const void* const* parameters,
                         std::index_sequence<I...>) {
    return kCost(shape, value<P>(parameters[I])...);
  }

  static KernelSpec make(const char* name) {
    using All = std::index_sequence_for<P...>;
    KernelSpec spec;
    spec.name = name;
    spec.parameter_bytes = kBytes;
    spec.body = [](const LaunchShape& shape, const void* const* p, const PointerResolver& r) {
      body(shape, p, r, All{});
    };
    spec.accesses = [](AccessList& list, const LaunchShape& shape, const void* const* p) {
      accesses(list, shape, p, All{});
    };
    spec.cost = [](const LaunchShape& shape, const void* const* p) {
      return cost(shape, p, All{});
    };
    return spec;
  }
};

template <auto kBody, auto kAccesses, auto kCost>
KernelSpec make_kernel(const char* name) {
  return KernelMaker<kBody, kAccesses, kCost>::make(name);
}

}  // namespace spillway
