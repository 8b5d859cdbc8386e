// SPDX-License-Identifier: Apache-2.0
// Tells compute-sanitizer about a pool's blocks on real hardware (nvtxMem: an arena is a heap of
// kind sub-allocator, a block a region of it), so that its memory checks see ours and not only the
// driver's allocations.
#pragma once

#include "device/memory_observer.hpp"

#include <memory>

namespace spillway {

/// How much a tool will see.
enum class NvtxSupport {
  kCompiledOut,  // built without the NVTX headers of a toolkit
  kNoTool,       // every call returns at once
  kAttached,     // a tool is there; whether it takes memory regions, only the tool knows
};

/// Never null. Without the headers or without a tool its calls do nothing. What NVTX cannot say is
/// lost: it knows no streams, so a tool sees blocks come and go in the order of the host's calls
/// and reports a kernel that is still queued when its block is freed - run the sanitizer with
/// CUDA_LAUNCH_BLOCKING=1; and it knows nothing of host reads and writes.
std::unique_ptr<MemoryObserver> make_nvtx_observer();

/// Initialises NVTX on the first call.
NvtxSupport nvtx_support();

}  // namespace spillway
