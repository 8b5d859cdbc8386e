// SPDX-License-Identifier: Apache-2.0
// The types of the CUDA driver API that spillway uses, spelled out so that everything above
// compiles without a CUDA toolkit. Same tags, sizes, layouts and numbers as cuda.h (13.0); a test
// compares every one of them with cuda.h where a toolkit is present. Meaning: the CUDA driver API
// documentation.
#pragma once

#include <cstddef>
#include <cstdint>

// The driver's own opaque tags, so that a handle of ours is a handle of cuda.h.
struct CUctx_st;
struct CUevent_st;
struct CUfunc_st;
struct CUgraph_st;
struct CUgraphExec_st;
struct CUgraphNode_st;
struct CUkern_st;
struct CUlib_st;
struct CUmemPoolHandle_st;
struct CUmod_st;
struct CUstream_st;

namespace spillway::cu {

using Device = int;
using DevicePtr = unsigned long long;
using AllocationHandle = unsigned long long;
using Context = CUctx_st*;
using Stream = CUstream_st*;
using Event = CUevent_st*;
using Module = CUmod_st*;
using Function = CUfunc_st*;
using Library = CUlib_st*;
using Kernel = CUkern_st*;
using MemoryPool = CUmemPoolHandle_st*;
using Graph = CUgraph_st*;
using GraphExec = CUgraphExec_st*;
using GraphNode = CUgraphNode_st*;
using HostFn = void (*)(void* user);

// X(constant, number, name in cuda.h). The codes that our code names; others pass through as
// numbers.
#define SPW_CU_RESULTS(X)                                                         \
  X(kSuccess, 0, CUDA_SUCCESS)                                                    \
  X(kInvalidValue, 1, CUDA_ERROR_INVALID_VALUE)                                   \
  X(kOutOfMemory, 2, CUDA_ERROR_OUT_OF_MEMORY)                                    \
  X(kNotInitialized, 3, CUDA_ERROR_NOT_INITIALIZED)                               \
  X(kDeinitialized, 4, CUDA_ERROR_DEINITIALIZED)                                  \
  X(kStubLibrary, 34, CUDA_ERROR_STUB_LIBRARY)                                    \
  X(kDeviceUnavailable, 46, CUDA_ERROR_DEVICE_UNAVAILABLE)                        \
  X(kNoDevice, 100, CUDA_ERROR_NO_DEVICE)                                         \
  X(kInvalidDevice, 101, CUDA_ERROR_INVALID_DEVICE)                               \
  X(kInvalidImage, 200, CUDA_ERROR_INVALID_IMAGE)                                 \
  X(kInvalidContext, 201, CUDA_ERROR_INVALID_CONTEXT)                             \
  X(kMapFailed, 205, CUDA_ERROR_MAP_FAILED)                                       \
  X(kUnmapFailed, 206, CUDA_ERROR_UNMAP_FAILED)                                   \
  X(kAlreadyMapped, 208, CUDA_ERROR_ALREADY_MAPPED)                               \
  X(kNoBinaryForGpu, 209, CUDA_ERROR_NO_BINARY_FOR_GPU)                           \
  X(kNotMapped, 211, CUDA_ERROR_NOT_MAPPED)                                       \
  X(kEccUncorrectable, 214, CUDA_ERROR_ECC_UNCORRECTABLE)                         \
  X(kPeerAccessUnsupported, 217, CUDA_ERROR_PEER_ACCESS_UNSUPPORTED)              \
  X(kInvalidPtx, 218, CUDA_ERROR_INVALID_PTX)                                     \
  X(kNvlinkUncorrectable, 220, CUDA_ERROR_NVLINK_UNCORRECTABLE)                   \
  X(kContained, 226, CUDA_ERROR_CONTAINED)                                        \
  X(kOperatingSystem, 304, CUDA_ERROR_OPERATING_SYSTEM)                           \
  X(kInvalidHandle, 400, CUDA_ERROR_INVALID_HANDLE)                               \
  X(kIllegalState, 401, CUDA_ERROR_ILLEGAL_STATE)                                 \
  X(kNotFound, 500, CUDA_ERROR_NOT_FOUND)                                         \
  X(kNotReady, 600, CUDA_ERROR_NOT_READY)                                         \
  X(kIllegalAddress, 700, CUDA_ERROR_ILLEGAL_ADDRESS)                             \
  X(kLaunchOutOfResources, 701, CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES)               \
  X(kLaunchTimeout, 702, CUDA_ERROR_LAUNCH_TIMEOUT)                               \
  X(kPeerAccessAlreadyEnabled, 704, CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED)       \
  X(kPeerAccessNotEnabled, 705, CUDA_ERROR_PEER_ACCESS_NOT_ENABLED)               \
  X(kPrimaryContextActive, 708, CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE)                \
  X(kContextIsDestroyed, 709, CUDA_ERROR_CONTEXT_IS_DESTROYED)                    \
  X(kAssert, 710, CUDA_ERROR_ASSERT)                                              \
  X(kHostMemoryAlreadyRegistered, 712, CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED) \
  X(kHostMemoryNotRegistered, 713, CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED)         \
  X(kHardwareStackError, 714, CUDA_ERROR_HARDWARE_STACK_ERROR)                    \
  X(kIllegalInstruction, 715, CUDA_ERROR_ILLEGAL_INSTRUCTION)                     \
  X(kMisalignedAddress, 716, CUDA_ERROR_MISALIGNED_ADDRESS)                       \
  X(kInvalidAddressSpace, 717, CUDA_ERROR_INVALID_ADDRESS_SPACE)                  \
  X(kInvalidPc, 718, CUDA_ERROR_INVALID_PC)                                       \
  X(kLaunchFailed, 719, CUDA_ERROR_LAUNCH_FAILED)                                 \
  X(kNotPermitted, 800, CUDA_ERROR_NOT_PERMITTED)                                 \
  X(kNotSupported, 801, CUDA_ERROR_NOT_SUPPORTED)                                 \
  X(kSystemNotReady, 802, CUDA_ERROR_SYSTEM_NOT_READY)                            \
  X(kStreamCaptureUnsupported, 900, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)        \
  X(kStreamCaptureInvalidated, 901, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED)        \
  X(kStreamCaptureMerge, 902, CUDA_ERROR_STREAM_CAPTURE_MERGE)                    \
  X(kStreamCaptureUnmatched, 903, CUDA_ERROR_STREAM_CAPTURE_UNMATCHED)            \
  X(kStreamCaptureUnjoined, 904, CUDA_ERROR_STREAM_CAPTURE_UNJOINED)              \
  X(kStreamCaptureIsolation, 905, CUDA_ERROR_STREAM_CAPTURE_ISOLATION)            \
  X(kStreamCaptureImplicit, 906, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT)              \
  X(kCapturedEvent, 907, CUDA_ERROR_CAPTURED_EVENT)                               \
  X(kStreamCaptureWrongThread, 908, CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD)       \
  X(kTimeout, 909, CUDA_ERROR_TIMEOUT)                                            \
  X(kUnknown, 999, CUDA_ERROR_UNKNOWN)

/// CUresult.
enum class Result : int {
#define SPW_CU_ENUMERATOR(constant, number, name) constant = (number),
  SPW_CU_RESULTS(SPW_CU_ENUMERATOR)
#undef SPW_CU_ENUMERATOR
};

/// True for the errors after which every later call of the process fails: the context is lost.
constexpr bool is_sticky(Result result) {
  switch (result) {
    case Result::kEccUncorrectable:
    case Result::kNvlinkUncorrectable:
    case Result::kContained:
    case Result::kIllegalAddress:
    case Result::kLaunchTimeout:
    case Result::kAssert:
    case Result::kHardwareStackError:
    case Result::kIllegalInstruction:
    case Result::kMisalignedAddress:
    case Result::kInvalidAddressSpace:
    case Result::kInvalidPc:
    case Result::kLaunchFailed:
      return true;
    default:
      return false;
  }
}

// Handles with a meaning of their own. A null stream is the legacy default stream, or the
// per-thread one in a table loaded for per-thread default streams.
// NOLINTBEGIN(performance-no-int-to-ptr): cuda.h defines these handles as small integers.
inline Stream stream_legacy() { return reinterpret_cast<Stream>(std::uintptr_t{1}); }
inline Stream stream_per_thread() { return reinterpret_cast<Stream>(std::uintptr_t{2}); }
// NOLINTEND(performance-no-int-to-ptr)

// Flags that are passed as unsigned int.
inline constexpr unsigned int kStreamDefault = 0;
inline constexpr unsigned int kStreamNonBlocking = 1;
inline constexpr unsigned int kEventDefault = 0;
inline constexpr unsigned int kEventBlockingSync = 1;
inline constexpr unsigned int kEventDisableTiming = 2;
inline constexpr unsigned int kEventInterprocess = 4;
inline constexpr unsigned int kEventRecordExternal = 1;
inline constexpr unsigned int kEventWaitExternal = 1;
inline constexpr unsigned int kHostAllocPortable = 1;
inline constexpr unsigned int kHostAllocDeviceMap = 2;
inline constexpr unsigned int kHostAllocWriteCombined = 4;
inline constexpr unsigned int kHostRegisterPortable = 1;
inline constexpr unsigned int kHostRegisterDeviceMap = 2;
inline constexpr unsigned int kHostRegisterIoMemory = 4;
inline constexpr unsigned int kHostRegisterReadOnly = 8;
inline constexpr unsigned int kAttachGlobal = 1;
inline constexpr unsigned int kAttachHost = 2;
inline constexpr unsigned int kAttachSingle = 4;
inline constexpr unsigned int kWaitValueGeq = 0;
inline constexpr unsigned int kWaitValueEq = 1;
inline constexpr unsigned int kWriteValueDefault = 0;
inline constexpr unsigned int kIpcLazyEnablePeerAccess = 1;
inline constexpr unsigned long long kProcAddressDefault = 0;
inline constexpr unsigned long long kProcAddressLegacyStream = 1;
inline constexpr unsigned long long kProcAddressPerThreadStream = 2;

enum class ProcAddressStatus : int { kSuccess = 0, kSymbolNotFound = 1, kVersionNotSufficient = 2 };

/// CUdevice_attribute, those in use.
enum class DeviceAttribute : int {
  kMaxThreadsPerBlock = 1,
  kWarpSize = 10,
  kClockRate = 13,
  kTextureAlignment = 14,
  kMultiprocessorCount = 16,
  kIntegrated = 18,
  kConcurrentKernels = 31,
  kPciBusId = 33,
  kMemoryClockRate = 36,
  kL2CacheSize = 38,
  kAsyncEngineCount = 40,
  kUnifiedAddressing = 41,
  kTexturePitchAlignment = 51,
  kComputeCapabilityMajor = 75,
  kComputeCapabilityMinor = 76,
  kManagedMemory = 83,
  kConcurrentManagedAccess = 89,
  kCanUseHostPointerForRegisteredMem = 91,
  kMaxSharedMemoryPerBlockOptin = 97,
  kVirtualMemoryManagementSupported = 102,
  kHandleTypePosixFdSupported = 103,
  kGpuDirectRdmaWithVmmSupported = 110,
  kMemoryPoolsSupported = 115,
  kHostNumaId = 134,
};

/// CUpointer_attribute, those in use.
enum class PointerAttribute : int {
  kContext = 1,
  kMemoryType = 2,
  kDevicePointer = 3,
  kHostPointer = 4,
  kSyncMemops = 6,
  kBufferId = 7,
  kIsManaged = 8,
  kDeviceOrdinal = 9,
  kIsLegacyIpcCapable = 10,
  kRangeStartAddr = 11,
  kRangeSize = 12,
  kMapped = 13,
  kMempoolHandle = 17,
};

enum class MemoryType : unsigned int { kHost = 1, kDevice = 2, kUnified = 4 };

enum class StreamCaptureMode : int { kGlobal = 0, kThreadLocal = 1, kRelaxed = 2 };
enum class StreamCaptureStatus : int { kNone = 0, kActive = 1, kInvalidated = 2 };

enum class FunctionAttribute : int { kNumRegs = 4, kMaxDynamicSharedSizeBytes = 8 };

enum class MemPoolAttribute : int {
  kReuseFollowEventDependencies = 1,
  kReuseAllowOpportunistic = 2,
  kReuseAllowInternalDependencies = 3,
  kReleaseThreshold = 4,
  kReservedMemCurrent = 5,
  kReservedMemHigh = 6,
  kUsedMemCurrent = 7,
  kUsedMemHigh = 8,
};

enum class AllocationType : int { kInvalid = 0, kPinned = 1 };
enum class HandleType : int { kNone = 0, kPosixFileDescriptor = 1, kFabric = 8 };
enum class LocationType : int { kInvalid = 0, kDevice = 1, kHost = 2, kHostNuma = 3 };
enum class AccessFlags : int { kNone = 0, kRead = 1, kReadWrite = 3 };
enum class Granularity : int { kMinimum = 0, kRecommended = 1 };

/// CUmemLocation.
struct Location {
  LocationType type = LocationType::kInvalid;
  int id = 0;
};

/// CUmemAllocationProp.
struct AllocationProp {
  AllocationType type = AllocationType::kInvalid;
  HandleType requested_handle_types = HandleType::kNone;
  Location location;
  void* win32_handle_meta_data = nullptr;
  struct Flags {
    unsigned char compression_type = 0;
    unsigned char gpu_direct_rdma_capable = 0;
    unsigned short usage = 0;
    unsigned char reserved[4] = {};
  } alloc_flags;
};

/// CUmemAccessDesc.
struct AccessDesc {
  Location location;
  AccessFlags flags = AccessFlags::kNone;
};

/// CUmemPoolProps.
struct MemPoolProps {
  AllocationType alloc_type = AllocationType::kInvalid;
  HandleType handle_types = HandleType::kNone;
  Location location;
  void* win32_security_attributes = nullptr;
  std::size_t max_size = 0;
  unsigned short usage = 0;
  unsigned char reserved[54] = {};
};

/// CUlaunchConfig. Launch attributes stay opaque: no caller of ours passes any.
struct LaunchConfig {
  unsigned int grid_x = 1;
  unsigned int grid_y = 1;
  unsigned int grid_z = 1;
  unsigned int block_x = 1;
  unsigned int block_y = 1;
  unsigned int block_z = 1;
  unsigned int shared_bytes = 0;
  Stream stream = nullptr;
  void* attributes = nullptr;
  unsigned int attribute_count = 0;
};

/// CUuuid.
struct Uuid {
  char bytes[16] = {};
};

/// CUipcMemHandle.
struct IpcMemHandle {
  char reserved[64] = {};
};

}  // namespace spillway::cu
