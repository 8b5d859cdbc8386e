// SPDX-License-Identifier: Apache-2.0
// Copies and fills. When a call returns before its bytes have moved follows the driver's text on
// API synchronisation behaviour; where that says "may", the simulator does what is worse for the
// caller.
#include "device/sim/api.hpp"
#include "device/sim/call.hpp"

#include <cstring>
#include <limits>
#include <utility>

namespace spillway::sim {
namespace {

bool is_host(Place place) { return place == Place::kPinned || place == Place::kPageable; }

struct CopyCall {
  const char* name = "";
  cu::DevicePtr to = 0;
  cu::DevicePtr from = 0;
  std::uint64_t bytes = 0;
  bool synchronous = false;
  bool peer = false;
  bool to_must_be_device = false;
  bool from_must_be_device = false;
};

cu::Result copy(Engine& e, cu::Stream handle, const CopyCall& c) {
  StreamState* stream = nullptr;
  if (const cu::Result r = e.find_stream(handle, c.name, &stream); r != cu::Result::kSuccess)
    return r;
  if (c.bytes == 0) return cu::Result::kSuccess;
  if (c.to == 0 || c.from == 0) return cu::Result::kInvalidValue;
  Op op;
  op.kind = OpKind::kCopy;
  op.call = c.name;
  op.bytes = c.bytes;
  op.target = {c.to, e.place_of(c.to)};
  op.source = {c.from, e.place_of(c.from)};
  op.is_peer = c.peer;
  if ((c.to_must_be_device && op.target.place == Place::kPageable) ||
      (c.from_must_be_device && op.source.place == Place::kPageable)) {
    e.misuse(c.name, "a device address was expected; nothing of this driver is there");
    return cu::Result::kInvalidValue;
  }
  const bool host_to_host = is_host(op.target.place) && is_host(op.source.place);
  const bool to_pageable = op.target.place == Place::kPageable;
  const bool from_pageable = op.source.place == Place::kPageable && !host_to_host;
  bool wait_after = host_to_host || to_pageable;
  if (c.synchronous) {
    const bool device_to_device = !is_host(op.target.place) && !is_host(op.source.place);
    wait_after = wait_after || (!device_to_device && !from_pageable);
    if (from_pageable) {
      // The stream is synchronised before the bytes are staged.
      if (const cu::Result r = e.synchronize_stream(*stream, c.name); r != cu::Result::kSuccess)
        return r;
    }
  }
  if (stream->capture != 0) return e.submit(*stream, std::move(op));  // read when the graph runs
  if (from_pageable) {
    // The source is read now; the transfer from the staging buffer may still be under way when the
    // call returns.
    op.source.place = Place::kStaged;
    if (e.has_contents()) {
      op.staged.resize(c.bytes);
      // NOLINTNEXTLINE(performance-no-int-to-ptr): the driver's type for any address
      std::memcpy(op.staged.data(), reinterpret_cast<const void*>(c.from), c.bytes);
    }
  }
  if (const cu::Result r = e.submit(*stream, std::move(op)); r != cu::Result::kSuccess) return r;
  return wait_after ? e.synchronize_stream(*stream, c.name) : cu::Result::kSuccess;
}

cu::Result fill(Engine& e,
                cu::Stream handle,
                const char* name,
                cu::DevicePtr to,
                std::uint32_t value,
                std::uint32_t width,
                std::size_t count,
                bool synchronous) {
  StreamState* stream = nullptr;
  if (const cu::Result r = e.find_stream(handle, name, &stream); r != cu::Result::kSuccess)
    return r;
  if (count == 0) return cu::Result::kSuccess;
  if (to == 0 || to % width != 0 || count > std::numeric_limits<std::uint64_t>::max() / width)
    return cu::Result::kInvalidValue;
  Op op;
  op.kind = OpKind::kFill;
  op.call = name;
  op.target = {to, e.place_of(to)};
  op.bytes = count * width;
  op.value = value;
  op.width = width;
  if (op.target.place == Place::kPageable) {
    e.misuse(name, "a device address was expected; nothing of this driver is there");
    return cu::Result::kInvalidValue;
  }
  const bool pinned = op.target.place == Place::kPinned;
  if (const cu::Result r = e.submit(*stream, std::move(op)); r != cu::Result::kSuccess) return r;
  // A fill is asynchronous to the host unless it goes to pinned host memory.
  return synchronous && pinned ? e.synchronize_stream(*stream, name) : cu::Result::kSuccess;
}

cu::DevicePtr address(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer); }

}  // namespace

