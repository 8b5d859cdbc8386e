// SPDX-License-Identifier: Apache-2.0
#include "device/pinned_buffer.hpp"

namespace spillway {

Result<PinnedBuffer> PinnedBuffer::create(const Driver& driver,
                                          std::size_t bytes,
                                          unsigned int flags) {
  void* pointer = nullptr;
  SPW_CU_TRY(driver.cuMemHostAlloc(&pointer, bytes, flags));
  return PinnedBuffer(OwnedHandle<End>(driver, Memory{pointer, bytes, false}));
}

Result<PinnedBuffer> PinnedBuffer::pin(const Driver& driver,
                                       void* pointer,
                                       std::size_t bytes,
                                       unsigned int flags) {
  SPW_CU_TRY(driver.cuMemHostRegister(pointer, bytes, flags));
  return PinnedBuffer(OwnedHandle<End>(driver, Memory{pointer, bytes, true}));
}

Result<cu::DevicePtr> PinnedBuffer::device_pointer() const {
  cu::DevicePtr pointer = 0;
  SPW_CU_TRY(owned_.driver().cuMemHostGetDevicePointer(&pointer, owned_.get().pointer, 0));
  return pointer;
}

}  // namespace spillway
