// SPDX-License-Identifier: Apache-2.0
// The simulated GPU, as a test or a replay uses it: make one, run a program against its driver
// table, read what it found. docs/simulation.md explains the model and shows a scenario in ten
// lines.
#pragma once

#include "core/clock.hpp"
#include "core/status.hpp"
#include "device/driver.hpp"
#include "device/memory_observer.hpp"
#include "device/sim/options.hpp"
#include "device/sim/report.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

namespace spillway::sim {

class Engine;

/// What a run has done, for benches and for comparing two runs.
struct Counters {
  std::uint64_t calls = 0;       // driver calls
  std::uint64_t operations = 0;  // enqueued
  std::uint64_t steps = 0;       // device steps
  std::int64_t now_ns = 0;       // virtual time of the calling host thread
  std::uint64_t device_bytes_used = 0;
  std::uint64_t device_bytes_peak = 0;
  std::uint64_t pinned_bytes_used = 0;  // host memory allocated or registered, in whole pages
  std::uint64_t pinned_bytes_peak = 0;
  std::uint64_t fingerprint = 0;  // of every choice and step: equal runs have equal fingerprints
};

/// One simulated machine: devices, their memory, host threads under its scheduler. Not thread-safe;
/// several may live in one process, each used by one thread of the operating system at a time.
class Simulator {
 public:
  /// kInvalidArgument for options that make no sense; kOutOfMemory when the machine has no address
  /// range that is large enough.
  static Result<std::unique_ptr<Simulator>> create(const Options& options);
  ~Simulator();
  Simulator(const Simulator&) = delete;
  Simulator& operator=(const Simulator&) = delete;

  /// The table. Its functions serve whoever runs inside run().
  [[nodiscard]] const Driver& driver() const;
  [[nodiscard]] MemoryObserver& observer();
  /// Virtual time of the calling host thread.
  [[nodiscard]] const Clock& clock() const;

  /// Runs `program` as the main host thread: driver calls, and threads, mutexes and atomics of
  /// core/ made inside, belong to this simulator. When it returns, queued work is run to its end
  /// and what is still alive is reported. May be called once per reset.
  void run(const std::function<void()>& program);

  /// With Options::foreign_threads, instead of run(): until serve_nobody(), every thread of the
  /// process that has no simulator of its own is a host thread of this one.
  void serve_process();
  static void serve_nobody();
  /// As the end of run(), and what was found. The simulator must not be destroyed: threads may be
  /// inside. Empty, and nothing is done, in the child of a fork and inside a host function.
  [[nodiscard]] std::string end_process();
  /// Held by every driver call of foreign threads; for changes that they must not see halfway.
  [[nodiscard]] std::unique_lock<std::mutex> lock_process();

  /// Everything found so far, in the order of the run.
  [[nodiscard]] std::span<const Report> reports() const;
  [[nodiscard]] bool has_report(ReportKind kind) const;
  /// All reports, one paragraph each, for an assertion's message.
  [[nodiscard]] std::string report_text() const;

  [[nodiscard]] Counters counters() const;
  /// Choices of an exhaustive run (Mode::kReplay): taken, of how many.
  [[nodiscard]] std::vector<std::pair<std::uint32_t, std::uint32_t>> choices() const;

  /// A fresh machine. Cheap when only seed, mode or choices differ.
  Status reset(const Options& options);

 private:
  explicit Simulator(std::unique_ptr<Engine> engine);
  std::unique_ptr<Engine> engine_;
};

}  // namespace spillway::sim
