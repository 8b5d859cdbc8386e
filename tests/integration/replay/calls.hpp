// SPDX-License-Identifier: Apache-2.0
// Small allocation traces for tests: calls written down one by one, or at random from a seed.
#pragma once

#include "core/random.hpp"
#include "integration/replay/allocation_trace.hpp"
#include "integration/trace/emitter.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

namespace spillway::test {

/// Emits records in the order of calls; storages are numbered from 1.
class Calls {
 public:
  Calls() : emitter_(sink_) {}

  void segment_before(std::uint64_t address, std::uint64_t bytes, std::uint32_t stream = 0) {
    emitter_.record(RecordKind::kMap, address, bytes, stream, kRecordPreexisting);
  }
  void segment(std::uint64_t address, std::uint64_t bytes) {
    emitter_.record(RecordKind::kMap, address, bytes);
  }
  void segment_gone(std::uint64_t address, std::uint64_t bytes) {
    emitter_.record(RecordKind::kUnmap, address, bytes);
  }
  std::uint64_t before(std::uint64_t address, std::uint64_t bytes, std::uint32_t stream = 0) {
    emitter_.alloc(++last_, bytes, stream, kRecordPreexisting);
    emitter_.record(RecordKind::kAddress, last_, address, stream);
    return last_;
  }
  std::uint64_t alloc(std::uint64_t bytes, std::uint32_t stream = 0) {
    emitter_.alloc(++last_, bytes, stream);
    return last_;
  }
  void free(std::uint64_t storage, std::uint32_t stream = 0) { emitter_.free(storage, stream); }
  TraceEmitter& emitter() { return emitter_; }
  AllocationTrace take() { return sink_.take(); }

 private:
  AllocationTraceSink sink_;
  TraceEmitter emitter_;
  std::uint64_t last_ = 0;
};

/// `count` calls on `stream_count` streams, sizes from 1 byte to 64 MiB, more small than large.
inline AllocationTrace random_calls(std::uint64_t seed, int count, std::uint32_t stream_count) {
  Random random(seed);
  Calls calls;
  std::vector<std::pair<std::uint64_t, std::uint32_t>> live;
  for (int i = 0; i < count; ++i) {
    if (!live.empty() && random.below(100) < 48) {
      const std::size_t victim = random.below(live.size());
      calls.free(live[victim].first, live[victim].second);
      live[victim] = live.back();
      live.pop_back();
    } else {
      const std::uint64_t bytes = 1 + random.below(std::uint64_t{1} << (1 + random.below(26)));
      const auto stream = static_cast<std::uint32_t>(random.below(stream_count));
      live.emplace_back(calls.alloc(bytes, stream), stream);
    }
  }
  return calls.take();
}

}  // namespace spillway::test
