// SPDX-License-Identifier: Apache-2.0
// The suite's four kernels: PTX for a real driver, and the same names and parameters registered
// with bodies for the host, for a device without CUDA cores.
#pragma once

namespace spillway::conformance {

// fill(u32* out, u32 value, u64 n)     out[i] = value
// copy(u32* to, u32* from, u64 n)      to[i] = from[i]
// increment(u32* data, u64 n)          data[i] += 1
// spin(u64 cycles)                     keeps its stream busy
inline constexpr const char* kFillName = "spw_conformance_fill";
inline constexpr const char* kCopyName = "spw_conformance_copy";
inline constexpr const char* kIncrementName = "spw_conformance_increment";
inline constexpr const char* kSpinName = "spw_conformance_spin";

/// PTX 6.0 for sm_50 and younger, written by hand.
const char* kernels_ptx();

}  // namespace spillway::conformance
