// SPDX-License-Identifier: Apache-2.0
// Our spelling of the driver's types against cuda.h, where a toolkit is present: every size,
// offset, number and signature, and that the table's versions exist. cuda.h defines macros of the
// table's member names (cuMemAlloc is cuMemAlloc_v2); so this file names no member of a Driver, and
// pastes names only where the preprocessor does not expand them.
#ifdef SPW_HAVE_CUDA_HEADERS

#include "device/driver.hpp"

#include <cuda.h>
#include <cudaTypedefs.h>

#include <doctest/doctest.h>

#include <cstddef>
#include <type_traits>

namespace spillway {
namespace {

// --- Numbers -------------------------------------------------------------------------------------

#define SPW_SAME_RESULT(constant, number, name)                      \
  static_assert(static_cast<int>(cu::Result::constant) == (number)); \
  static_assert((number) == static_cast<int>(name));
SPW_CU_RESULTS(SPW_SAME_RESULT)
#undef SPW_SAME_RESULT

#define SPW_SAME(ours, theirs) \
  static_assert(static_cast<long long>(cu::ours) == static_cast<long long>(theirs))

SPW_SAME(kStreamDefault, CU_STREAM_DEFAULT);
SPW_SAME(kStreamNonBlocking, CU_STREAM_NON_BLOCKING);
SPW_SAME(kEventDefault, CU_EVENT_DEFAULT);
SPW_SAME(kEventBlockingSync, CU_EVENT_BLOCKING_SYNC);
SPW_SAME(kEventDisableTiming, CU_EVENT_DISABLE_TIMING);
SPW_SAME(kEventInterprocess, CU_EVENT_INTERPROCESS);
SPW_SAME(kEventRecordExternal, CU_EVENT_RECORD_EXTERNAL);
SPW_SAME(kEventWaitExternal, CU_EVENT_WAIT_EXTERNAL);
SPW_SAME(kHostAllocPortable, CU_MEMHOSTALLOC_PORTABLE);
SPW_SAME(kHostAllocDeviceMap, CU_MEMHOSTALLOC_DEVICEMAP);
SPW_SAME(kHostAllocWriteCombined, CU_MEMHOSTALLOC_WRITECOMBINED);
SPW_SAME(kHostRegisterPortable, CU_MEMHOSTREGISTER_PORTABLE);
SPW_SAME(kHostRegisterDeviceMap, CU_MEMHOSTREGISTER_DEVICEMAP);
SPW_SAME(kHostRegisterIoMemory, CU_MEMHOSTREGISTER_IOMEMORY);
SPW_SAME(kHostRegisterReadOnly, CU_MEMHOSTREGISTER_READ_ONLY);
SPW_SAME(kAttachGlobal, CU_MEM_ATTACH_GLOBAL);
SPW_SAME(kAttachHost, CU_MEM_ATTACH_HOST);
SPW_SAME(kAttachSingle, CU_MEM_ATTACH_SINGLE);
SPW_SAME(kWaitValueGeq, CU_STREAM_WAIT_VALUE_GEQ);
SPW_SAME(kWaitValueEq, CU_STREAM_WAIT_VALUE_EQ);
SPW_SAME(kWriteValueDefault, CU_STREAM_WRITE_VALUE_DEFAULT);
SPW_SAME(kIpcLazyEnablePeerAccess, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
SPW_SAME(kProcAddressDefault, CU_GET_PROC_ADDRESS_DEFAULT);
SPW_SAME(kProcAddressLegacyStream, CU_GET_PROC_ADDRESS_LEGACY_STREAM);
SPW_SAME(kProcAddressPerThreadStream, CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM);

SPW_SAME(ProcAddressStatus::kSuccess, CU_GET_PROC_ADDRESS_SUCCESS);
SPW_SAME(ProcAddressStatus::kSymbolNotFound, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
SPW_SAME(ProcAddressStatus::kVersionNotSufficient, CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);

SPW_SAME(DeviceAttribute::kMaxThreadsPerBlock, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
SPW_SAME(DeviceAttribute::kWarpSize, CU_DEVICE_ATTRIBUTE_WARP_SIZE);
SPW_SAME(DeviceAttribute::kClockRate, CU_DEVICE_ATTRIBUTE_CLOCK_RATE);
SPW_SAME(DeviceAttribute::kTextureAlignment, CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT);
SPW_SAME(DeviceAttribute::kMultiprocessorCount, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
SPW_SAME(DeviceAttribute::kIntegrated, CU_DEVICE_ATTRIBUTE_INTEGRATED);
SPW_SAME(DeviceAttribute::kConcurrentKernels, CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS);
SPW_SAME(DeviceAttribute::kPciBusId, CU_DEVICE_ATTRIBUTE_PCI_BUS_ID);
SPW_SAME(DeviceAttribute::kMemoryClockRate, CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE);
SPW_SAME(DeviceAttribute::kL2CacheSize, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
SPW_SAME(DeviceAttribute::kAsyncEngineCount, CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT);
SPW_SAME(DeviceAttribute::kUnifiedAddressing, CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING);
SPW_SAME(DeviceAttribute::kTexturePitchAlignment, CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT);
SPW_SAME(DeviceAttribute::kComputeCapabilityMajor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
SPW_SAME(DeviceAttribute::kComputeCapabilityMinor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
SPW_SAME(DeviceAttribute::kManagedMemory, CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY);
SPW_SAME(DeviceAttribute::kConcurrentManagedAccess, CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS);
SPW_SAME(DeviceAttribute::kCanUseHostPointerForRegisteredMem,
         CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM);
SPW_SAME(DeviceAttribute::kMaxSharedMemoryPerBlockOptin,
         CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
SPW_SAME(DeviceAttribute::kVirtualMemoryManagementSupported,
         CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED);
SPW_SAME(DeviceAttribute::kHandleTypePosixFdSupported,
         CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED);
SPW_SAME(DeviceAttribute::kGpuDirectRdmaWithVmmSupported,
         CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED);
SPW_SAME(DeviceAttribute::kMemoryPoolsSupported, CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED);
SPW_SAME(DeviceAttribute::kHostNumaId, CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID);

SPW_SAME(PointerAttribute::kContext, CU_POINTER_ATTRIBUTE_CONTEXT);
SPW_SAME(PointerAttribute::kMemoryType, CU_POINTER_ATTRIBUTE_MEMORY_TYPE);
SPW_SAME(PointerAttribute::kDevicePointer, CU_POINTER_ATTRIBUTE_DEVICE_POINTER);
SPW_SAME(PointerAttribute::kHostPointer, CU_POINTER_ATTRIBUTE_HOST_POINTER);
SPW_SAME(PointerAttribute::kSyncMemops, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS);
SPW_SAME(PointerAttribute::kBufferId, CU_POINTER_ATTRIBUTE_BUFFER_ID);
SPW_SAME(PointerAttribute::kIsManaged, CU_POINTER_ATTRIBUTE_IS_MANAGED);
SPW_SAME(PointerAttribute::kDeviceOrdinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL);
SPW_SAME(PointerAttribute::kIsLegacyIpcCapable, CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE);
SPW_SAME(PointerAttribute::kRangeStartAddr, CU_POINTER_ATTRIBUTE_RANGE_START_ADDR);
SPW_SAME(PointerAttribute::kRangeSize, CU_POINTER_ATTRIBUTE_RANGE_SIZE);
SPW_SAME(PointerAttribute::kMapped, CU_POINTER_ATTRIBUTE_MAPPED);
SPW_SAME(PointerAttribute::kMempoolHandle, CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE);

SPW_SAME(MemoryType::kHost, CU_MEMORYTYPE_HOST);
SPW_SAME(MemoryType::kDevice, CU_MEMORYTYPE_DEVICE);
SPW_SAME(MemoryType::kUnified, CU_MEMORYTYPE_UNIFIED);
SPW_SAME(StreamCaptureMode::kGlobal, CU_STREAM_CAPTURE_MODE_GLOBAL);
SPW_SAME(StreamCaptureMode::kThreadLocal, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
SPW_SAME(StreamCaptureMode::kRelaxed, CU_STREAM_CAPTURE_MODE_RELAXED);
SPW_SAME(StreamCaptureStatus::kNone, CU_STREAM_CAPTURE_STATUS_NONE);
SPW_SAME(StreamCaptureStatus::kActive, CU_STREAM_CAPTURE_STATUS_ACTIVE);
SPW_SAME(StreamCaptureStatus::kInvalidated, CU_STREAM_CAPTURE_STATUS_INVALIDATED);
SPW_SAME(FunctionAttribute::kNumRegs, CU_FUNC_ATTRIBUTE_NUM_REGS);
SPW_SAME(FunctionAttribute::kMaxDynamicSharedSizeBytes,
         CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);

SPW_SAME(MemPoolAttribute::kReuseFollowEventDependencies,
         CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES);
SPW_SAME(MemPoolAttribute::kReuseAllowOpportunistic, CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC);
SPW_SAME(MemPoolAttribute::kReuseAllowInternalDependencies,
         CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES);
SPW_SAME(MemPoolAttribute::kReleaseThreshold, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD);
SPW_SAME(MemPoolAttribute::kReservedMemCurrent, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT);
SPW_SAME(MemPoolAttribute::kReservedMemHigh, CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH);
SPW_SAME(MemPoolAttribute::kUsedMemCurrent, CU_MEMPOOL_ATTR_USED_MEM_CURRENT);
SPW_SAME(MemPoolAttribute::kUsedMemHigh, CU_MEMPOOL_ATTR_USED_MEM_HIGH);

SPW_SAME(AllocationType::kInvalid, CU_MEM_ALLOCATION_TYPE_INVALID);
SPW_SAME(AllocationType::kPinned, CU_MEM_ALLOCATION_TYPE_PINNED);
SPW_SAME(HandleType::kNone, CU_MEM_HANDLE_TYPE_NONE);
SPW_SAME(HandleType::kPosixFileDescriptor, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
SPW_SAME(HandleType::kFabric, CU_MEM_HANDLE_TYPE_FABRIC);
SPW_SAME(LocationType::kInvalid, CU_MEM_LOCATION_TYPE_INVALID);
SPW_SAME(LocationType::kDevice, CU_MEM_LOCATION_TYPE_DEVICE);
SPW_SAME(LocationType::kHost, CU_MEM_LOCATION_TYPE_HOST);
SPW_SAME(LocationType::kHostNuma, CU_MEM_LOCATION_TYPE_HOST_NUMA);
SPW_SAME(AccessFlags::kNone, CU_MEM_ACCESS_FLAGS_PROT_NONE);
SPW_SAME(AccessFlags::kRead, CU_MEM_ACCESS_FLAGS_PROT_READ);
SPW_SAME(AccessFlags::kReadWrite, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
SPW_SAME(Granularity::kMinimum, CU_MEM_ALLOC_GRANULARITY_MINIMUM);
SPW_SAME(Granularity::kRecommended, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED);
#undef SPW_SAME

// --- Layouts -------------------------------------------------------------------------------------

template <typename Ours, typename Theirs>
constexpr bool kSameShape = sizeof(Ours) == sizeof(Theirs) && alignof(Ours) == alignof(Theirs) &&
                            std::is_standard_layout_v<Ours>&& std::is_trivially_copyable_v<Ours>;

#define SPW_SAME_FIELD(Ours, ours, Theirs, theirs)                      \
  static_assert(offsetof(cu::Ours, ours) == offsetof(Theirs, theirs) && \
                sizeof(cu::Ours::ours) == sizeof(Theirs::theirs))

static_assert(kSameShape<cu::Location, CUmemLocation>);
SPW_SAME_FIELD(Location, type, CUmemLocation, type);
SPW_SAME_FIELD(Location, id, CUmemLocation, id);

static_assert(kSameShape<cu::AllocationProp, CUmemAllocationProp>);
SPW_SAME_FIELD(AllocationProp, type, CUmemAllocationProp, type);
SPW_SAME_FIELD(AllocationProp, requested_handle_types, CUmemAllocationProp, requestedHandleTypes);
SPW_SAME_FIELD(AllocationProp, location, CUmemAllocationProp, location);
SPW_SAME_FIELD(AllocationProp, win32_handle_meta_data, CUmemAllocationProp, win32HandleMetaData);
SPW_SAME_FIELD(AllocationProp, alloc_flags, CUmemAllocationProp, allocFlags);
SPW_SAME_FIELD(AllocationProp,
               alloc_flags.compression_type,
               CUmemAllocationProp,
               allocFlags.compressionType);
SPW_SAME_FIELD(AllocationProp,
               alloc_flags.gpu_direct_rdma_capable,
               CUmemAllocationProp,
               allocFlags.gpuDirectRDMACapable);
SPW_SAME_FIELD(AllocationProp, alloc_flags.usage, CUmemAllocationProp, allocFlags.usage);
SPW_SAME_FIELD(AllocationProp, alloc_flags.reserved, CUmemAllocationProp, allocFlags.reserved);

static_assert(kSameShape<cu::AccessDesc, CUmemAccessDesc>);
SPW_SAME_FIELD(AccessDesc, location, CUmemAccessDesc, location);
SPW_SAME_FIELD(AccessDesc, flags, CUmemAccessDesc, flags);

static_assert(kSameShape<cu::MemPoolProps, CUmemPoolProps>);
SPW_SAME_FIELD(MemPoolProps, alloc_type, CUmemPoolProps, allocType);
SPW_SAME_FIELD(MemPoolProps, handle_types, CUmemPoolProps, handleTypes);
SPW_SAME_FIELD(MemPoolProps, location, CUmemPoolProps, location);
SPW_SAME_FIELD(MemPoolProps, win32_security_attributes, CUmemPoolProps, win32SecurityAttributes);
SPW_SAME_FIELD(MemPoolProps, max_size, CUmemPoolProps, maxSize);
SPW_SAME_FIELD(MemPoolProps, reserved, CUmemPoolProps, reserved);

// NOLINTBEGIN(bugprone-sizeof-expression): of pointers, and meant so.
static_assert(kSameShape<cu::LaunchConfig, CUlaunchConfig>);
SPW_SAME_FIELD(LaunchConfig, grid_x, CUlaunchConfig, gridDimX);
SPW_SAME_FIELD(LaunchConfig, grid_y, CUlaunchConfig, gridDimY);
SPW_SAME_FIELD(LaunchConfig, grid_z, CUlaunchConfig, gridDimZ);
SPW_SAME_FIELD(LaunchConfig, block_x, CUlaunchConfig, blockDimX);
SPW_SAME_FIELD(LaunchConfig, block_y, CUlaunchConfig, blockDimY);
SPW_SAME_FIELD(LaunchConfig, block_z, CUlaunchConfig, blockDimZ);
SPW_SAME_FIELD(LaunchConfig, shared_bytes, CUlaunchConfig, sharedMemBytes);
SPW_SAME_FIELD(LaunchConfig, stream, CUlaunchConfig, hStream);
SPW_SAME_FIELD(LaunchConfig, attributes, CUlaunchConfig, attrs);
SPW_SAME_FIELD(LaunchConfig, attribute_count, CUlaunchConfig, numAttrs);
// NOLINTEND(bugprone-sizeof-expression)

static_assert(kSameShape<cu::Uuid, CUuuid>);
SPW_SAME_FIELD(Uuid, bytes, CUuuid, bytes);
static_assert(kSameShape<cu::IpcMemHandle, CUipcMemHandle>);
SPW_SAME_FIELD(IpcMemHandle, reserved, CUipcMemHandle, reserved);
#undef SPW_SAME_FIELD

// --- Signatures ----------------------------------------------------------------------------------

/// Our type as cuda.h spells it, through pointers and functions; types that both share stay.
template <typename T>
struct InCudaH {
  using Type = T;
};
template <typename T>
using InCudaHT = typename InCudaH<T>::Type;

template <typename T>
struct InCudaH<const T> {
  using Type = const InCudaHT<T>;
};
template <typename T>
struct InCudaH<T*> {
  using Type = InCudaHT<T>*;
};
template <typename R, typename... Args>
struct InCudaH<R(Args...)> {
  using Type = InCudaHT<R>(InCudaHT<Args>...);
};

// cuda.h calls some 64-bit numbers cuuint64_t, which is another built-in type of the same shape.
static_assert(kSameShape<unsigned long, unsigned long long>);
template <>
struct InCudaH<unsigned long> {
  using Type = unsigned long long;
};

#define SPW_TYPE(ours, theirs)                 \
  static_assert(kSameShape<cu::ours, theirs>); \
  template <>                                  \
  struct InCudaH<cu::ours> {                   \
    using Type = theirs;                       \
  }
SPW_TYPE(Result, CUresult);
SPW_TYPE(ProcAddressStatus, CUdriverProcAddressQueryResult);
SPW_TYPE(DeviceAttribute, CUdevice_attribute);
SPW_TYPE(PointerAttribute, CUpointer_attribute);
SPW_TYPE(StreamCaptureMode, CUstreamCaptureMode);
SPW_TYPE(StreamCaptureStatus, CUstreamCaptureStatus);
SPW_TYPE(FunctionAttribute, CUfunction_attribute);
SPW_TYPE(MemPoolAttribute, CUmemPool_attribute);
SPW_TYPE(HandleType, CUmemAllocationHandleType);
SPW_TYPE(Granularity, CUmemAllocationGranularity_flags);
SPW_TYPE(Location, CUmemLocation);
SPW_TYPE(AllocationProp, CUmemAllocationProp);
SPW_TYPE(AccessDesc, CUmemAccessDesc);
SPW_TYPE(MemPoolProps, CUmemPoolProps);
SPW_TYPE(LaunchConfig, CUlaunchConfig);
SPW_TYPE(Uuid, CUuuid);
SPW_TYPE(IpcMemHandle, CUipcMemHandle);
#undef SPW_TYPE
static_assert(kSameShape<cu::MemoryType, CUmemorytype>);
static_assert(kSameShape<cu::AllocationType, CUmemAllocationType>);
static_assert(kSameShape<cu::LocationType, CUmemLocationType>);
static_assert(kSameShape<cu::AccessFlags, CUmemAccess_flags>);
// The tags are the driver's own, so handles need no translation.
static_assert(std::is_same_v<cu::Context, CUcontext> && std::is_same_v<cu::Stream, CUstream>);
static_assert(std::is_same_v<cu::Event, CUevent> && std::is_same_v<cu::Module, CUmodule>);
static_assert(std::is_same_v<cu::Function, CUfunction> && std::is_same_v<cu::Library, CUlibrary>);
static_assert(std::is_same_v<cu::Kernel, CUkernel> && std::is_same_v<cu::Graph, CUgraph>);
static_assert(std::is_same_v<cu::MemoryPool, CUmemoryPool>);
static_assert(std::is_same_v<cu::GraphExec, CUgraphExec>);
static_assert(std::is_same_v<cu::GraphNode, CUgraphNode>);
static_assert(std::is_same_v<cu::Device, CUdevice> && std::is_same_v<cu::DevicePtr, CUdeviceptr>);
static_assert(std::is_same_v<cu::AllocationHandle, CUmemGenericAllocationHandle>);
static_assert(std::is_same_v<cu::HostFn, CUhostFn>);

// The options of cuLibraryLoadData are never used by us, and stay numbers in the table.
using LibraryLoadData =
    CUresult(CUlibrary*, const void*, int*, void**, unsigned int, int*, void**, unsigned int);
static_assert(sizeof(CUjit_option) == sizeof(int) && sizeof(CUlibraryOption) == sizeof(int));
static_assert(std::is_same_v<PFN_cuLibraryLoadData_v12000,
                             CUresult (*)(CUlibrary*,
                                          const void*,
                                          CUjit_option*,
                                          void**,
                                          unsigned int,
                                          CUlibraryOption*,
                                          void**,
                                          unsigned int)>);
using OursForLibraryLoadData = LibraryLoadData*;
#define PFN_cuLibraryLoadData_v12000 OursForLibraryLoadData
// The driver's look-up knows this one by its long name (device/cuda/load_driver.cpp).
#define PFN_cuGraphInstantiate_v11040 PFN_cuGraphInstantiateWithFlags_v11040

// PFN_<name>_v<version> exists only for versions that introduced an ABI: a wrong version in the
// table does not compile either.
// NOLINTBEGIN(bugprone-macro-parentheses): a parameter list is none in parentheses.
#define SPW_SAME_SIGNATURE(member, symbol, version, parameters)                                \
  static_assert(                                                                               \
      std::is_same_v<InCudaHT<cu::Result(*) parameters>, InCudaHT<PFN_##member##_v##version>>, \
      #symbol);
SPW_DRIVER_FUNCTIONS(SPW_SAME_SIGNATURE)
#undef SPW_SAME_SIGNATURE
// NOLINTEND(bugprone-macro-parentheses)

}  // namespace
}  // namespace spillway

TEST_SUITE("unit") {
  TEST_CASE("the handles of the two default streams are those of cuda.h") {
    CHECK(spillway::cu::stream_legacy() == CU_STREAM_LEGACY);
    CHECK(spillway::cu::stream_per_thread() == CU_STREAM_PER_THREAD);
  }
}

#endif  // SPW_HAVE_CUDA_HEADERS
