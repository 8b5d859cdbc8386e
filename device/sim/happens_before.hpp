// SPDX-License-Identifier: Apache-2.0
// The happens-before engine: vector clocks of host threads and streams, and shadow memory. It
// reports a race whatever order the schedule took, because it compares clocks and not times. Pure
// data: no driver table, no threads; calls come in the order in which the host made them.
#pragma once

#include "device/sim/access.hpp"
#include "device/sim/shadow.hpp"
#include "device/sim/vector_clock.hpp"

#include <cstdint>
#include <vector>

namespace spillway::sim {

/// What an agent is called in reports.
struct AgentInfo {
  bool is_stream = false;
  std::uint64_t id = 0;  // stream: cuStreamGetId; host thread: the simulator's number
};

/// Everything is ordered at the time of the call: an operation's clock is final once it is issued,
/// whenever it may run. Thus all functions are to be called when the API call is made, not when it
/// returns or when the operation executes; a blocking call joins what was issued before it began.
///
///   enqueue   S[s] = S[s] ⊔ H[t], tick    record  as enqueue, then E = S[s]  (a snapshot)
///   wait      S[s] = S[s] ⊔ H[t] ⊔ E      sync    H[t] = H[t] ⊔ E  or  H[t] ⊔ S[s]
///
/// REQUIRES everywhere: agent ids were given out since the last reset.
class HappensBefore {
 public:
  /// A new thread is ordered after nothing: join(child, parent) says that it was started.
  AgentId add_host_thread(std::uint64_t id);
  AgentId add_stream(std::uint64_t stream_id);
  /// The host function that `stream` has just been issued: it comes after what the stream knows
  /// now, and its steps, which are made when it runs, before all that is issued there from now on.
  AgentId add_host_function(AgentId stream);
  /// It has run. REQUIRES: made by add_host_function.
  void end_host_function(AgentId function);
  /// Whether the operation at `epoch` was issued after `function`, which has not ended, and waits
  /// for it.
  [[nodiscard]] bool comes_after_function(Epoch epoch, AgentId function) const;
  [[nodiscard]] AgentInfo agent(AgentId id) const;
  [[nodiscard]] std::uint32_t agent_count() const { return agent_count_; }

  /// An operation is enqueued on `stream` by `host`. Its clock is clock(stream) right after; make
  /// its accesses now.
  Epoch issue(AgentId stream, AgentId host);

  /// cuEventRecord: `event` becomes a snapshot; earlier waits on it keep what they saw. The record
  /// itself lies in the stream, so what follows on the stream comes after `host` too.
  void record(AgentId stream, AgentId host, VectorClock& event);

  /// cuStreamWaitEvent by `host`, bound to the event's newest record at the time of the call. An
  /// event that was never recorded (an empty clock) orders nothing.
  void wait(AgentId stream, AgentId host, const VectorClock& event);
  /// The same without the edge from the calling thread.
  void wait(AgentId stream, const VectorClock& event);

  /// Host synchronisation with a stream, joins of the legacy stream, start and end of threads.
  void join(AgentId to, AgentId from);
  /// Host synchronisation with an event, acquiring a mutex or atomic.
  void join(AgentId to, const VectorClock& from);

  /// A host access or a lifetime call gets a step of its own.
  Epoch host_step(AgentId host);

  /// Releasing a mutex or atomic: `into` collects what `from` has done, and what `from` does next
  /// is not part of it.
  void release(AgentId from, VectorClock& into);

  /// Valid until the next add_host_thread, add_stream or reset.
  [[nodiscard]] const VectorClock& clock(AgentId agent) const;

  /// Access by epoch.agent at `epoch`, with its clock as it is now; appends races to `out`.
  /// REQUIRES: the agent has had no other issue, wait or join since `epoch` was given out, else
  /// later edges would hide races of this access. `call` is a static string.
  void access(Range range,
              AccessKind kind,
              Epoch epoch,
              const char* call,
              std::uint64_t op,
              std::vector<Conflict>& out);

  /// Drops the history of `range`; see Shadow::forget.
  void forget(Range range) { shadow_.forget(range); }

  [[nodiscard]] const Shadow& shadow() const { return shadow_; }

  /// No agents, no history; keeps its memory.
  void reset();

 private:
  // A host function that was issued and has not ended. Its accesses are made late, when operations
  // that come after it may have made theirs: for each stream, the first tick that comes after it.
  struct HostFunction {
    AgentId agent = 0;
    std::vector<std::uint64_t> first_after;  // by agent; 0 none
  };

  AgentId add(AgentInfo info);
  void note_order_after_functions(AgentId stream, std::uint64_t tick);
  [[nodiscard]] VectorClock& at(AgentId agent);

  // INVARIANT: clocks_.size() == infos_.size() >= agent_count_; those above are spare.
  std::vector<VectorClock> clocks_;
  std::vector<AgentInfo> infos_;
  std::uint32_t agent_count_ = 0;
  Shadow shadow_;
  std::vector<HostFunction> functions_;
};

}  // namespace spillway::sim
