// SPDX-License-Identifier: Apache-2.0
// What goes wrong by order: rules that make the nth call, or one in a hundred, or every large one
// fail, lose its context on the device, crawl, hang, or find the memory gone. A rule is a line:
//   cuMemCreate nth=3 error=CUDA_ERROR_OUT_OF_MEMORY
//   cuMemcpyHtoDAsync bytes>=1MiB probability=0.01 error=719 late
#pragma once

#include "core/status.hpp"
#include "device/driver_types.hpp"
#include "device/sim/op.hpp"
#include "device/sim/options.hpp"

#include <cstdint>
#include <string_view>
#include <vector>

namespace spillway::sim {

class Engine;
enum class Api : std::uint16_t;

/// One rule per line (or per part of a line between ';'), '#' begins a comment:
///   FUNCTION|* [nth=N] [bytes>=SIZE] [probability=P] EFFECT
/// EFFECT: error=NAME|NUMBER [late] | slow=FACTOR | stuck | take=SIZE. `late` goes with errors of
/// the device only (sticky ones); late, slow and stuck with calls that enqueue work. kBadInput with
/// "source: line 3: expected X, found Y".
Result<std::vector<FaultRule>> parse_faults(std::string_view text, std::string_view source);

/// SPILLWAY_SIM_FAULTS: rules when it has a blank or a line end in it, else the path of a file of
/// them; none when it is not set or empty. kIo when the file cannot be read.
Result<std::vector<FaultRule>> faults_from_environment();

/// What the rules let a call carry into the operations that it enqueues.
struct Injected {
  int fail_late = 0;
  double slow_factor = 1;
  bool stuck = false;
};

class Faults {
 public:
  /// The rules of a run, those left out that the options' semantics switch off.
  void reset(const Options& options);
  [[nodiscard]] bool any() const { return !rules_.empty(); }

  /// Every call comes by: what it returns at once, or kSuccess and what it carries. An error of a
  /// lost context is the context's from now on; one of an asynchronous copy shows when it executes.
  cu::Result apply(Engine& e, Api api, std::uint64_t bytes, Injected* carried);
  static void attach(const Injected& carried, Op* op);

  /// Some stream does not go on because of a rule.
  static bool any_stuck(const Engine& e);
  /// A query found work missing: a program that only polls runs into the time-out too.
  void polled(Engine& e);

 private:
  struct Rule {
    FaultRule rule;
    std::uint64_t matches = 0;
  };
  std::vector<Rule> rules_;
  std::uint32_t stuck_polls_ = 0;
};

}  // namespace spillway::sim
