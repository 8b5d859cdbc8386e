// SPDX-License-Identifier: Apache-2.0
#include "device/sim/options.hpp"

#include "device/sim/report.hpp"

namespace spillway::sim {

const char* name_of(Mode mode) {
  switch (mode) {
    case Mode::kEager:
      return "eager";
    case Mode::kLazy:
      return "lazy";
    case Mode::kRandom:
      return "random";
    case Mode::kPct:
      return "pct";
    case Mode::kReplay:
      return "replay";
    case Mode::kTimed:
      return "timed";
  }
  return "?";
}

const char* name_of(Semantic semantic) {
  static constexpr const char* kNames[kSemanticCount] = {"late-start",
                                                         "any-order",
                                                         "piecewise-source",
                                                         "garbage-in-flight",
                                                         "guard-pinned",
                                                         "fault-unmapped",
                                                         "check-lifetime",
                                                         "poison",
                                                         "immediate-reuse",
                                                         "wait-binds",
                                                         "legacy-stream-joins",
                                                         "late-query",
                                                         "callback-thread",
                                                         "lock-across-call",
                                                         "faults",
                                                         "other-tenant",
                                                         "strict-preconditions",
                                                         "leak-check",
                                                         "fork-check",
                                                         "capture-rules"};
  return kNames[static_cast<int>(semantic)];
}

const char* name_of(ReportKind kind) {
  switch (kind) {
    case ReportKind::kRace:
      return "race";
    case ReportKind::kLifetime:
      return "lifetime";
    case ReportKind::kHostTouch:
      return "host touch";
    case ReportKind::kOutOfBounds:
      return "out of bounds";
    case ReportKind::kUseAfterFree:
      return "use after free";
    case ReportKind::kUnmapped:
      return "unmapped";
    case ReportKind::kUndeclared:
      return "undeclared access";
    case ReportKind::kMisuse:
      return "misuse";
    case ReportKind::kCallback:
      return "call in callback";
    case ReportKind::kLockHeld:
      return "lock held";
    case ReportKind::kDeadlock:
      return "deadlock";
    case ReportKind::kLeak:
      return "leak";
    case ReportKind::kCapture:
      return "capture";
    case ReportKind::kFork:
      return "fork";
  }
  return "?";
}

}  // namespace spillway::sim
