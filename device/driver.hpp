// SPDX-License-Identifier: Apache-2.0
// The seam: the CUDA driver entry points that spillway uses, as one struct of function pointers
// with the driver's signatures, preconditions and error codes. device/cuda fills it from libcuda,
// device/sim with a simulated GPU; nothing above device/ knows which. Members carry the driver's
// names without version suffix; cuda.h defines macros of these names, so include it first if at
// all.
#pragma once

#include "device/driver_types.hpp"

#include <cstddef>

namespace spillway {

// X(member, exported symbol, first CUDA version (major * 1000 + minor * 10), parameters), in two
// groups: those without a stream, and those with one, given or implied. The latter exist a second
// time for per-thread default streams (suffix _ptsz, or _ptds where there is no stream parameter).
#define SPW_DRIVER_PLAIN(X)                                                                        \
  X(cuInit, cuInit, 2000, (unsigned int flags))                                                    \
  X(cuDriverGetVersion, cuDriverGetVersion, 2020, (int* version))                                  \
  X(cuDeviceGet, cuDeviceGet, 2000, (cu::Device * device, int ordinal))                            \
  X(cuDeviceGetCount, cuDeviceGetCount, 2000, (int* count))                                        \
  X(cuDeviceGetName, cuDeviceGetName, 2000, (char* name, int name_bytes, cu::Device device))       \
  X(cuDeviceGetAttribute,                                                                          \
    cuDeviceGetAttribute,                                                                          \
    2000,                                                                                          \
    (int* value, cu::DeviceAttribute attribute, cu::Device device))                                \
  X(cuDeviceTotalMem, cuDeviceTotalMem_v2, 3020, (std::size_t * bytes, cu::Device device))         \
  X(cuDeviceGetUuid, cuDeviceGetUuid_v2, 11040, (cu::Uuid * uuid, cu::Device device))              \
  X(cuDeviceGetPCIBusId, cuDeviceGetPCIBusId, 4010, (char* id, int id_bytes, cu::Device device))   \
  X(cuDeviceCanAccessPeer,                                                                         \
    cuDeviceCanAccessPeer,                                                                         \
    4000,                                                                                          \
    (int* can_access, cu::Device device, cu::Device peer))                                         \
  X(cuDevicePrimaryCtxRetain,                                                                      \
    cuDevicePrimaryCtxRetain,                                                                      \
    7000,                                                                                          \
    (cu::Context * context, cu::Device device))                                                    \
  X(cuDevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease_v2, 11000, (cu::Device device))           \
  X(cuDevicePrimaryCtxGetState,                                                                    \
    cuDevicePrimaryCtxGetState,                                                                    \
    7000,                                                                                          \
    (cu::Device device, unsigned int* flags, int* active))                                         \
  X(cuDevicePrimaryCtxReset, cuDevicePrimaryCtxReset_v2, 11000, (cu::Device device))               \
  X(cuDeviceGetDefaultMemPool,                                                                     \
    cuDeviceGetDefaultMemPool,                                                                     \
    11020,                                                                                         \
    (cu::MemoryPool * pool, cu::Device device))                                                    \
  X(cuCtxGetCurrent, cuCtxGetCurrent, 4000, (cu::Context * context))                               \
  X(cuCtxSetCurrent, cuCtxSetCurrent, 4000, (cu::Context context))                                 \
  X(cuCtxPushCurrent, cuCtxPushCurrent_v2, 4000, (cu::Context context))                            \
  X(cuCtxPopCurrent, cuCtxPopCurrent_v2, 4000, (cu::Context * context))                            \
  X(cuCtxGetDevice, cuCtxGetDevice, 2000, (cu::Device * device))                                   \
  X(cuCtxSynchronize, cuCtxSynchronize, 2000, (void))                                              \
  X(cuCtxGetStreamPriorityRange, cuCtxGetStreamPriorityRange, 5050, (int* least, int* greatest))   \
  X(cuCtxEnablePeerAccess, cuCtxEnablePeerAccess, 4000, (cu::Context peer, unsigned int flags))    \
  X(cuCtxDisablePeerAccess, cuCtxDisablePeerAccess, 4000, (cu::Context peer))                      \
  X(cuGetErrorName, cuGetErrorName, 6000, (cu::Result error, const char** text))                   \
  X(cuGetErrorString, cuGetErrorString, 6000, (cu::Result error, const char** text))               \
  X(cuGetProcAddress,                                                                              \
    cuGetProcAddress_v2,                                                                           \
    12000,                                                                                         \
    (const char* symbol,                                                                           \
     void** address,                                                                               \
     int version,                                                                                  \
     unsigned long long flags,                                                                     \
     cu::ProcAddressStatus* status))                                                               \
  X(cuMemAlloc, cuMemAlloc_v2, 3020, (cu::DevicePtr * pointer, std::size_t bytes))                 \
  X(cuMemFree, cuMemFree_v2, 3020, (cu::DevicePtr pointer))                                        \
  X(cuMemAllocPitch,                                                                               \
    cuMemAllocPitch_v2,                                                                            \
    3020,                                                                                          \
    (cu::DevicePtr * pointer,                                                                      \
     std::size_t * pitch_bytes,                                                                    \
     std::size_t width_bytes,                                                                      \
     std::size_t height,                                                                           \
     unsigned int element_bytes))                                                                  \
  X(cuMemAllocManaged,                                                                             \
    cuMemAllocManaged,                                                                             \
    6000,                                                                                          \
    (cu::DevicePtr * pointer, std::size_t bytes, unsigned int flags))                              \
  X(cuMemGetInfo, cuMemGetInfo_v2, 3020, (std::size_t * free_bytes, std::size_t * total_bytes))    \
  X(cuMemGetAddressRange,                                                                          \
    cuMemGetAddressRange_v2,                                                                       \
    3020,                                                                                          \
    (cu::DevicePtr * base, std::size_t * bytes, cu::DevicePtr pointer))                            \
  X(cuPointerGetAttribute,                                                                         \
    cuPointerGetAttribute,                                                                         \
    4000,                                                                                          \
    (void* data, cu::PointerAttribute attribute, cu::DevicePtr pointer))                           \
  X(cuPointerGetAttributes,                                                                        \
    cuPointerGetAttributes,                                                                        \
    7000,                                                                                          \
    (unsigned int count, cu::PointerAttribute* attributes, void** data, cu::DevicePtr pointer))    \
  X(cuMemHostAlloc, cuMemHostAlloc, 2020, (void** pointer, std::size_t bytes, unsigned int flags)) \
  X(cuMemFreeHost, cuMemFreeHost, 2000, (void* pointer))                                           \
  X(cuMemHostRegister,                                                                             \
    cuMemHostRegister_v2,                                                                          \
    6050,                                                                                          \
    (void* pointer, std::size_t bytes, unsigned int flags))                                        \
  X(cuMemHostUnregister, cuMemHostUnregister, 4000, (void* pointer))                               \
  X(cuMemHostGetDevicePointer,                                                                     \
    cuMemHostGetDevicePointer_v2,                                                                  \
    3020,                                                                                          \
    (cu::DevicePtr * device_pointer, void* pointer, unsigned int flags))                           \
  X(cuMemHostGetFlags, cuMemHostGetFlags, 2030, (unsigned int* flags, void* pointer))              \
  X(cuMemPoolCreate,                                                                               \
    cuMemPoolCreate,                                                                               \
    11020,                                                                                         \
    (cu::MemoryPool * pool, const cu::MemPoolProps* props))                                        \
  X(cuMemPoolDestroy, cuMemPoolDestroy, 11020, (cu::MemoryPool pool))                              \
  X(cuMemPoolSetAttribute,                                                                         \
    cuMemPoolSetAttribute,                                                                         \
    11020,                                                                                         \
    (cu::MemoryPool pool, cu::MemPoolAttribute attribute, void* value))                            \
  X(cuMemPoolGetAttribute,                                                                         \
    cuMemPoolGetAttribute,                                                                         \
    11020,                                                                                         \
    (cu::MemoryPool pool, cu::MemPoolAttribute attribute, void* value))                            \
  X(cuMemPoolTrimTo, cuMemPoolTrimTo, 11020, (cu::MemoryPool pool, std::size_t bytes_to_keep))     \
  X(cuMemGetAllocationGranularity,                                                                 \
    cuMemGetAllocationGranularity,                                                                 \
    10020,                                                                                         \
    (std::size_t * bytes, const cu::AllocationProp* prop, cu::Granularity option))                 \
  X(cuMemAddressReserve,                                                                           \
    cuMemAddressReserve,                                                                           \
    10020,                                                                                         \
    (cu::DevicePtr * pointer,                                                                      \
     std::size_t bytes,                                                                            \
     std::size_t alignment_bytes,                                                                  \
     cu::DevicePtr hint,                                                                           \
     unsigned long long flags))                                                                    \
  X(cuMemAddressFree, cuMemAddressFree, 10020, (cu::DevicePtr pointer, std::size_t bytes))         \
  X(cuMemCreate,                                                                                   \
    cuMemCreate,                                                                                   \
    10020,                                                                                         \
    (cu::AllocationHandle * handle,                                                                \
     std::size_t bytes,                                                                            \
     const cu::AllocationProp* prop,                                                               \
     unsigned long long flags))                                                                    \
  X(cuMemRelease, cuMemRelease, 10020, (cu::AllocationHandle handle))                              \
  X(cuMemMap,                                                                                      \
    cuMemMap,                                                                                      \
    10020,                                                                                         \
    (cu::DevicePtr pointer,                                                                        \
     std::size_t bytes,                                                                            \
     std::size_t offset_bytes,                                                                     \
     cu::AllocationHandle handle,                                                                  \
     unsigned long long flags))                                                                    \
  X(cuMemUnmap, cuMemUnmap, 10020, (cu::DevicePtr pointer, std::size_t bytes))                     \
  X(cuMemSetAccess,                                                                                \
    cuMemSetAccess,                                                                                \
    10020,                                                                                         \
    (cu::DevicePtr pointer,                                                                        \
     std::size_t bytes,                                                                            \
     const cu::AccessDesc* descriptions,                                                           \
     std::size_t count))                                                                           \
  X(cuMemGetAccess,                                                                                \
    cuMemGetAccess,                                                                                \
    10020,                                                                                         \
    (unsigned long long* flags, const cu::Location* location, cu::DevicePtr pointer))              \
  X(cuMemRetainAllocationHandle,                                                                   \
    cuMemRetainAllocationHandle,                                                                   \
    11000,                                                                                         \
    (cu::AllocationHandle * handle, void* address))                                                \
  X(cuMemGetAllocationPropertiesFromHandle,                                                        \
    cuMemGetAllocationPropertiesFromHandle,                                                        \
    10020,                                                                                         \
    (cu::AllocationProp * prop, cu::AllocationHandle handle))                                      \
  X(cuMemExportToShareableHandle,                                                                  \
    cuMemExportToShareableHandle,                                                                  \
    10020,                                                                                         \
    (void* shareable, cu::AllocationHandle handle, cu::HandleType type, unsigned long long flags)) \
  X(cuMemImportFromShareableHandle,                                                                \
    cuMemImportFromShareableHandle,                                                                \
    10020,                                                                                         \
    (cu::AllocationHandle * handle, void* shareable, cu::HandleType type))                         \
  X(cuIpcGetMemHandle,                                                                             \
    cuIpcGetMemHandle,                                                                             \
    4010,                                                                                          \
    (cu::IpcMemHandle * handle, cu::DevicePtr pointer))                                            \
  X(cuIpcOpenMemHandle,                                                                            \
    cuIpcOpenMemHandle_v2,                                                                         \
    11000,                                                                                         \
    (cu::DevicePtr * pointer, cu::IpcMemHandle handle, unsigned int flags))                        \
  X(cuIpcCloseMemHandle, cuIpcCloseMemHandle, 4010, (cu::DevicePtr pointer))                       \
  X(cuStreamCreate, cuStreamCreate, 2000, (cu::Stream * stream, unsigned int flags))               \
  X(cuStreamCreateWithPriority,                                                                    \
    cuStreamCreateWithPriority,                                                                    \
    5050,                                                                                          \
    (cu::Stream * stream, unsigned int flags, int priority))                                       \
  X(cuStreamDestroy, cuStreamDestroy_v2, 4000, (cu::Stream stream))                                \
  X(cuThreadExchangeStreamCaptureMode,                                                             \
    cuThreadExchangeStreamCaptureMode,                                                             \
    10010,                                                                                         \
    (cu::StreamCaptureMode * mode))                                                                \
  X(cuEventCreate, cuEventCreate, 2000, (cu::Event * event, unsigned int flags))                   \
  X(cuEventDestroy, cuEventDestroy_v2, 4000, (cu::Event event))                                    \
  X(cuEventQuery, cuEventQuery, 2000, (cu::Event event))                                           \
  X(cuEventSynchronize, cuEventSynchronize, 2000, (cu::Event event))                               \
  X(cuEventElapsedTime,                                                                            \
    cuEventElapsedTime,                                                                            \
    2000,                                                                                          \
    (float* milliseconds, cu::Event start, cu::Event end))                                         \
  X(cuModuleLoadData, cuModuleLoadData, 2000, (cu::Module * module, const void* image))            \
  X(cuModuleUnload, cuModuleUnload, 2000, (cu::Module module))                                     \
  X(cuModuleGetFunction,                                                                           \
    cuModuleGetFunction,                                                                           \
    2000,                                                                                          \
    (cu::Function * function, cu::Module module, const char* name))                                \
  X(cuFuncSetAttribute,                                                                            \
    cuFuncSetAttribute,                                                                            \
    9000,                                                                                          \
    (cu::Function function, cu::FunctionAttribute attribute, int value))                           \
  X(cuFuncGetAttribute,                                                                            \
    cuFuncGetAttribute,                                                                            \
    2020,                                                                                          \
    (int* value, cu::FunctionAttribute attribute, cu::Function function))                          \
  X(cuLibraryLoadData,                                                                             \
    cuLibraryLoadData,                                                                             \
    12000,                                                                                         \
    (cu::Library * library,                                                                        \
     const void* code,                                                                             \
     int* jit_options,                                                                             \
     void** jit_values,                                                                            \
     unsigned int jit_count,                                                                       \
     int* library_options,                                                                         \
     void** library_values,                                                                        \
     unsigned int library_count))                                                                  \
  X(cuLibraryUnload, cuLibraryUnload, 12000, (cu::Library library))                                \
  X(cuLibraryGetKernel,                                                                            \
    cuLibraryGetKernel,                                                                            \
    12000,                                                                                         \
    (cu::Kernel * kernel, cu::Library library, const char* name))                                  \
  X(cuKernelGetFunction, cuKernelGetFunction, 12000, (cu::Function * function, cu::Kernel kernel)) \
  X(cuOccupancyMaxActiveBlocksPerMultiprocessor,                                                   \
    cuOccupancyMaxActiveBlocksPerMultiprocessor,                                                   \
    6050,                                                                                          \
    (int* blocks, cu::Function function, int block_size, std::size_t shared_bytes))                \
  X(cuGraphInstantiate,                                                                            \
    cuGraphInstantiateWithFlags,                                                                   \
    11040,                                                                                         \
    (cu::GraphExec * exec, cu::Graph graph, unsigned long long flags))                             \
  X(cuGraphDestroy, cuGraphDestroy, 10000, (cu::Graph graph))                                      \
  X(cuGraphExecDestroy, cuGraphExecDestroy, 10000, (cu::GraphExec exec))                           \
  X(cuGraphGetNodes,                                                                               \
    cuGraphGetNodes,                                                                               \
    10000,                                                                                         \
    (cu::Graph graph, cu::GraphNode * nodes, std::size_t * count))

#define SPW_DRIVER_STREAM(X)                                                                      \
  X(cuMemAllocAsync,                                                                              \
    cuMemAllocAsync,                                                                              \
    11020,                                                                                        \
    (cu::DevicePtr * pointer, std::size_t bytes, cu::Stream stream))                              \
  X(cuMemFreeAsync, cuMemFreeAsync, 11020, (cu::DevicePtr pointer, cu::Stream stream))            \
  X(cuMemAllocFromPoolAsync,                                                                      \
    cuMemAllocFromPoolAsync,                                                                      \
    11020,                                                                                        \
    (cu::DevicePtr * pointer, std::size_t bytes, cu::MemoryPool pool, cu::Stream stream))         \
  X(cuMemcpy, cuMemcpy, 4000, (cu::DevicePtr to, cu::DevicePtr from, std::size_t bytes))          \
  X(cuMemcpyAsync,                                                                                \
    cuMemcpyAsync,                                                                                \
    4000,                                                                                         \
    (cu::DevicePtr to, cu::DevicePtr from, std::size_t bytes, cu::Stream stream))                 \
  X(cuMemcpyHtoD, cuMemcpyHtoD_v2, 3020, (cu::DevicePtr to, const void* from, std::size_t bytes)) \
  X(cuMemcpyDtoH, cuMemcpyDtoH_v2, 3020, (void* to, cu::DevicePtr from, std::size_t bytes))       \
  X(cuMemcpyDtoD,                                                                                 \
    cuMemcpyDtoD_v2,                                                                              \
    3020,                                                                                         \
    (cu::DevicePtr to, cu::DevicePtr from, std::size_t bytes))                                    \
  X(cuMemcpyHtoDAsync,                                                                            \
    cuMemcpyHtoDAsync_v2,                                                                         \
    3020,                                                                                         \
    (cu::DevicePtr to, const void* from, std::size_t bytes, cu::Stream stream))                   \
  X(cuMemcpyDtoHAsync,                                                                            \
    cuMemcpyDtoHAsync_v2,                                                                         \
    3020,                                                                                         \
    (void* to, cu::DevicePtr from, std::size_t bytes, cu::Stream stream))                         \
  X(cuMemcpyDtoDAsync,                                                                            \
    cuMemcpyDtoDAsync_v2,                                                                         \
    3020,                                                                                         \
    (cu::DevicePtr to, cu::DevicePtr from, std::size_t bytes, cu::Stream stream))                 \
  X(cuMemcpyPeerAsync,                                                                            \
    cuMemcpyPeerAsync,                                                                            \
    4000,                                                                                         \
    (cu::DevicePtr to,                                                                            \
     cu::Context to_context,                                                                      \
     cu::DevicePtr from,                                                                          \
     cu::Context from_context,                                                                    \
     std::size_t bytes,                                                                           \
     cu::Stream stream))                                                                          \
  X(cuMemsetD8, cuMemsetD8_v2, 3020, (cu::DevicePtr to, unsigned char value, std::size_t count))  \
  X(cuMemsetD32, cuMemsetD32_v2, 3020, (cu::DevicePtr to, unsigned int value, std::size_t count)) \
  X(cuMemsetD8Async,                                                                              \
    cuMemsetD8Async,                                                                              \
    3020,                                                                                         \
    (cu::DevicePtr to, unsigned char value, std::size_t count, cu::Stream stream))                \
  X(cuMemsetD16Async,                                                                             \
    cuMemsetD16Async,                                                                             \
    3020,                                                                                         \
    (cu::DevicePtr to, unsigned short value, std::size_t count, cu::Stream stream))               \
  X(cuMemsetD32Async,                                                                             \
    cuMemsetD32Async,                                                                             \
    3020,                                                                                         \
    (cu::DevicePtr to, unsigned int value, std::size_t count, cu::Stream stream))                 \
  X(cuStreamQuery, cuStreamQuery, 2000, (cu::Stream stream))                                      \
  X(cuStreamSynchronize, cuStreamSynchronize, 2000, (cu::Stream stream))                          \
  X(cuStreamWaitEvent,                                                                            \
    cuStreamWaitEvent,                                                                            \
    3020,                                                                                         \
    (cu::Stream stream, cu::Event event, unsigned int flags))                                     \
  X(cuStreamGetCtx, cuStreamGetCtx, 9020, (cu::Stream stream, cu::Context * context))             \
  X(cuStreamGetFlags, cuStreamGetFlags, 5050, (cu::Stream stream, unsigned int* flags))           \
  X(cuStreamGetPriority, cuStreamGetPriority, 5050, (cu::Stream stream, int* priority))           \
  X(cuStreamGetId, cuStreamGetId, 12000, (cu::Stream stream, unsigned long long* id))             \
  X(cuStreamIsCapturing,                                                                          \
    cuStreamIsCapturing,                                                                          \
    10000,                                                                                        \
    (cu::Stream stream, cu::StreamCaptureStatus * status))                                        \
  X(cuStreamBeginCapture,                                                                         \
    cuStreamBeginCapture_v2,                                                                      \
    10010,                                                                                        \
    (cu::Stream stream, cu::StreamCaptureMode mode))                                              \
  X(cuStreamEndCapture, cuStreamEndCapture, 10000, (cu::Stream stream, cu::Graph * graph))        \
  X(cuStreamGetCaptureInfo,                                                                       \
    cuStreamGetCaptureInfo_v2,                                                                    \
    11030,                                                                                        \
    (cu::Stream stream,                                                                           \
     cu::StreamCaptureStatus * status,                                                            \
     unsigned long long* id,                                                                      \
     cu::Graph* graph,                                                                            \
     const cu::GraphNode** dependencies,                                                          \
     std::size_t* dependency_count))                                                              \
  X(cuEventRecord, cuEventRecord, 2000, (cu::Event event, cu::Stream stream))                     \
  X(cuEventRecordWithFlags,                                                                       \
    cuEventRecordWithFlags,                                                                       \
    11010,                                                                                        \
    (cu::Event event, cu::Stream stream, unsigned int flags))                                     \
  X(cuLaunchHostFunc, cuLaunchHostFunc, 10000, (cu::Stream stream, cu::HostFn fn, void* user))    \
  X(cuLaunchKernel,                                                                               \
    cuLaunchKernel,                                                                               \
    4000,                                                                                         \
    (cu::Function function,                                                                       \
     unsigned int grid_x,                                                                         \
     unsigned int grid_y,                                                                         \
     unsigned int grid_z,                                                                         \
     unsigned int block_x,                                                                        \
     unsigned int block_y,                                                                        \
     unsigned int block_z,                                                                        \
     unsigned int shared_bytes,                                                                   \
     cu::Stream stream,                                                                           \
     void** parameters,                                                                           \
     void** extra))                                                                               \
  X(cuLaunchKernelEx,                                                                             \
    cuLaunchKernelEx,                                                                             \
    11060,                                                                                        \
    (const cu::LaunchConfig* config, cu::Function function, void** parameters, void** extra))     \
  X(cuGraphLaunch, cuGraphLaunch, 10000, (cu::GraphExec exec, cu::Stream stream))                 \
  X(cuStreamWaitValue32,                                                                          \
    cuStreamWaitValue32_v2,                                                                       \
    11070,                                                                                        \
    (cu::Stream stream, cu::DevicePtr address, std::uint32_t value, unsigned int flags))          \
  X(cuStreamWriteValue32,                                                                         \
    cuStreamWriteValue32_v2,                                                                      \
    11070,                                                                                        \
    (cu::Stream stream, cu::DevicePtr address, std::uint32_t value, unsigned int flags))

#define SPW_DRIVER_FUNCTIONS(X) \
  SPW_DRIVER_PLAIN(X)           \
  SPW_DRIVER_STREAM(X)

/// The table. All members are set: a provider that cannot fill one fails to load as a whole, so no
/// caller tests for null. Calls are as thread-safe as the driver's. The struct owns nothing and may
/// be copied; it stays valid as long as its provider (libcuda is never unloaded; a simulator until
/// it is destroyed).
struct Driver {
// NOLINTBEGIN(bugprone-macro-parentheses): a declaration in parentheses is none.
#define SPW_DRIVER_MEMBER(member, symbol, version, parameters) \
  cu::Result(*member) parameters = nullptr;
  SPW_DRIVER_FUNCTIONS(SPW_DRIVER_MEMBER)
#undef SPW_DRIVER_MEMBER  // NOLINTEND(bugprone-macro-parentheses)
};

}  // namespace spillway
