// SPDX-License-Identifier: Apache-2.0
// The edges of happens-before as operations on vector clocks.
#include "device/sim/happens_before.hpp"

#include "core/check.hpp"

#include <algorithm>
#include <cstddef>

namespace spillway::sim {

AgentId HappensBefore::add(AgentInfo info) {
  if (agent_count_ == clocks_.size()) {
    clocks_.emplace_back();
    infos_.emplace_back();
  }
  clocks_[agent_count_].clear();
  infos_[agent_count_] = info;
  return agent_count_++;
}

AgentId HappensBefore::add_host_thread(std::uint64_t id) { return add({false, id}); }

AgentId HappensBefore::add_stream(std::uint64_t stream_id) { return add({true, stream_id}); }

AgentId HappensBefore::add_host_function(AgentId stream) {
  constexpr std::uint64_t kAllSteps = std::uint64_t{1} << 62;
  const AgentId function = add(agent(stream));
  at(function).join(at(stream));
  at(stream).raise(function, kAllSteps);
  functions_.push_back({function, {}});
  return function;
}

void HappensBefore::end_host_function(AgentId function) {
  std::erase_if(functions_, [&](const HostFunction& f) { return f.agent == function; });
}

bool HappensBefore::comes_after_function(Epoch epoch, AgentId function) const {
  for (const HostFunction& f : functions_) {
    if (f.agent != function) continue;
    if (epoch.agent >= f.first_after.size()) return false;
    const std::uint64_t first = f.first_after[epoch.agent];
    return first != 0 && epoch.tick >= first;
  }
  return false;
}

void HappensBefore::note_order_after_functions(AgentId stream, std::uint64_t tick) {
  for (HostFunction& f : functions_) {
    if (f.agent == stream || at(stream).get(f.agent) == 0) continue;
    if (stream >= f.first_after.size()) f.first_after.resize(stream + 1, 0);
    if (f.first_after[stream] == 0) f.first_after[stream] = tick;
  }
}

AgentInfo HappensBefore::agent(AgentId id) const {
  SPW_CHECK_LT(id, agent_count_);
  return infos_[id];
}

VectorClock& HappensBefore::at(AgentId agent) {
  SPW_CHECK_LT(agent, agent_count_);
  return clocks_[agent];
}

const VectorClock& HappensBefore::clock(AgentId agent) const {
  SPW_CHECK_LT(agent, agent_count_);
  return clocks_[agent];
}

Epoch HappensBefore::issue(AgentId stream, AgentId host) {
  VectorClock& clock = at(stream);
  clock.join(at(host));
  const std::uint64_t tick = clock.tick(stream);
  if (!functions_.empty()) note_order_after_functions(stream, tick);
  return {stream, tick};
}

void HappensBefore::record(AgentId stream, AgentId host, VectorClock& event) {
  VectorClock& clock = at(stream);
  clock.join(at(host));
  clock.tick(stream);  // so that a recorded event is never empty, and two records differ
  event = clock;
}

void HappensBefore::wait(AgentId stream, AgentId host, const VectorClock& event) {
  if (event.empty()) return;
  VectorClock& clock = at(stream);
  clock.join(at(host));
  clock.join(event);
}

void HappensBefore::wait(AgentId stream, const VectorClock& event) { at(stream).join(event); }

void HappensBefore::join(AgentId to, AgentId from) {
  if (to != from) at(to).join(at(from));
}

void HappensBefore::join(AgentId to, const VectorClock& from) { at(to).join(from); }

Epoch HappensBefore::host_step(AgentId host) { return {host, at(host).tick(host)}; }

void HappensBefore::release(AgentId from, VectorClock& into) {
  VectorClock& clock = at(from);
  into.join(clock);
  clock.tick(from);
}

void HappensBefore::access(Range range,
                           AccessKind kind,
                           Epoch epoch,
                           const char* call,
                           std::uint64_t op,
                           std::vector<Conflict>& out) {
  const auto known = static_cast<std::ptrdiff_t>(out.size());
  shadow_.access(range, clock(epoch.agent), {call, op, epoch, kind}, out);
  if (functions_.empty()) return;
  const auto late = [&](const Conflict& c) {
    return comes_after_function(c.earlier.epoch, epoch.agent);
  };
  out.erase(std::remove_if(out.begin() + known, out.end(), late), out.end());
}

void HappensBefore::reset() {
  agent_count_ = 0;
  functions_.clear();
  shadow_.reset();
}

}  // namespace spillway::sim
