// SPDX-License-Identifier: Apache-2.0
// Stream-ordered allocation and memory pools.
#include "device/sim/api.hpp"
#include "device/sim/call.hpp"

namespace spillway::sim {
namespace {

cu::Result allocate(Engine& e,
                    cu::DevicePtr* pointer,
                    std::size_t bytes,
                    const cu::MemoryPool* pool_handle,
                    cu::Stream handle,
                    const char* call) {
  StreamState* stream = nullptr;
  // The driver's text does not say what becomes of 0 bytes; it names this error for cuMemAlloc.
  if (pointer == nullptr || bytes == 0) return cu::Result::kInvalidValue;
  if (const cu::Result r = e.find_stream(handle, call, &stream); r != cu::Result::kSuccess)
    return r;
  if (const cu::Result r = e.captures.check_stream_memory(e, *stream, call);
      r != cu::Result::kSuccess)
    return r;
  std::uint32_t pool = 0;
  if (pool_handle != nullptr) {
    pool = e.pools.find(e, *pool_handle, call);
    if (pool == Pools::kNone) return cu::Result::kInvalidValue;
  } else {
    pool = e.pools.default_pool(e, e.device_of(*stream));
  }
  std::uint64_t address = 0;
  const cu::Result result = e.pools.allocate(e, pool, bytes, *stream, &address, call);
  if (result == cu::Result::kSuccess) *pointer = address;
  return result;
}

}  // namespace

namespace api {

cu::Result cuDeviceGetDefaultMemPool(cu::MemoryPool* pool, cu::Device device) {
  const Call call(Api::cuDeviceGetDefaultMemPool);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  if (pool == nullptr) return cu::Result::kInvalidValue;
  if (device < 0 || device >= e.options.devices) return cu::Result::kInvalidDevice;
  *pool = e.pools.handle_of(e.pools.default_pool(e, device));
  return cu::Result::kSuccess;
}

cu::Result cuMemPoolCreate(cu::MemoryPool* pool, const cu::MemPoolProps* props) {
  const Call call(Api::cuMemPoolCreate);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  if (pool == nullptr || props == nullptr || props->alloc_type != cu::AllocationType::kPinned)
    return cu::Result::kInvalidValue;
  if (props->location.type == cu::LocationType::kHost ||
      props->location.type == cu::LocationType::kHostNuma)
    return cu::Result::kNotSupported;
  if (props->location.type != cu::LocationType::kDevice || props->location.id < 0 ||
      props->location.id >= e.options.devices)
    return cu::Result::kInvalidValue;
  // Nothing is shared between processes; the device's attributes say so.
  if (props->handle_types != cu::HandleType::kNone) return cu::Result::kNotSupported;
  *pool = e.pools.handle_of(e.pools.create(e, props->location.id, props->max_size));
  return cu::Result::kSuccess;
}

cu::Result cuMemPoolDestroy(cu::MemoryPool pool) {
  const Call call(Api::cuMemPoolDestroy);
  if (!call.ok()) return call.result();
  return call.engine().pools.destroy(call.engine(), pool);
}

cu::Result cuMemPoolSetAttribute(cu::MemoryPool pool, cu::MemPoolAttribute attribute, void* value) {
  const Call call(Api::cuMemPoolSetAttribute);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  const std::uint32_t index = e.pools.find(e, pool, "cuMemPoolSetAttribute");
  if (index == Pools::kNone || value == nullptr) return cu::Result::kInvalidValue;
  return e.pools.set(index, attribute, value);
}

cu::Result cuMemPoolGetAttribute(cu::MemoryPool pool, cu::MemPoolAttribute attribute, void* value) {
  const Call call(Api::cuMemPoolGetAttribute);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  const std::uint32_t index = e.pools.find(e, pool, "cuMemPoolGetAttribute");
  if (index == Pools::kNone || value == nullptr) return cu::Result::kInvalidValue;
  return e.pools.get(index, attribute, value);
}

cu::Result cuMemPoolTrimTo(cu::MemoryPool pool, std::size_t bytes_to_keep) {
  const Call call(Api::cuMemPoolTrimTo);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  const std::uint32_t index = e.pools.find(e, pool, "cuMemPoolTrimTo");
  if (index == Pools::kNone) return cu::Result::kInvalidValue;
  e.pools.trim(e, index, bytes_to_keep);
  return cu::Result::kSuccess;
}

cu::Result cuMemAllocAsync(cu::DevicePtr* pointer, std::size_t bytes, cu::Stream stream) {
  const Call call(Api::cuMemAllocAsync, bytes);
  if (!call.ok()) return call.result();
  return allocate(call.engine(), pointer, bytes, nullptr, stream, "cuMemAllocAsync");
}

cu::Result cuMemAllocFromPoolAsync(cu::DevicePtr* pointer,
                                   std::size_t bytes,
                                   cu::MemoryPool pool,
                                   cu::Stream stream) {
  const Call call(Api::cuMemAllocFromPoolAsync, bytes);
  if (!call.ok()) return call.result();
  return allocate(call.engine(), pointer, bytes, &pool, stream, "cuMemAllocFromPoolAsync");
}

cu::Result cuMemFreeAsync(cu::DevicePtr pointer, cu::Stream handle) {
  const Call call(Api::cuMemFreeAsync);
  if (!call.ok()) return call.result();
  Engine& e = call.engine();
  StreamState* stream = nullptr;
  if (const cu::Result r = e.find_stream(handle, "cuMemFreeAsync", &stream);
      r != cu::Result::kSuccess)
    return r;
  if (const cu::Result r = e.captures.check_stream_memory(e, *stream, "cuMemFreeAsync");
      r != cu::Result::kSuccess)
    return r;
  return e.pools.free(e, pointer, *stream);
}

}  // namespace api
}  // namespace spillway::sim
