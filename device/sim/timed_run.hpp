// SPDX-License-Identifier: Apache-2.0
// The engine in virtual time: what calls cost the host, when operations run on the calibrated
// device, which of several host threads is behind and goes first. No wall clock anywhere.
#pragma once

#include "core/status.hpp"
#include "device/calibration.hpp"
#include "device/sim/timed_model.hpp"

#include <cstdint>
#include <optional>
#include <vector>

namespace spillway::sim {

class Engine;
enum class Api : std::uint16_t;
struct Op;
struct Options;
struct StreamPoint;
struct StreamState;

class TimedRun {
 public:
  /// REQUIRES: options.mode is kTimed.
  Status reset(const Options& options);
  /// Nothing queued is going to run.
  void abandon();
  /// What the device is. REQUIRES: reset() succeeded.
  [[nodiscard]] const DeviceTiming& device() const { return *calibration_->timing; }

  /// A host function or another operation outside the model has completed.
  void completed(Engine& e, StreamState& stream);
  /// The calling thread's time goes on by what the call costs.
  void charge(Engine& e, Api api, std::uint64_t bytes);
  /// For calls that learn only inside how many bytes they handle: the part per byte.
  void charge_bytes(Engine& e, Api api, std::uint64_t bytes);
  /// Something was enqueued at the calling thread's time.
  void enqueued(Engine& e, StreamState& stream);
  /// Lets threads that are behind go first, and the device catch up with the calling thread.
  void point(Engine& e);
  /// The calling thread polls: its time goes on, so that others and the device catch up.
  void yielded(Engine& e);
  /// The calling thread waits. False when nothing can make it true.
  bool wait(Engine& e, StreamPoint target);

  /// The calling thread has waited for that point.
  void arrived(Engine& e, StreamPoint target);

  /// One thing that is not the calling thread: the thread that is furthest behind, or the device's
  /// next event. False when there is neither.
  bool run_other(Engine& e);
  bool run_device(Engine& e);
  /// The runnable thread, other than the caller, that is furthest behind; Engine::kNone if none.
  std::uint32_t next_thread(Engine& e);
  void set_now(Engine& e, std::int64_t now_ns);

 private:
  [[nodiscard]] std::uint64_t cost_ns(Api api, std::uint64_t bytes) const;
  void advance_device(Engine& e, std::int64_t until_ns);
  void finish_events(Engine& e);
  void submit_head(Engine& e, StreamState& stream, std::int64_t now_ns);
  Work work_of(Engine& e, const StreamState& stream, const Op& op) const;
  void catch_up(Engine& e, std::int64_t now_ns);
  void after_completion(Engine& e, StreamState& stream, std::int64_t now_ns, bool wakes_values);

  std::optional<Calibration> calibration_;
  std::optional<TimedModel> model_;
  std::vector<Completion> done_;
  std::vector<std::uint32_t> waiters_;
  std::int64_t last_ns_ = 0;  // time of the thread that ran last
};

}  // namespace spillway::sim
