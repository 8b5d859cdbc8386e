// SPDX-License-Identifier: Apache-2.0
// The suite as a list: plain functions with a sentence each, in groups of one file. Whoever has a
// provider - a real driver, the simulator in one of its modes - runs a group with it.
#pragma once

#include "tests/device/conformance/env.hpp"

#include <vector>

namespace spillway::conformance {

struct Case {
  const char* group;  // "streams", "events", ...
  const char* text;   // what holds, as a sentence
  void (*run)(ConformanceEnv&);
};

/// Adds a case at start-up.
struct Registered {
  Registered(const char* group, const char* text, void (*run)(ConformanceEnv&));
};

/// All cases, by group and then in the order of their file.
const std::vector<Case>& cases();

/// Runs one case in an environment of its own. A failed check or requirement fails the running
/// doctest case and says which conformance case it was; the caller goes on. False when the device
/// is lost (a sticky error), so that nothing more can be run on it.
bool run_case(const Case& which, const Provider& provider);

/// Runs every case of a group, each in an environment of its own; all groups when `group` is null.
void run_conformance(const Provider& provider, const char* group = nullptr);

}  // namespace spillway::conformance

// NOLINTBEGIN(bugprone-macro-parentheses): names being declared take none.
#define SPW_CONFORMANCE(group, function, text)                                         \
  static void function([[maybe_unused]] ::spillway::conformance::ConformanceEnv& env); \
  static const ::spillway::conformance::Registered spw_registered_##function{          \
      group, text, &function};                                                         \
  static void function([[maybe_unused]] ::spillway::conformance::ConformanceEnv& env)
// NOLINTEND(bugprone-macro-parentheses)
