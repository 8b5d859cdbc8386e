// SPDX-License-Identifier: Apache-2.0
// The codec kernels for a device without CUDA cores: bodies that run the host's path over the
// table, the exact ranges that a launch reads and writes, and the bytes it moves.
#pragma once

namespace spillway {

/// Registers all of them by the names that the CUDA kernels have. Any number of times; not beside
/// look-ups of other threads.
void register_codec_kernels();

}  // namespace spillway
