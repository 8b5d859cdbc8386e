// SPDX-License-Identifier: Apache-2.0
// How a test says that it cannot run here: one line on stdout, and an exit code that ctest lists as
// skipped. Only a run without a failed check is reported so; a skip never hides a failure.
#pragma once

#include <string_view>

namespace spillway::test {

/// Prints `skipped: needs <what>` and marks the running test program as skipped.
void report_skipped(std::string_view what);

/// True once report_skipped() was called.
bool was_skipped();

}  // namespace spillway::test