namespace api {

cu::Result cuMemcpy(cu::DevicePtr to, cu::DevicePtr from, std::size_t bytes) {
  const Call call(Api::cuMemcpy, bytes);
  if (!call.ok()) return call.result();
  return copy(call.engine(),
              nullptr,
              {.name = "cuMemcpy", .to = to, .from = from, .bytes = bytes, .synchronous = true});
}

cu::Result cuMemcpyAsync(cu::DevicePtr to,
                         cu::DevicePtr from,
                         std::size_t bytes,
                         cu::Stream stream) {
  const Call call(Api::cuMemcpyAsync, bytes);
  if (!call.ok()) return call.result();
  return copy(
      call.engine(), stream, {.name = "cuMemcpyAsync", .to = to, .from = from, .bytes = bytes});
}

cu::Result cuMemcpyHtoD(cu::DevicePtr to, const void* from, std::size_t bytes) {
  const Call call(Api::cuMemcpyHtoD, bytes);
  if (!call.ok()) return call.result();
  return copy(call.engine(),
              nullptr,
              {.name = "cuMemcpyHtoD",
               .to = to,
               .from = address(from),
               .bytes = bytes,
               .synchronous = true,
               .to_must_be_device = true});
}

cu::Result cuMemcpyDtoH(void* to, cu::DevicePtr from, std::size_t bytes) {
  const Call call(Api::cuMemcpyDtoH, bytes);
  if (!call.ok()) return call.result();
  return copy(call.engine(),
              nullptr,
              {.name = "cuMemcpyDtoH",
               .to = address(to),
               .from = from,
               .bytes = bytes,
               .synchronous = true,
               .from_must_be_device = true});
}

cu::Result cuMemcpyDtoD(cu::DevicePtr to, cu::DevicePtr from, std::size_t bytes) {
  const Call call(Api::cuMemcpyDtoD, bytes);
  if (!call.ok()) return call.result();
  return copy(call.engine(),
              nullptr,
              {.name = "cuMemcpyDtoD",
               .to = to,
               .from = from,
               .bytes = bytes,
               .synchronous = true,
               .to_must_be_device = true,
               .from_must_be_device = true});
}

cu::Result cuMemcpyHtoDAsync(cu::DevicePtr to,
                             const void* from,
                             std::size_t bytes,
                             cu::Stream stream) {
  const Call call(Api::cuMemcpyHtoDAsync, bytes);
  if (!call.ok()) return call.result();
  return copy(call.engine(),
              stream,
              {.name = "cuMemcpyHtoDAsync",
               .to = to,
               .from = address(from),
               .bytes = bytes,
               .to_must_be_device = true});
}

cu::Result cuMemcpyDtoHAsync(void* to, cu::DevicePtr from, std::size_t bytes, cu::Stream stream) {
  const Call call(Api::cuMemcpyDtoHAsync, bytes);
  if (!call.ok()) return call.result();
  return copy(call.engine(),
              stream,
              {.name = "cuMemcpyDtoHAsync",
               .to = address(to),
               .from = from,
               .bytes = bytes,
               .from_must_be_device = true});
}

cu::Result cuMemcpyDtoDAsync(cu::DevicePtr to,
                             cu::DevicePtr from,
                             std::size_t bytes,
                             cu::Stream stream) {
  const Call call(Api::cuMemcpyDtoDAsync, bytes);
  if (!call.ok()) return call.result();
  return copy(call.engine(),
              stream,
              {.name = "cuMemcpyDtoDAsync",
               .to = to,
               .from = from,
               .bytes = bytes,
               .to_must_be_device = true,
               .from_must_be_device = true});
}

cu::Result cuMemcpyPeerAsync(cu::DevicePtr to,
                             cu::Context to_context,
                             cu::DevicePtr from,
                             cu::Context from_context,
                             std::size_t bytes,
                             cu::Stream stream) {
  const Call call(Api::cuMemcpyPeerAsync, bytes);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  std::uint32_t index = 0;
  for (cu::Context context : {to_context, from_context})
    if (context == nullptr ||
        e.contexts.find(context, &index) != HandleTable<ContextState>::State::kLive)
      return cu::Result::kInvalidContext;
  return copy(e,
              stream,
              {.name = "cuMemcpyPeerAsync",
               .to = to,
               .from = from,
               .bytes = bytes,
               .peer = true,
               .to_must_be_device = true,
               .from_must_be_device = true});
}

cu::Result cuMemsetD8(cu::DevicePtr to, unsigned char value, std::size_t count) {
  const Call call(Api::cuMemsetD8, count);
  if (!call.ok()) return call.result();
  return fill(call.engine(), nullptr, "cuMemsetD8", to, value, 1, count, true);
}

cu::Result cuMemsetD32(cu::DevicePtr to, unsigned int value, std::size_t count) {
  const Call call(Api::cuMemsetD32, count * 4);
  if (!call.ok()) return call.result();
  return fill(call.engine(), nullptr, "cuMemsetD32", to, value, 4, count, true);
}

cu::Result cuMemsetD8Async(cu::DevicePtr to,
                           unsigned char value,
                           std::size_t count,
                           cu::Stream stream) {
  const Call call(Api::cuMemsetD8Async, count);
  if (!call.ok()) return call.result();
  return fill(call.engine(), stream, "cuMemsetD8Async", to, value, 1, count, false);
}

cu::Result cuMemsetD16Async(cu::DevicePtr to,
                            unsigned short value,
                            std::size_t count,
                            cu::Stream stream) {
  const Call call(Api::cuMemsetD16Async, count * 2);
  if (!call.ok()) return call.result();
  return fill(call.engine(), stream, "cuMemsetD16Async", to, value, 2, count, false);
}

cu::Result cuMemsetD32Async(cu::DevicePtr to,
                            unsigned int value,
                            std::size_t count,
                            cu::Stream stream) {
  const Call call(Api::cuMemsetD32Async, count * 4);
  if (!call.ok()) return call.result();
  return fill(call.engine(), stream, "cuMemsetD32Async", to, value, 4, count, false);
}

}  // namespace api
}  // namespace spillway::sim
