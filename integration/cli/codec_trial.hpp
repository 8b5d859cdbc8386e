// SPDX-License-Identifier: Apache-2.0
// Every codec on somebody's own values: size, error against the analytic bound, what does not fit,
// and speed on this machine's processor beside memcpy of the same bytes.
#pragma once

#include "core/codec.hpp"
#include "core/status.hpp"
#include "integration/cli/progress.hpp"
#include "integration/cli/value_file.hpp"

#include <cstdint>
#include <vector>

namespace spillway::cli {

struct TrialOptions {
  Dtype dtype = Dtype::kBf16;
  std::uint8_t sparse_capacity = kDefaultSparseCapacity;
  int threads = 0;  // 0: one per processor
};

/// What happened to all values under one codec. Errors are over groups of 128 without NaN and Inf.
struct CodecTrial {
  Codec codec = Codec::kNone;
  std::uint64_t payload_bytes = 0;  // of one tensor with all the values
  std::uint64_t misfit_tiles = 0;   // of 2048 values; above 0 the source must be kept
  std::uint64_t escapes = 0;        // lossless12: values outside the window; others: misfit_tiles
  bool bit_exact = true;            // all bytes came back
  bool sign_exact = true;           // of mask1: 1 came back exactly where x > 0
  double max_error = 0;             // largest |x - decoded|
  double error_bound = 0;           // largest that error_bound() allows any value, see below
  std::uint64_t above_bound = 0;    // values whose error is above their own bound: 0, or a bug
  double signal = 0;                // sum of squares of x, and of x - decoded
  double noise = 0;
  std::int64_t encode_ns = 0;
  std::int64_t decode_ns = 0;

  [[nodiscard]] bool fits() const { return misfit_tiles == 0; }
};

struct TrialResult {
  std::uint64_t values = 0;
  std::uint64_t bytes = 0;
  std::uint64_t groups = 0;
  std::uint64_t nonfinite_groups = 0;  // with a NaN or an Inf: left out of the errors
  std::int64_t memcpy_ns = 0;
  std::vector<CodecTrial> codecs;  // Codec::kNone first
};

/// Reads the file once, in chunks of at most 32 MiB; every codec that takes the dtype is tried on
/// each. A file of up to 4 MiB is timed by the median of 15 runs, the first chunk of a larger one
/// by that of 3, later chunks by one run. error_bound: the largest, over all groups without NaN or
/// Inf, of max(relative * amax, of_group_max * amax, absolute), with the codec's error_bound() and
/// the group's largest |x|.
Result<TrialResult> try_codecs(ValueFile& file, const TrialOptions& options, Progress& progress);

}  // namespace spillway::cli
