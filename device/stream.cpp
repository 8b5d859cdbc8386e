// SPDX-License-Identifier: Apache-2.0
#include "device/stream.hpp"

namespace spillway {

Result<StreamRef> StreamRef::of(const Driver& driver, cu::Stream handle) {
  unsigned long long id = 0;
  SPW_CU_TRY(driver.cuStreamGetId(handle, &id));
  return StreamRef(handle, id);
}

Result<StreamRef> default_stream(const Driver& driver) {
  const cu::Stream none = nullptr;
  return StreamRef::of(driver, none);
}

Result<Stream> Stream::create(const Driver& driver, const StreamOptions& options) {
  cu::Stream handle = nullptr;
  const unsigned int flags =
      options.joins_legacy_stream ? cu::kStreamDefault : cu::kStreamNonBlocking;
  SPW_CU_TRY(driver.cuStreamCreateWithPriority(&handle, flags, options.priority));
  return adopt(driver, handle);
}

Result<Stream> Stream::adopt(const Driver& driver, cu::Stream handle) {
  if (handle == nullptr || handle == cu::stream_legacy() || handle == cu::stream_per_thread())
    return Status(Code::kInvalidArgument, "Stream::adopt: a default stream has no owner");
  OwnedHandle<End> owned(driver, handle);
  SPW_ASSIGN_OR_RETURN(const StreamRef ref, StreamRef::of(driver, handle));
  return Stream(std::move(owned), ref.id());
}

Status synchronize(const Driver& driver, StreamRef stream) {
  SPW_CU_TRY(driver.cuStreamSynchronize(stream.handle()));
  return {};
}

Result<bool> is_done(const Driver& driver, StreamRef stream) {
  const cu::Result result = driver.cuStreamQuery(stream.handle());
  if (result == cu::Result::kNotReady) return false;
  SPW_CU_TRY(result);
  return true;
}

}  // namespace spillway
