// SPDX-License-Identifier: Apache-2.0
#include "device/event.hpp"

namespace spillway {

Result<Event> Event::create(const Driver& driver, unsigned int flags) {
  cu::Event handle = nullptr;
  SPW_CU_TRY(driver.cuEventCreate(&handle, flags));
  return Event::adopt(driver, handle);
}

Status Event::record(StreamRef stream) {
  SPW_CU_TRY(owned_.driver().cuEventRecord(owned_.get(), stream.handle()));
  return {};
}

Status Event::make_wait(StreamRef stream) const {
  SPW_CU_TRY(owned_.driver().cuStreamWaitEvent(stream.handle(), owned_.get(), 0));
  return {};
}

Status Event::synchronize() const {
  SPW_CU_TRY(owned_.driver().cuEventSynchronize(owned_.get()));
  return {};
}

Result<bool> Event::is_done() const {
  const cu::Result result = owned_.driver().cuEventQuery(owned_.get());
  if (result == cu::Result::kNotReady) return false;
  SPW_CU_TRY(result);
  return true;
}

}  // namespace spillway
