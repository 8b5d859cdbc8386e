// SPDX-License-Identifier: Apache-2.0
#include "device/sim/faults.hpp"

#include "device/sim/engine.hpp"

#include <algorithm>
#include <limits>

namespace spillway::sim {
namespace {

// How often a program may ask for stuck work before the device gives up.
constexpr std::uint32_t kStuckPollsMax = 1000;

bool is_async_copy(Api api) {
  switch (api) {
    case Api::cuMemcpyAsync:
    case Api::cuMemcpyHtoDAsync:
    case Api::cuMemcpyDtoHAsync:
    case Api::cuMemcpyDtoDAsync:
    case Api::cuMemcpyPeerAsync:
      return true;
    default:
      return false;
  }
}

void take_memory(Engine& e, std::uint64_t bytes) {
  const std::uint32_t context = e.current_context();
  const auto device =
      static_cast<std::uint32_t>(context == Engine::kNone ? 0 : e.contexts[context].device);
  PhysicalMemory& physical = e.memory->physical();
  const std::uint64_t had = physical.other_tenant_bytes(device);
  const std::uint64_t room = std::numeric_limits<std::uint64_t>::max() - had;
  physical.set_other_tenant_bytes(device, had + std::min(bytes, room));
}

}  // namespace

void Faults::reset(const Options& options) {
  rules_.clear();
  stuck_polls_ = 0;
  for (const FaultRule& rule : options.faults) {
    const bool take = rule.effect == FaultRule::Effect::kTakeMemory;
    if (options.semantics.has(take ? Semantic::kOtherTenant : Semantic::kFaults))
      rules_.push_back({rule, 0});
  }
}

cu::Result Faults::apply(Engine& e, Api api, std::uint64_t bytes, Injected* carried) {
  *carried = {};
  cu::Result result = cu::Result::kSuccess;
  for (Rule& r : rules_) {
    const FaultRule& rule = r.rule;
    if (rule.api >= 0 && rule.api != static_cast<int>(api)) continue;
    if (bytes < rule.bytes_min) continue;
    ++r.matches;
    if (rule.nth != 0 && r.matches != rule.nth) continue;
    if (rule.probability < 1 && e.schedule.unit() >= rule.probability) continue;
    switch (rule.effect) {
      case FaultRule::Effect::kFail: {
        const auto error = static_cast<cu::Result>(rule.error);
        if (cu::is_sticky(error) && is_async_copy(api))
          carried->fail_late = rule.error;
        else if (result == cu::Result::kSuccess)
          result = error;
        break;
      }
      case FaultRule::Effect::kFailLate:
        carried->fail_late = rule.error;
        break;
      case FaultRule::Effect::kSlow:
        carried->slow_factor *= rule.factor;
        break;
      case FaultRule::Effect::kStuck:
        carried->stuck = true;
        break;
      case FaultRule::Effect::kTakeMemory:
        take_memory(e, rule.bytes);
        break;
    }
  }
  if (result == cu::Result::kSuccess) return result;
  *carried = {};
  if (cu::is_sticky(result)) e.fail_sticky(result);
  return result;
}

void Faults::attach(const Injected& carried, Op* op) {
  // Lifetime events of a pool are the simulator's own.
  if (op->kind == OpKind::kPoison) return;
  op->fail_late = carried.fail_late;
  op->slow_factor = carried.slow_factor;
  op->stuck = carried.stuck;
}

bool Faults::any_stuck(const Engine& e) {
  for (std::size_t i = 0; i < e.stream_count; ++i) {
    const StreamState& stream = *e.streams[i];
    if (!stream.idle() && stream.queue[stream.head].stuck) return true;
  }
  return false;
}

void Faults::polled(Engine& e) {
  if (any_stuck(e) && ++stuck_polls_ > kStuckPollsMax) e.fail_sticky(cu::Result::kLaunchTimeout);
}

}  // namespace spillway::sim
