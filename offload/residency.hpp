// SPDX-License-Identifier: Apache-2.0
// Where a tensor's bytes are, and which moves lead from there: a pure table. What a state holds and
// which copy of it is good follow from the state, so what a move takes and gives back is the
// difference of two states, and cannot be forgotten in a branch.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace spillway {

/// The words that users see.
enum class Residency : std::uint8_t {
  kUnwritten,  // created, nothing in it yet
  kResident,
  kCompressed,
  kOnHost,
  kOnDisk,
  kDropped,
  kEvicting,
  kReloading,
  kLost,  // an error left no copy, and nothing to make it again from
};
std::string_view name_of(Residency residency);

/// States in the order of streams: a form counts as good when work that waits for its event reads
/// good bytes, whether or not the device has come so far. `Payload`: what moves or lies there is a
/// codec's payload instead of the bytes.
enum class TensorState : std::uint8_t {
  kUnwritten,
  kResident,
  kCompressing,  // a lossless payload stands beside its source until the host knows that it fits
  kCompressed,
  kOffloading,  // not all chunks are issued
  kOffloadingPayload,
  kOnHost,
  kOnHostPayload,
  kSpilling,  // being written to disk
  kSpillingPayload,
  kOnDisk,
  kOnDiskPayload,
  kFetching,  // being read from disk
  kFetchingPayload,
  kPrefetching,  // not all chunks are issued
  kPrefetchingPayload,
  kDropped,
  kRecomputing,  // device memory is taken, the function has not returned
  kLost,
};
inline constexpr int kTensorStates = 19;

enum class Move : std::uint8_t {
  kWrite,           // new contents by the caller: every other copy is out of date
  kCompress,        // encode is issued, and cannot fail: lossy codecs
  kTryCompress,     // encode is issued, and may overflow
  kFits,            // the host has read that it did not
  kGiveUpPayload,   // it did, or the source is wanted: it is still there
  kDecompress,      // decode is issued
  kOffload,         // a copy out is submitted
  kOffloadIssued,   // all of it
  kOffloadGivenUp,  // called off: the device form is still there
  kSpill,           // a write to disk is begun
  kSpilled,
  kSpillGivenUp,  // it failed, or the bytes are wanted: the host image is still there
  kFetch,         // a read from disk is begun
  kFetched,
  kFetchFailed,      // may be tried again
  kPrefetch,         // device memory is taken, a copy in is submitted
  kPrefetchIssued,   // all of it
  kPrefetchGivenUp,  // it failed, or memory is wanted more elsewhere
  kDrop,             // REQUIRES: the tensor can be made again
  kRecompute,        // device memory is taken for it
  kRecomputed,
  kRecomputeGivenUp,  // the function failed
  kLose,              // no copy is good any more, and it cannot be made again
};
inline constexpr int kMoves = 23;

std::string_view name_of(TensorState state);
std::string_view name_of(Move move);

/// The state after the move; nothing when the move makes no sense there.
std::optional<TensorState> after(TensorState state, Move move);

/// Memory that a state has: device bytes, a payload on the device, an image in pinned host memory,
/// an image on disk.
struct Forms {
  bool device = false;
  bool payload = false;
  bool host = false;
  bool disk = false;
  friend bool operator==(const Forms&, const Forms&) = default;
};
Forms held(TensorState state);
/// Which of these have the tensor's contents. None: unwritten, dropped, being recomputed, lost.
Forms good(TensorState state);

/// The next move towards device bytes that an acquire makes: issue, call off, or wait for what is
/// under way. Nothing: they are there, or (unwritten, lost) there is nothing to bring.
std::optional<Move> towards_resident(TensorState state);

Residency residency_of(TensorState state);

}  // namespace spillway
