// SPDX-License-Identifier: Apache-2.0
// All allocators side by side in one process: scenarios, turns, tables and JSON. The programs
// differ in the driver underneath only: one that costs nothing, or the machine's.
#pragma once

#include "bench/support/session.hpp"
#include "bench/support/workload.hpp"
#include "core/status.hpp"

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace spillway::bench {

/// One allocator, as functions that make and use it.
struct PeerKind {
  std::string name;
  /// Compared with: the fastest of these is 1 in the column of ratios.
  bool yardstick = false;
  /// Calls of 100 us: only on workloads of few pairs, and only once.
  bool slow = false;
  std::function<std::unique_ptr<Session>(const Ground&, const Workload&)> open;
  std::function<Status(const Ground&, const Workload&)> check;
  std::function<ThreadTimes(const Ground&, std::span<const Workload>)> own_blocks;
  std::function<ThreadTimes(const Ground&, std::span<const Workload>)> foreign_frees;
  std::function<Status(const Ground&, std::span<const Workload>)> check_threads;
  std::function<Metadata(const Ground&)> metadata;
};

template <Peer P>
PeerKind peer_kind(std::string name, bool yardstick = false) {
  PeerKind kind;
  kind.name = std::move(name);
  kind.yardstick = yardstick;
  kind.open = [](const Ground& ground, const Workload& workload) -> std::unique_ptr<Session> {
    return std::make_unique<SessionOf<P>>(ground, workload);
  };
  kind.check = [](const Ground& ground, const Workload& workload) {
    return check_workload<P>(ground, workload);
  };
  kind.own_blocks = [](const Ground& ground, std::span<const Workload> workloads) {
    P peer(ground);
    return run_own_blocks(ground, peer, workloads);
  };
  kind.foreign_frees = [](const Ground& ground, std::span<const Workload> workloads) {
    P peer(ground);
    return run_foreign_frees(ground, peer, workloads, nullptr);
  };
  kind.check_threads = [](const Ground& ground, std::span<const Workload> workloads) -> Status {
    P peer(ground);
    LiveRanges live;
    run_foreign_frees(ground, peer, workloads, &live);
    if (!live.fault().empty()) return {Code::kInternal, "threads: " + live.fault()};
    if (!live.empty()) return {Code::kInternal, "threads: blocks are left at the end"};
    return {};
  };
  kind.metadata = [](const Ground& ground) { return measure_metadata<P>(ground); };
  return kind;
}

struct ComparisonOptions {
  std::string json_path;      // "" writes none
  std::string workload_path;  // "" writes none; what torch_peer reads
  std::string filter;         // part of a scenario's name; "" runs all
  std::string data_dir;       // folder of recorded snapshots; absent ones are made up
  std::string driver;         // what is underneath, in words
  std::size_t repetitions = 11;
  std::size_t pairs = 50000;  // of the scenarios made from sizes
  std::size_t thread_count = 16;
  std::size_t pairs_per_thread = 20000;
  bool smoke = false;     // check only, with few calls
  bool keep_open = true;  // peers take turns with each body; else each has the device for itself
  bool metadata = true;
};

/// --json FILE, --smoke, --repetitions N, --pairs N, --threads N, --filter TEXT, --data DIR,
/// --write-workload FILE over the given defaults. Errors: kInvalidArgument with the usage.
Result<ComparisonOptions> parse_options(int argc, char** argv, ComparisonOptions defaults);

/// Checks every peer on every scenario, then times them unless `smoke`. Prints tables. Errors: a
/// check that failed (peer and block), a file that cannot be written.
Status compare_allocators(const Ground& ground,
                          const std::vector<PeerKind>& kinds,
                          const ComparisonOptions& options);

}  // namespace spillway::bench
