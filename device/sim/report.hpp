// SPDX-License-Identifier: Apache-2.0
// What the simulated GPU found wrong with a program: one finding, worded for the person who has to
// repair it.
#pragma once

#include <cstdint>
#include <string>

namespace spillway::sim {

enum class ReportKind : std::uint8_t {
  kRace,          // two accesses, at least one a write, that nothing orders
  kLifetime,      // unmap, release or free while unordered work may still use the memory
  kHostTouch,     // the host touched device memory, or pinned memory of a copy in flight
  kOutOfBounds,   // an access leaves its allocation or block
  kUseAfterFree,  // an access to a freed block or allocation
  kUnmapped,      // an access to an address that has no memory or no access rights
  kUndeclared,    // a kernel touches memory that it does not declare
  kMisuse,        // a broken precondition: double free, foreign or destroyed handle, partial unmap
  kCallback,      // a CUDA call inside a host callback
  kLockHeld,      // a lock held across a driver call
  kDeadlock,      // nobody can go on
  kLeak,          // still alive at the end
  kCapture,       // a call that is illegal while a stream is capturing
  kFork,          // a call in the child of a fork
};
const char* name_of(ReportKind kind);

struct Report {
  ReportKind kind = ReportKind::kRace;
  std::string text;  // what happened, between whom, what is missing; ends with the repeat line
  std::uint64_t step = 0;  // of the schedule, for ordering
};

}  // namespace spillway::sim
