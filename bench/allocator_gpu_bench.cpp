// SPDX-License-Identifier: Apache-2.0
// The comparison of allocator_bench on the machine's own driver: cuMemAlloc, cuMemAllocAsync, CUB's
// and PyTorch's allocator where built in. No kernel runs meanwhile: these are costs to the host.
// Without a CUDA device it says skipped.
#include "bench/support/comparison.hpp"
#include "bench/support/foreign_peers.hpp"
#include "bench/support/gpu_ground.hpp"
#include "bench/support/peer.hpp"
#include "bench/support/pool_peer.hpp"

#include <cstdio>

// NOLINTNEXTLINE(bugprone-exception-escape): out of host memory ends a bench
int main(int argc, char** argv) {
  using namespace spillway;
  using namespace spillway::bench;
  ComparisonOptions defaults;
  defaults.data_dir = SPILLWAY_SOURCE_DIR "/../shared/data/snapshots";
  defaults.repetitions = 5;
  defaults.pairs = 2000;
  defaults.pairs_per_thread = 500;
  defaults.keep_open = false;
  defaults.metadata = false;
  Result<ComparisonOptions> options = parse_options(argc, argv, defaults);
  if (!options.ok()) {
    std::fprintf(stderr, "%s\n", options.status().message().c_str());
    return 1;
  }
  Result<Ground> ground = gpu_ground(options.value().thread_count, &options.value().driver);
  if (!ground.ok()) {
    return skipped(ground.status());
  }
  std::vector<PeerKind> kinds;
  kinds.push_back(peer_kind<PlainPeer>("cuMemAlloc"));
  kinds.back().slow = true;
  kinds.push_back(peer_kind<AsyncPeer>("cuMemAllocAsync, keeps all"));
  add_foreign_peers(&kinds);
  kinds.push_back(peer_kind<PoolPeer>("spillway"));
  const Status done = compare_allocators(ground.value(), kinds, options.value());
  give_back(ground.value());
  if (done.ok()) return 0;
  std::fprintf(stderr, "allocator_gpu_bench: %s\n", done.message().c_str());
  return 4;
}
