// SPDX-License-Identifier: Apache-2.0
// Kernels: a Module is loaded code, a Kernel is one function of it with the types of its
// parameters, so that a launch with other arguments does not compile.
#pragma once

#include "core/status.hpp"
#include "device/driver.hpp"
#include "device/launch_shape.hpp"
#include "device/owned_handle.hpp"
#include "device/stream.hpp"

#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>

namespace spillway {

class Module {
 public:
  /// `image`: PTX text with its terminating zero, a cubin or a fat binary; a simulator takes the
  /// same and knows kernels by name. kUnsupported when nothing in it runs on the device.
  static Result<Module> load(const Driver& driver, const void* image);

  [[nodiscard]] bool empty() const { return owned_.empty(); }
  [[nodiscard]] cu::Module handle() const { return owned_.get(); }
  /// kNotFound when the module has no such function. Valid as long as the module.
  [[nodiscard]] Result<cu::Function> function(const std::string& name) const;
  /// Gives the module up; the caller unloads it.
  [[nodiscard]] cu::Module release() { return owned_.release(); }

 private:
  struct End {
    using Handle = cu::Module;
    static constexpr const char* kCall = "cuModuleUnload(module)";
    static cu::Result end(const Driver& driver, Handle handle) {
      return driver.cuModuleUnload(handle);
    }
  };
  explicit Module(OwnedHandle<End> owned) : owned_(std::move(owned)) {}

  OwnedHandle<End> owned_;
};

/// Owns nothing; valid as long as its module. The parameter types are the caller's word: the driver
/// knows only their bytes.
template <typename... Parameters>
class Kernel {
  static_assert((std::is_trivially_copyable_v<Parameters> && ...), "the driver copies bytes");

 public:
  static Result<Kernel> find(const Driver& driver, const Module& module, const std::string& name) {
    SPW_ASSIGN_OR_RETURN(const cu::Function function, module.function(name));
    return Kernel(driver, function);
  }

  [[nodiscard]] cu::Function function() const { return function_; }

  /// Queues the kernel in `stream`. The arguments are copied before it returns.
  Status launch(StreamRef stream, const LaunchShape& shape, Parameters... parameters) const {
    // One more than needed: an array of none does not exist.
    void* addresses[sizeof...(Parameters) + 1] = {static_cast<void*>(&parameters)..., nullptr};
    SPW_CU_TRY(driver_->cuLaunchKernel(function_,
                                       shape.grid[0],
                                       shape.grid[1],
                                       shape.grid[2],
                                       shape.block[0],
                                       shape.block[1],
                                       shape.block[2],
                                       shape.shared_bytes,
                                       stream.handle(),
                                       addresses,
                                       nullptr));
    return {};
  }

 private:
  Kernel(const Driver& driver, cu::Function function) : driver_(&driver), function_(function) {}

  const Driver* driver_;
  cu::Function function_;
};

}  // namespace spillway
