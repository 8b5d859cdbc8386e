// SPDX-License-Identifier: Apache-2.0
// What allocators themselves cost the host: all of them over a driver that costs nothing, in one
// process, taking turns. Beside them the two floors: no allocator, and one lock per call.
#include "bench/support/comparison.hpp"
#include "bench/support/null_driver.hpp"
#include "bench/support/peer.hpp"
#ifdef SPW_BENCH_CUB
#include "bench/support/cub_peer.hpp"
#endif

#include <cstdio>
#include <string>

namespace {

using namespace spillway;
using namespace spillway::bench;

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

}  // namespace

int main(int argc, char** argv) {
  ComparisonOptions defaults;
  defaults.data_dir = SPILLWAY_SOURCE_DIR "/../shared/data/snapshots";
  defaults.driver = "zero-cost: every call succeeds at once and does nothing";
  const Result<ComparisonOptions> options = parse_options(argc, argv, defaults);
  if (!options.ok()) {
    std::fprintf(stderr, "%s\n", options.status().message().c_str());
    return 1;
  }
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
#ifdef SPW_BENCH_CUB
  kinds.push_back(peer_kind<Cub<CubPeer::Bins::kWide>>("CUB, bins x8 to 8 GiB, keeps all", true));
  kinds.push_back(peer_kind<Cub<CubPeer::Bins::kFine>>("CUB, bins x2 to 8 GiB, keeps all", true));
  kinds.push_back(peer_kind<Cub<CubPeer::Bins::kStock>>("CUB as shipped, keeps 6 MiB of 2 MiB"));
#else
  std::printf("no CUB: built without a CUDA toolkit\n");
#endif
  const Status done = compare_allocators(ground, kinds, options.value());
  if (done.ok()) return 0;
  std::fprintf(stderr, "allocator_bench: %s\n", done.message().c_str());
  return 4;
}
