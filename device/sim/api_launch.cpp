// SPDX-License-Identifier: Apache-2.0
// Modules, libraries, functions and launches. Code images are not read: a function is found by name
// in the kernel registry.
#include "device/sim/api.hpp"
#include "device/sim/call.hpp"

#include <cstring>
#include <string_view>
#include <utility>

namespace spillway::sim {
namespace {

constexpr std::uint64_t kMaxThreadsPerBlock = 1024;

/// PTX text, a fat binary, or a cubin: what the driver would not reject at first sight.
bool looks_like_code(const void* image) {
  const auto* bytes = static_cast<const unsigned char*>(image);
  static constexpr unsigned char kFatbin[4] = {0x50, 0xed, 0x55, 0xba};
  static constexpr unsigned char kElf[4] = {0x7f, 'E', 'L', 'F'};
  if (std::memcmp(bytes, kFatbin, 4) == 0 || std::memcmp(bytes, kElf, 4) == 0) return true;
  // Text: printable from the first byte on, and a .version directive early.
  const std::size_t length = strnlen(static_cast<const char*>(image), 4096);
  return std::string_view(static_cast<const char*>(image), length).find(".version") !=
         std::string_view::npos;
}

// Modules and libraries share a table: both are a licence to look functions up.
cu::Result load(Engine& e, const void* image, void** handle) {
  if (handle == nullptr || image == nullptr) return cu::Result::kInvalidValue;
  if (!looks_like_code(image)) return cu::Result::kInvalidImage;
  const std::uint32_t index = e.modules.create(e.reuse_now());
  *handle = e.modules.handle(index);
  return cu::Result::kSuccess;
}

cu::Result unload(Engine& e, const void* handle, const char* call) {
  std::uint32_t index = 0;
  if (e.modules.find(handle, &index) != HandleTable<ModuleState>::State::kLive) {
    e.misuse(call, "not a loaded module");
    return cu::Result::kInvalidHandle;
  }
  e.modules.destroy(index);
  return cu::Result::kSuccess;
}

cu::Result look_up(Engine& e, const void* module, const char* name, const void** function) {
  std::uint32_t index = 0;
  if (function == nullptr || name == nullptr) return cu::Result::kInvalidValue;
  if (e.modules.find(module, &index) != HandleTable<ModuleState>::State::kLive) {
    e.misuse("cuModuleGetFunction", "not a loaded module");
    return cu::Result::kInvalidHandle;
  }
  const KernelSpec* spec = find_kernel(name);
  if (spec == nullptr) return cu::Result::kNotFound;
  *function = spec;
  return cu::Result::kSuccess;
}

// A function handle is the address of its registry entry, which never moves.
const KernelSpec* spec_of(cu::Function function) {
  return reinterpret_cast<const KernelSpec*>(function);
}

cu::Result launch(Engine& e,
                  cu::Function function,
                  const LaunchShape& shape,
                  cu::Stream handle,
                  void** parameters,
                  void** extra) {
  StreamState* stream = nullptr;
  if (const cu::Result r = e.find_stream(handle, "cuLaunchKernel", &stream);
      r != cu::Result::kSuccess)
    return r;
  if (function == nullptr) return cu::Result::kInvalidHandle;
  if (extra != nullptr) return cu::Result::kNotSupported;  // packed arguments
  const KernelSpec& spec = *spec_of(function);
  std::uint64_t block = 1;
  for (int i = 0; i < 3; ++i) {
    if (shape.grid[i] == 0 || shape.block[i] == 0) return cu::Result::kInvalidValue;
    block *= shape.block[i];
  }
  if (block > kMaxThreadsPerBlock) return cu::Result::kInvalidValue;
  if (parameters == nullptr && !spec.parameter_bytes.empty()) return cu::Result::kInvalidValue;

  Op op;
  op.kind = OpKind::kKernel;
  op.call = spec.name;
  op.kernel = &spec;
  op.shape = shape;
  // Parameters are copied at launch, as the driver does.
  std::size_t bytes = 0;
  for (const std::uint32_t size : spec.parameter_bytes) bytes += parameter_slot_bytes(size);
  op.parameters.resize(bytes);
  std::size_t at = 0;
  for (std::size_t i = 0; parameters != nullptr && i < spec.parameter_bytes.size(); ++i) {
    std::memcpy(op.parameters.data() + at, parameters[i], spec.parameter_bytes[i]);
    at += parameter_slot_bytes(spec.parameter_bytes[i]);
  }
  AccessList list = std::move(e.access_list);
  list.clear();
  spec.accesses(list, shape, parameters);
  op.accesses.assign(list.all().begin(), list.all().end());
  e.access_list = std::move(list);
  if (e.is_timed()) op.cost = spec.cost(shape, parameters);
  return e.submit(*stream, std::move(op));
}

}  // namespace

namespace api {

cu::Result cuModuleLoadData(cu::Module* module, const void* image) {
  const Call call(Api::cuModuleLoadData);
  if (!call.ok()) return call.result();
  return load(call.engine(), image, reinterpret_cast<void**>(module));
}

cu::Result cuModuleUnload(cu::Module module) {
  const Call call(Api::cuModuleUnload);
  if (!call.ok()) return call.result();
  return unload(call.engine(), module, "cuModuleUnload");
}

cu::Result cuModuleGetFunction(cu::Function* function, cu::Module module, const char* name) {
  const Call call(Api::cuModuleGetFunction);
  if (!call.ok()) return call.result();
  const void* found = nullptr;
  const cu::Result r = look_up(call.engine(), module, name, function ? &found : nullptr);
  if (r == cu::Result::kSuccess) *function = static_cast<cu::Function>(const_cast<void*>(found));
  return r;
}

cu::Result cuLibraryLoadData(cu::Library* library,
                             const void* code,
                             int* /*jit_options*/,
                             void** /*jit_values*/,
                             unsigned int /*jit_count*/,
                             int* /*library_options*/,
                             void** /*library_values*/,
                             unsigned int /*library_count*/) {
  const Call call(Api::cuLibraryLoadData);
  if (!call.ok()) return call.result();
  return load(call.engine(), code, reinterpret_cast<void**>(library));
}

cu::Result cuLibraryUnload(cu::Library library) {
  const Call call(Api::cuLibraryUnload);
  if (!call.ok()) return call.result();
  return unload(call.engine(), library, "cuLibraryUnload");
}

cu::Result cuLibraryGetKernel(cu::Kernel* kernel, cu::Library library, const char* name) {
  const Call call(Api::cuLibraryGetKernel);
  if (!call.ok()) return call.result();
  const void* found = nullptr;
  const cu::Result r = look_up(call.engine(), library, name, kernel ? &found : nullptr);
  if (r == cu::Result::kSuccess) *kernel = static_cast<cu::Kernel>(const_cast<void*>(found));
  return r;
}

cu::Result cuKernelGetFunction(cu::Function* function, cu::Kernel kernel) {
  const Call call(Api::cuKernelGetFunction);
  if (!call.ok()) return call.result();
  if (function == nullptr) return cu::Result::kInvalidValue;
  if (kernel == nullptr) return cu::Result::kInvalidHandle;
  *function = reinterpret_cast<cu::Function>(kernel);
  return cu::Result::kSuccess;
}

cu::Result cuFuncSetAttribute(cu::Function function, cu::FunctionAttribute attribute, int value) {
  const Call call(Api::cuFuncSetAttribute);
  if (!call.ok()) return call.result();
  if (function == nullptr) return cu::Result::kInvalidHandle;
  // The only settable one that we name; the registers are the compiler's.
  if (attribute != cu::FunctionAttribute::kMaxDynamicSharedSizeBytes || value < 0 ||
      value > 227 << 10)
    return cu::Result::kInvalidValue;
  return cu::Result::kSuccess;
}

cu::Result cuFuncGetAttribute(int* value, cu::FunctionAttribute attribute, cu::Function function) {
  const Call call(Api::cuFuncGetAttribute);
  if (!call.ok()) return call.result();
  if (value == nullptr) return cu::Result::kInvalidValue;
  if (function == nullptr) return cu::Result::kInvalidHandle;
  switch (attribute) {
    case cu::FunctionAttribute::kNumRegs:
      *value = 32;
      break;
    case cu::FunctionAttribute::kMaxDynamicSharedSizeBytes:
      *value = 227 << 10;
      break;
    default:
      return cu::Result::kInvalidValue;
  }
  return cu::Result::kSuccess;
}

cu::Result cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks,
                                                       cu::Function function,
                                                       int block_size,
                                                       std::size_t /*shared_bytes*/) {
  const Call call(Api::cuOccupancyMaxActiveBlocksPerMultiprocessor);
  if (!call.ok()) return call.result();
  if (blocks == nullptr || function == nullptr || block_size <= 0 ||
      block_size > static_cast<int>(kMaxThreadsPerBlock))
    return cu::Result::kInvalidValue;
  *blocks = 2048 / block_size;
  return cu::Result::kSuccess;
}

cu::Result cuLaunchKernel(cu::Function function,
                          unsigned int grid_x,
                          unsigned int grid_y,
                          unsigned int grid_z,
                          unsigned int block_x,
                          unsigned int block_y,
                          unsigned int block_z,
                          unsigned int shared_bytes,
                          cu::Stream stream,
                          void** parameters,
                          void** extra) {
  const Call call(Api::cuLaunchKernel);
  if (!call.ok()) return call.result();
  const LaunchShape shape{{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes};
  return launch(call.engine(), function, shape, stream, parameters, extra);
}

cu::Result cuLaunchKernelEx(const cu::LaunchConfig* config,
                            cu::Function function,
                            void** parameters,
                            void** extra) {
  const Call call(Api::cuLaunchKernelEx);
  if (!call.ok()) return call.result();
  if (config == nullptr) return cu::Result::kInvalidValue;
  if (config->attribute_count != 0) return cu::Result::kNotSupported;
  const LaunchShape shape{{config->grid_x, config->grid_y, config->grid_z},
                          {config->block_x, config->block_y, config->block_z},
                          config->shared_bytes};
  return launch(call.engine(), function, shape, config->stream, parameters, extra);
}

}  // namespace api
}  // namespace spillway::sim
