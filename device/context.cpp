// SPDX-License-Identifier: Apache-2.0
#include "device/context.hpp"

namespace spillway {

Result<Context> Context::adopt_current(const Driver& driver) {
  cu::Context handle = nullptr;
  SPW_CU_TRY(driver.cuCtxGetCurrent(&handle));
  if (handle == nullptr) return Status(Code::kNotFound, "no CUDA context is current");
  cu::Device device = 0;
  SPW_CU_TRY(driver.cuCtxGetDevice(&device));
  return Context(driver, handle, device);
}

Result<Context> Context::retain_primary(const Driver& driver, int ordinal) {
  cu::Device device = 0;
  SPW_CU_TRY(driver.cuDeviceGet(&device, ordinal));
  cu::Context handle = nullptr;
  SPW_CU_TRY(driver.cuDevicePrimaryCtxRetain(&handle, device));
  Context context(driver, handle, device);
  context.retained_ = OwnedHandle<End>(driver, device);
  return context;
}

Result<Context> Context::current_or_primary(const Driver& driver, int ordinal) {
  Result<Context> current = adopt_current(driver);
  if (current.ok() || current.status().code() != Code::kNotFound) return current;
  return retain_primary(driver, ordinal);
}

Result<ScopedContext> ScopedContext::enter(const Context& context) {
  SPW_CU_TRY(context.driver().cuCtxPushCurrent(context.handle()));
  return ScopedContext(OwnedHandle<End>(context.driver(), context.handle()));
}

Result<RelaxedCapture> RelaxedCapture::enter(const Driver& driver) {
  cu::StreamCaptureMode mode = cu::StreamCaptureMode::kRelaxed;
  SPW_CU_TRY(driver.cuThreadExchangeStreamCaptureMode(&mode));
  return RelaxedCapture(OwnedHandle<End>(driver, mode));
}

}  // namespace spillway
