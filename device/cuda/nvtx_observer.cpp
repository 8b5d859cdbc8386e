// SPDX-License-Identifier: Apache-2.0
// NVTX is headers only: what it needs from a tool is looked up at run time, through the library
// that $NVTX_INJECTION64_PATH names.
#include "device/cuda/nvtx_observer.hpp"

#if defined(SPW_HAVE_CUDA_HEADERS) && __has_include(<nvtx3/nvToolsExtMem.h>)
#define SPW_HAVE_NVTX_MEM 1
#include <nvtx3/nvToolsExt.h>
#include <nvtx3/nvToolsExtMem.h>

#include <cstdint>
#include <map>
#include <mutex>
#endif

namespace spillway {
namespace {

#ifdef SPW_HAVE_NVTX_MEM

nvtxDomainHandle_t domain() {
  static const nvtxDomainHandle_t kDomain = ::nvtxDomainCreateA("spillway");
  return kDomain;
}

const void* address(cu::DevicePtr pointer) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): NVTX names device memory by void pointers.
  return reinterpret_cast<const void*>(static_cast<std::uintptr_t>(pointer));
}

class NvtxObserver final : public MemoryObserver {
 public:
  void arena_begin(cu::DevicePtr pointer, std::size_t bytes) override {
    nvtxMemVirtualRangeDesc_t range{};
    range.ptr = address(pointer);
    range.size = bytes;
    nvtxMemHeapDesc_t heap{};
    heap.extCompatID = NVTX_EXT_COMPATID_MEM;
    heap.structSize = sizeof heap;
    heap.usage = NVTX_MEM_HEAP_USAGE_TYPE_SUB_ALLOCATOR;
    heap.type = NVTX_MEM_TYPE_VIRTUAL_ADDRESS;
    heap.typeSpecificDescSize = sizeof range;
    heap.typeSpecificDesc = &range;
    heap.messageType = NVTX_MESSAGE_TYPE_ASCII;
    heap.message.ascii = "spillway arena";
    const nvtxMemHeapHandle_t handle = ::nvtxMemHeapRegister(domain(), &heap);
    if (handle == nullptr) return;  // no tool
    const std::lock_guard<std::mutex> lock(mutex_);
    heaps_[pointer] = handle;
  }

  void arena_end(cu::DevicePtr pointer, std::size_t /*bytes*/) override {
    nvtxMemHeapHandle_t handle = nullptr;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      const auto found = heaps_.find(pointer);
      if (found == heaps_.end()) return;
      handle = found->second;
      heaps_.erase(found);
    }
    ::nvtxMemHeapUnregister(domain(), handle);
  }

  void block_allocated(cu::DevicePtr pointer, std::size_t bytes, cu::Stream /*stream*/) override {
    nvtxMemVirtualRangeDesc_t range{};
    range.ptr = address(pointer);
    range.size = bytes;
    nvtxMemRegionsRegisterBatch_t batch{};
    batch.extCompatID = NVTX_EXT_COMPATID_MEM;
    batch.structSize = sizeof batch;
    batch.regionType = NVTX_MEM_TYPE_VIRTUAL_ADDRESS;
    batch.heap = heap_of(pointer);
    if (batch.heap == nullptr) return;
    batch.regionCount = 1;
    batch.regionDescElementSize = sizeof range;
    batch.regionDescElements = &range;
    ::nvtxMemRegionsRegister(domain(), &batch);
  }

  void block_freed(cu::DevicePtr pointer, cu::Stream /*stream*/) override {
    if (heap_of(pointer) == nullptr) return;
    nvtxMemRegionRef_t region{};
    region.pointer = address(pointer);
    nvtxMemRegionsUnregisterBatch_t batch{};
    batch.extCompatID = NVTX_EXT_COMPATID_MEM;
    batch.structSize = sizeof batch;
    batch.refType = NVTX_MEM_REGION_REF_TYPE_POINTER;
    batch.refCount = 1;
    batch.refElementSize = sizeof region;
    batch.refElements = &region;
    ::nvtxMemRegionsUnregister(domain(), &batch);
  }

  void host_reads(const void* /*pointer*/, std::size_t /*bytes*/) override {}
  void host_writes(void* /*pointer*/, std::size_t /*bytes*/) override {}

 private:
  /// Of the arena that begins last at or before `pointer`; null: no tool took it.
  nvtxMemHeapHandle_t heap_of(cu::DevicePtr pointer) {
    const std::lock_guard<std::mutex> lock(mutex_);
    auto after = heaps_.upper_bound(pointer);
    return after == heaps_.begin() ? nullptr : (--after)->second;
  }

  // Held for a look-up only, never across a call. Of std: no simulated thread ever comes here.
  std::mutex mutex_;
  std::map<cu::DevicePtr, nvtxMemHeapHandle_t> heaps_;
};

#else

class NvtxObserver final : public MemoryObserver {
 public:
  void arena_begin(cu::DevicePtr /*pointer*/, std::size_t /*bytes*/) override {}
  void arena_end(cu::DevicePtr /*pointer*/, std::size_t /*bytes*/) override {}
  void block_allocated(cu::DevicePtr /*pointer*/,
                       std::size_t /*bytes*/,
                       cu::Stream /*stream*/) override {}
  void block_freed(cu::DevicePtr /*pointer*/, cu::Stream /*stream*/) override {}
  void host_reads(const void* /*pointer*/, std::size_t /*bytes*/) override {}
  void host_writes(void* /*pointer*/, std::size_t /*bytes*/) override {}
};

#endif

}  // namespace

std::unique_ptr<MemoryObserver> make_nvtx_observer() { return std::make_unique<NvtxObserver>(); }

NvtxSupport nvtx_support() {
#ifdef SPW_HAVE_NVTX_MEM
  return domain() == nullptr ? NvtxSupport::kNoTool : NvtxSupport::kAttached;
#else
  return NvtxSupport::kCompiledOut;
#endif
}

}  // namespace spillway
