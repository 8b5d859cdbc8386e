// SPDX-License-Identifier: Apache-2.0
// Page-locked host memory, which copy engines reach at full speed: allocated by the driver, or the
// caller's own pages pinned for as long as the buffer lives.
#pragma once

#include "core/status.hpp"
#include "device/driver.hpp"
#include "device/owned_handle.hpp"

#include <cstddef>
#include <utility>

namespace spillway {

/// REQUIRES: when it ends, no copy from or to it is queued or running, and a context of its device
/// is current. The driver may wait for the device then; nothing of ours does.
class PinnedBuffer {
 public:
  /// New memory. kOutOfMemory when the host cannot pin so much.
  static Result<PinnedBuffer> create(const Driver& driver,
                                     std::size_t bytes,
                                     unsigned int flags = cu::kHostAllocPortable);
  /// Pins memory of the caller's, who frees it after this buffer is gone. The pages at both ends
  /// are pinned whole, so two registered buffers must not share one.
  static Result<PinnedBuffer> pin(const Driver& driver,
                                  void* pointer,
                                  std::size_t bytes,
                                  unsigned int flags = cu::kHostRegisterPortable);
  /// Takes memory that is registered already, as release() leaves it; unregistered with this
  /// object.
  static PinnedBuffer adopt_registered(const Driver& driver, void* pointer, std::size_t bytes) {
    return PinnedBuffer(OwnedHandle<End>(driver, Memory{pointer, bytes, true}));
  }

  [[nodiscard]] bool empty() const { return owned_.empty(); }
  [[nodiscard]] void* data() const { return owned_.get().pointer; }
  [[nodiscard]] std::size_t bytes() const { return owned_.get().bytes; }
  /// False when the memory is the caller's.
  [[nodiscard]] bool owns_memory() const { return !owned_.get().registered; }
  /// Address under which kernels reach it.
  [[nodiscard]] Result<cu::DevicePtr> device_pointer() const;
  /// Gives the memory up, still pinned; the caller frees or unregisters it.
  [[nodiscard]] void* release() { return owned_.release().pointer; }

 private:
  struct Memory {
    void* pointer = nullptr;
    std::size_t bytes = 0;
    bool registered = false;
  };
  struct End {
    using Handle = Memory;
    static constexpr const char* kCall = "cuMemFreeHost or cuMemHostUnregister(pointer)";
    static cu::Result end(const Driver& driver, Handle memory) {
      return memory.registered ? driver.cuMemHostUnregister(memory.pointer)
                               : driver.cuMemFreeHost(memory.pointer);
    }
  };
  explicit PinnedBuffer(OwnedHandle<End> owned) : owned_(std::move(owned)) {}

  OwnedHandle<End> owned_;
};

}  // namespace spillway
