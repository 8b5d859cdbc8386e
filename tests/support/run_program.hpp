// SPDX-License-Identifier: Apache-2.0
// Runs a program without a shell and collects what it leaves: exit code, stdout, stderr.
#pragma once

#include <string>
#include <vector>

namespace spillway::test {

struct ProgramRun {
  int exit_code = -1;  // 128 + signal when it was killed
  std::string out;
  std::string err;
};

/// arguments[0] is the program's path. `file_bytes_max` > 0 limits the size of files it may write
/// (as a full disk would).
ProgramRun run_program(const std::vector<std::string>& arguments, long file_bytes_max = 0);

}  // namespace spillway::test
