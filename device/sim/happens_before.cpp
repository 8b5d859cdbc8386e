// SPDX-License-Identifier: Apache-2.0
// The edges of happens-before as operations on vector clocks.
#include "device/sim/happens_before.hpp"

#include "core/check.hpp"

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
  return {stream, clock.tick(stream)};
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
  shadow_.access(range, clock(epoch.agent), {call, op, epoch, kind}, out);
}

void HappensBefore::reset() {
  agent_count_ = 0;
  shadow_.reset();
}

}  // namespace spillway::sim
