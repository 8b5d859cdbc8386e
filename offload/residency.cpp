// SPDX-License-Identifier: Apache-2.0
// The table: one row a move. Pairs that differ only in what is moved, bytes or payload, stand one
// below the other.
#include "offload/residency.hpp"

namespace spillway {
namespace {

using S = TensorState;
using M = Move;

struct Row {
  S from;
  M move;
  S to;
};

constexpr Row kRows[] = {
    {S::kResident, M::kCompress, S::kCompressed},
    {S::kResident, M::kTryCompress, S::kCompressing},
    {S::kCompressing, M::kFits, S::kCompressed},
    {S::kCompressing, M::kGiveUpPayload, S::kResident},
    {S::kCompressed, M::kDecompress, S::kResident},

    {S::kResident, M::kOffload, S::kOffloading},
    {S::kCompressed, M::kOffload, S::kOffloadingPayload},
    {S::kOffloading, M::kOffloadIssued, S::kOnHost},
    {S::kOffloadingPayload, M::kOffloadIssued, S::kOnHostPayload},
    {S::kOffloading, M::kOffloadGivenUp, S::kResident},
    {S::kOffloadingPayload, M::kOffloadGivenUp, S::kCompressed},

    {S::kOnHost, M::kSpill, S::kSpilling},
    {S::kOnHostPayload, M::kSpill, S::kSpillingPayload},
    {S::kSpilling, M::kSpilled, S::kOnDisk},
    {S::kSpillingPayload, M::kSpilled, S::kOnDiskPayload},
    {S::kSpilling, M::kSpillGivenUp, S::kOnHost},
    {S::kSpillingPayload, M::kSpillGivenUp, S::kOnHostPayload},

    {S::kOnDisk, M::kFetch, S::kFetching},
    {S::kOnDiskPayload, M::kFetch, S::kFetchingPayload},
    {S::kFetching, M::kFetched, S::kOnHost},
    {S::kFetchingPayload, M::kFetched, S::kOnHostPayload},
    {S::kFetching, M::kFetchFailed, S::kOnDisk},
    {S::kFetchingPayload, M::kFetchFailed, S::kOnDiskPayload},

    {S::kOnHost, M::kPrefetch, S::kPrefetching},
    {S::kOnHostPayload, M::kPrefetch, S::kPrefetchingPayload},
    {S::kPrefetching, M::kPrefetchIssued, S::kResident},
    {S::kPrefetchingPayload, M::kPrefetchIssued, S::kCompressed},
    {S::kPrefetching, M::kPrefetchGivenUp, S::kOnHost},
    {S::kPrefetchingPayload, M::kPrefetchGivenUp, S::kOnHostPayload},

    {S::kDropped, M::kRecompute, S::kRecomputing},
    {S::kRecomputing, M::kRecomputed, S::kResident},
    {S::kRecomputing, M::kRecomputeGivenUp, S::kDropped},
};

constexpr bool is_settled(S state) {
  return state == S::kResident || state == S::kCompressed || state == S::kOnHost ||
         state == S::kOnHostPayload || state == S::kOnDisk || state == S::kOnDiskPayload;
}

// Of nothing under way, so that each move ends one thing: what is under way is called off first.
constexpr bool may_be_written(S state) {
  return is_settled(state) || state == S::kUnwritten || state == S::kDropped || state == S::kLost;
}

constexpr std::array<std::string_view, kTensorStates> kStateNames = {
    "unwritten",  "resident",           "compressing", "compressed",
    "offloading", "offloading payload", "on host",     "payload on host",
    "spilling",   "spilling payload",   "on disk",     "payload on disk",
    "fetching",   "fetching payload",   "prefetching", "prefetching payload",
    "dropped",    "recomputing",        "lost",
};

constexpr std::array<std::string_view, kMoves> kMoveNames = {
    "write",
    "compress",
    "try to compress",
    "fits",
    "give up payload",
    "decompress",
    "offload",
    "offload issued",
    "give up offload",
    "spill",
    "spilled",
    "give up spill",
    "fetch",
    "fetched",
    "fetch failed",
    "prefetch",
    "prefetch issued",
    "give up prefetch",
    "drop",
    "recompute",
    "recomputed",
    "give up recompute",
    "lose",
};

}  // namespace

std::string_view name_of(TensorState state) { return kStateNames[static_cast<std::size_t>(state)]; }

std::string_view name_of(Move move) { return kMoveNames[static_cast<std::size_t>(move)]; }

std::string_view name_of(Residency residency) {
  switch (residency) {
    case Residency::kUnwritten:
      return "unwritten";
    case Residency::kResident:
      return "resident";
    case Residency::kCompressed:
      return "compressed";
    case Residency::kOnHost:
      return "on host";
    case Residency::kOnDisk:
      return "on disk";
    case Residency::kDropped:
      return "dropped";
    case Residency::kEvicting:
      return "evicting";
    case Residency::kReloading:
      return "reloading";
    case Residency::kLost:
      return "lost";
  }
  return "";
}

std::optional<TensorState> after(TensorState state, Move move) {
  if (move == M::kWrite) return may_be_written(state) ? std::optional(S::kResident) : std::nullopt;
  if (move == M::kDrop) return is_settled(state) ? std::optional(S::kDropped) : std::nullopt;
  if (move == M::kLose)
    return is_settled(state) || state == S::kDropped ? std::optional(S::kLost) : std::nullopt;
  for (const Row& row : kRows)
    if (row.from == state && row.move == move) return row.to;
  return std::nullopt;
}

Forms held(TensorState state) {
  switch (state) {
    case S::kUnwritten:
    case S::kDropped:
    case S::kLost:
      return {};
    case S::kResident:
    case S::kRecomputing:
      return {.device = true};
    case S::kCompressing:
      return {.device = true, .payload = true};
    case S::kCompressed:
      return {.payload = true};
    case S::kOffloading:
    case S::kPrefetching:
      return {.device = true, .host = true};
    case S::kOffloadingPayload:
    case S::kPrefetchingPayload:
      return {.payload = true, .host = true};
    case S::kOnHost:
    case S::kOnHostPayload:
      return {.host = true};
    case S::kSpilling:
    case S::kSpillingPayload:
    case S::kFetching:
    case S::kFetchingPayload:
      return {.host = true, .disk = true};
    case S::kOnDisk:
    case S::kOnDiskPayload:
      return {.disk = true};
  }
  return {};
}

Forms good(TensorState state) {
  switch (state) {
    case S::kCompressing:
    case S::kOffloading:
      return {.device = true};
    case S::kOffloadingPayload:
      return {.payload = true};
    case S::kSpilling:
    case S::kSpillingPayload:
    case S::kPrefetching:
    case S::kPrefetchingPayload:
      return {.host = true};
    case S::kFetching:
    case S::kFetchingPayload:
      return {.disk = true};
    case S::kRecomputing:
      return {};
    default:
      return held(state);
  }
}

std::optional<Move> towards_resident(TensorState state) {
  switch (state) {
    case S::kUnwritten:
    case S::kResident:
    case S::kLost:
      return std::nullopt;
    case S::kCompressing:
      return M::kGiveUpPayload;
    case S::kCompressed:
      return M::kDecompress;
    case S::kOffloading:
    case S::kOffloadingPayload:
      return M::kOffloadGivenUp;
    case S::kOnHost:
    case S::kOnHostPayload:
      return M::kPrefetch;
    case S::kSpilling:
    case S::kSpillingPayload:
      return M::kSpillGivenUp;
    case S::kOnDisk:
    case S::kOnDiskPayload:
      return M::kFetch;
    case S::kFetching:
    case S::kFetchingPayload:
      return M::kFetched;
    case S::kPrefetching:
    case S::kPrefetchingPayload:
      return M::kPrefetchIssued;
    case S::kDropped:
      return M::kRecompute;
    case S::kRecomputing:
      return M::kRecomputed;
  }
  return std::nullopt;
}

Residency residency_of(TensorState state) {
  switch (state) {
    case S::kUnwritten:
      return Residency::kUnwritten;
    case S::kResident:
      return Residency::kResident;
    case S::kCompressed:
      return Residency::kCompressed;
    case S::kCompressing:
    case S::kOffloading:
    case S::kOffloadingPayload:
      return Residency::kEvicting;
    case S::kOnHost:
    case S::kOnHostPayload:
    case S::kSpilling:
    case S::kSpillingPayload:
      return Residency::kOnHost;
    case S::kOnDisk:
    case S::kOnDiskPayload:
    case S::kFetching:
    case S::kFetchingPayload:
      return Residency::kOnDisk;
    case S::kPrefetching:
    case S::kPrefetchingPayload:
    case S::kRecomputing:
      return Residency::kReloading;
    case S::kDropped:
      return Residency::kDropped;
    case S::kLost:
      return Residency::kLost;
  }
  return Residency::kLost;
}

}  // namespace spillway
