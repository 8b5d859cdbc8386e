// SPDX-License-Identifier: Apache-2.0
// The program's commands: each adds itself to the command line and runs from a callback. Exit codes
// are an interface (docs/cli.md).
#pragma once

#include "core/status.hpp"

#include <CLI/App.hpp>

#include <string>

namespace spillway::cli {

enum ExitCode : int { kDone = 0, kUsage = 1, kBadInputExit = 2, kNoPlan = 3, kInternalExit = 4 };

/// The exit code that a failed Status means.
int exit_code_of(const Status& status);

/// What a command leaves for main(): its exit code; and the command line as typed.
struct Session {
  int exit_code = kDone;
  std::string command_line;

  /// Prints `spillway: text` as one line on stderr and sets the exit code. Ok does nothing.
  void report(const Status& status);
};

void add_replay(::CLI::App& app, Session& session);
void add_plan(::CLI::App& app, Session& session);
void add_compare(::CLI::App& app, Session& session);
void add_generate(::CLI::App& app, Session& session);
void add_convert(::CLI::App& app, Session& session);
void add_inspect(::CLI::App& app, Session& session);
void add_doctor(::CLI::App& app, Session& session);
void add_calibrate(::CLI::App& app, Session& session);
void add_pack(::CLI::App& app, Session& session);
void add_codec(::CLI::App& app, Session& session);

}  // namespace spillway::cli
