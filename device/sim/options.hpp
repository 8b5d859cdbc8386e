// SPDX-License-Identifier: Apache-2.0
// Everything that shapes a run of the simulated GPU. Two runs with equal options and equal programs
// are equal bit for bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace spillway {
struct Calibration;
}

namespace spillway::sim {

/// Who decides what happens next, of all that may: a device stream's next step or a host thread.
enum class Mode : std::uint8_t {
  kEager,   // device work runs as soon as it is allowed to
  kLazy,    // device work runs only when the host cannot go on without it
  kRandom,  // uniformly at random, with a host bias drawn from the seed
  kPct,     // random priorities with `pct_depth` - 1 change points (Burckhardt et al., ASPLOS 2010)
  kReplay,  // `choices`, then the first candidate; what explore_all() drives
  kTimed,   // virtual time of a calibrated device
};
const char* name_of(Mode mode);

/// kFull: memory has bytes, kernels run. kNone: only sizes, clocks and accounting, so that devices
/// and models larger than this machine fit.
enum class Contents : std::uint8_t { kFull, kNone };

/// Which edges count: those that NVIDIA documents, or also those that drivers have been seen to
/// give (cuMemFree, cuMemFreeHost and cuMemUnmap wait for the device).
enum class Strictness : std::uint8_t { kDocumented, kObserved };

/// The twenty behaviours of docs/simulation.md, in its order. Each can be switched off, so that a
/// test can show that it is this behaviour which finds a bug.
enum class Semantic : std::uint8_t {
  kLateStart,            // 1 an operation does nothing at enqueue
  kAnyOrder,             // 2 or happens at once, or in any interleaving
  kPiecewiseSource,      // 3 copies read their source at execution, in pieces
  kGarbageInFlight,      // 4 destinations hold garbage until completion
  kGuardPinned,          // 5 pinned memory of a copy in flight is not accessible to the host
  kFaultUnmapped,        // 6 unmapped or inaccessible addresses fault
  kCheckLifetime,        // 7 unmap, release and free check for unordered work
  kPoison,               // 8 new memory is 0xFF, freed memory 0xDE
  kImmediateReuse,       // 9 freed addresses go to the next allocation at once
  kWaitBindsAtCall,      // 10 a wait binds to the most recent record at the time of the call
  kLegacyStreamJoins,    // 11 the legacy default stream joins blocking streams only
  kLateQuery,            // 12 queries say not-ready for a while after completion
  kCallbackThread,       // 13 host callbacks run on a thread of their own and may not call CUDA
  kLockAcrossCall,       // 14 any call may block: no lock may be held across one
  kFaults,               // 15 fault rules
  kOtherTenant,          // 16 someone else takes memory between a query and an allocation
  kStrictPreconditions,  // 17 misuse that a driver may tolerate is reported
  kLeakCheck,            // 18 what is still alive at the end is reported
  kForkCheck,            // 19 the child of a fork has no CUDA
  kCaptureRules,         // 20 illegal calls during stream capture fail
};
inline constexpr int kSemanticCount = 20;
const char* name_of(Semantic semantic);

class Semantics {
 public:
  [[nodiscard]] bool has(Semantic s) const { return (bits_ >> static_cast<int>(s) & 1u) != 0; }
  void switch_off(Semantic s) { bits_ &= ~(1u << static_cast<int>(s)); }

 private:
  std::uint32_t bits_ = (1u << kSemanticCount) - 1;
};

/// One rule of what goes wrong; text form in faults.hpp. All conditions of a rule must hold.
struct FaultRule {
  enum class Effect : std::uint8_t {
    kFail,        // the call returns `error`
    kFailLate,    // the operation runs into `error` when it executes; a later call returns it
    kSlow,        // the operation takes `factor` times as long (timed mode)
    kStuck,       // the operation never completes; whoever waits for it times out
    kTakeMemory,  // another tenant takes `bytes` of the device before the call is served
  };
  int api = -1;                 // index of the call (Api); -1 any
  std::uint64_t nth = 0;        // only the nth matching call, 1-based; 0 every one
  std::uint64_t bytes_min = 0;  // only calls of at least this size
  double probability = 1;       // seeded
  Effect effect = Effect::kFail;
  int error = 0;  // CUresult
  double factor = 1;
  std::uint64_t bytes = 0;
};

struct Options {
  Mode mode = Mode::kRandom;
  std::uint64_t seed = 0;
  Contents contents = Contents::kFull;
  Strictness strictness = Strictness::kDocumented;
  Semantics semantics;

  int devices = 1;
  std::uint64_t memory_bytes = 64ull << 20;      // per device
  std::uint64_t granularity_bytes = 2ull << 20;  // of cuMemCreate
  std::uint64_t pinned_limit_bytes = 1ull << 40;
  bool vmm_supported = true;

  int pct_depth = 3;
  std::uint64_t pct_steps = 200;       // where change points may fall
  std::vector<std::uint32_t> choices;  // kReplay
  std::uint32_t launch_queue = 1024;   // operations outstanding before an enqueue blocks
  std::uint32_t copy_pieces = 2;       // at least; adversarial modes
  bool foreign_threads = false;  // host threads are not core/'s: serialise calls, schedule nothing
  bool check_kernels = false;    // prove what kernels declare; docs/simulation.md
  std::vector<FaultRule> faults;

  /// kTimed: the device's numbers; memory_bytes and granularity_bytes stay what is said above.
  /// Null: the built-in h200.
  const Calibration* calibration = nullptr;
  int devices_per_root = 1;  // GPUs behind one host link

  /// How to repeat a failing run; printed at the end of every report. %s becomes the seed.
  std::string repeat_command;
};

}  // namespace spillway::sim
