// SPDX-License-Identifier: Apache-2.0
// The allocators of others that this build has, as peers: CUB's with a CUDA toolkit
// (SPW_BENCH_CUB), PyTorch's where its libraries are (SPW_BENCH_TORCH).
#pragma once

#include "bench/support/comparison.hpp"
#include "bench/support/peer.hpp"
#ifdef SPW_BENCH_CUB
#include "bench/support/cub_peer.hpp"
#endif
#ifdef SPW_BENCH_TORCH
#include "bench/support/torch_peer.hpp"
#endif

#include <cstdio>
#include <vector>

namespace spillway::bench {

#ifdef SPW_BENCH_CUB
template <CubPeer::Bins kBins>
class Cub {
 public:
  explicit Cub(const Ground& ground) : cub_(kBins), streams_(ground.streams) {}
  cu::DevicePtr allocate(std::size_t bytes, std::uint32_t stream) {
    return cub_.allocate(bytes, streams_[stream]);
  }
  void free(cu::DevicePtr pointer, std::uint32_t) { cub_.free(pointer); }

 private:
  CubPeer cub_;
  const std::vector<cu::Stream>& streams_;
};
#endif

#ifdef SPW_BENCH_TORCH
class Torch {
 public:
  explicit Torch(const Ground& ground) : streams_(ground.streams) {}
  cu::DevicePtr allocate(std::size_t bytes, std::uint32_t stream) {
    return torch_.allocate(bytes, streams_[stream]);
  }
  void free(cu::DevicePtr pointer, std::uint32_t) { torch_.free(pointer); }

 private:
  TorchPeer torch_;
  const std::vector<cu::Stream>& streams_;
};
#endif

/// Appends those that are there; says which are not.
inline void add_foreign_peers([[maybe_unused]] std::vector<PeerKind>* kinds) {
#ifdef SPW_BENCH_CUB
  kinds->push_back(peer_kind<Cub<CubPeer::Bins::kWide>>("CUB, bins x8 to 8 GiB, keeps all", true));
  kinds->push_back(peer_kind<Cub<CubPeer::Bins::kFine>>("CUB, bins x2 to 8 GiB, keeps all", true));
  kinds->push_back(peer_kind<Cub<CubPeer::Bins::kStock>>("CUB as shipped, keeps 6 MiB of 2 MiB"));
#else
  std::printf("no CUB: built without a CUDA toolkit\n");
#endif
#ifdef SPW_BENCH_TORCH
  kinds->push_back(peer_kind<Torch>("PyTorch " SPW_BENCH_TORCH));
#else
  std::printf("no PyTorch: built without SPILLWAY_TORCH_DIR\n");
#endif
}

}  // namespace spillway::bench
