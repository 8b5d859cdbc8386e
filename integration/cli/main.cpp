// SPDX-License-Identifier: Apache-2.0
// The program: parses the command line, runs one command, turns errors into one line on stderr and
// an exit code.
#include "core/version.hpp"
#include "integration/cli/command.hpp"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <cstdio>
#include <exception>
#include <new>

namespace spillway::cli {

int exit_code_of(const Status& status) {
  switch (status.code()) {
    case Code::kOk:
      return kDone;
    case Code::kInvalidArgument:
    case Code::kNotFound:
    case Code::kUnsupported:
      return kUsage;
    case Code::kBadInput:
    case Code::kIo:
      return kBadInputExit;
    case Code::kInfeasible:
    case Code::kGaveUp:
    case Code::kOutOfMemory:
      return kNoPlan;
    case Code::kInternal:
      return kInternalExit;
  }
  return kInternalExit;
}

void Session::report(const Status& status) {
  if (status.ok()) return;
  exit_code = exit_code_of(status);
  std::fprintf(stderr, "spillway: %s\n", status.message().c_str());
}

namespace {

int run(int argc, char** argv) {
  ::CLI::App app{
      "spillway decides per tensor what a training step keeps, compresses, offloads or recomputes "
      "under a byte budget."};
  app.name("spillway");
  app.set_version_flag("--version", std::string(version_text()));
  app.require_subcommand(1);
  app.footer(
      "Exit codes: 0 done, 1 usage, 2 bad input, 3 no plan fits the budget, 4 internal.\n"
      "First steps: spillway replay TRACE --budget 60%   spillway compare TRACE --budget 60%");
  Session session;
  for (int i = 0; i < argc; ++i)
    session.command_line += (i == 0 ? "" : " ") + std::string(i == 0 ? "spillway" : argv[i]);
  add_replay(app, session);
  add_plan(app, session);
  add_compare(app, session);
  add_generate(app, session);
  add_convert(app, session);
  add_inspect(app, session);
  add_doctor(app, session);
  add_calibrate(app, session);
  add_pack(app, session);
  add_codec(app, session);
  try {
    app.parse(argc, argv);
  } catch (const ::CLI::ParseError& error) {
    const bool asked = error.get_exit_code() == 0;  // --help, --version
    if (asked) return app.exit(error);
    std::fprintf(stderr, "spillway: %s (see spillway --help)\n", error.what());
    return kUsage;
  }
  if (session.exit_code == kDone && std::fflush(stdout) != 0)
    session.report(Status(Code::kIo, "standard output: cannot write"));
  return session.exit_code;
}

}  // namespace
}  // namespace spillway::cli

int main(int argc, char** argv) {
  try {
    return spillway::cli::run(argc, argv);
  } catch (const std::bad_alloc&) {
    std::fputs("spillway: out of memory\n", stderr);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "spillway: internal error: %s\n", error.what());
  }
  return spillway::cli::kInternalExit;
}
