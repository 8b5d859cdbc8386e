// SPDX-License-Identifier: Apache-2.0
// What allocators themselves cost the host: all of them over a driver that costs nothing, in one
// process, taking turns. Beside them the two floors: no allocator, and one lock per call.
#include "bench/support/comparison.hpp"
#include "bench/support/foreign_peers.hpp"
#include "bench/support/null_driver.hpp"
#include "bench/support/peer.hpp"
#include "bench/support/pool_peer.hpp"

#include <cstdio>

#ifdef SPW_BENCH_CUB
extern "C" int spillway_null_cudart();
#endif

// NOLINTNEXTLINE(bugprone-exception-escape): out of host memory ends a bench
int main(int argc, char** argv) {
  using namespace spillway;
  using namespace spillway::bench;
  ComparisonOptions defaults;
  defaults.data_dir = SPILLWAY_SOURCE_DIR "/../shared/data/snapshots";
  defaults.driver = "zero-cost: every call succeeds at once and does nothing";
  const Result<ComparisonOptions> options = parse_options(argc, argv, defaults);
  if (!options.ok()) {
    std::fprintf(stderr, "%s\n", options.status().message().c_str());
    return 1;
  }
#ifdef SPW_BENCH_CUB
  if (spillway_null_cudart() != 1) return 4;
#endif
  Ground ground;
  ground.driver = null_driver();
  static_cast<void>(ground.driver.cuDevicePrimaryCtxRetain(&ground.context, 0));
  ground.streams.resize(64);
  for (cu::Stream& stream : ground.streams) {
    static_cast<void>(ground.driver.cuStreamCreate(&stream, cu::kStreamNonBlocking));
  }
  ground.memory_bytes = std::size_t{120} << 30;

  std::vector<PeerKind> kinds;
  kinds.push_back(peer_kind<FloorPeer>("no allocator (the loop itself)"));
  kinds.push_back(peer_kind<LockPeer>("one lock per call, no allocator"));
  kinds.push_back(peer_kind<PlainPeer>("cuMemAlloc, zero-cost driver"));
  kinds.push_back(peer_kind<AsyncPeer>("cuMemAllocAsync, zero-cost driver"));
  add_foreign_peers(&kinds);
  kinds.push_back(peer_kind<PoolPeer>("spillway"));
  const Status done = compare_allocators(ground, kinds, options.value());
  if (done.ok()) return 0;
  std::fprintf(stderr, "allocator_bench: %s\n", done.message().c_str());
  return 4;
}
