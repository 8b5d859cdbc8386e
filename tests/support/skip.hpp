// SPDX-License-Identifier: Apache-2.0
// How a test says that it cannot run here: one line on stdout, and an exit code that ctest lists as
// skipped. Only a run without a failed check is reported so; a skip never hides a failure.
#pragma once

#include <string_view>

namespace spillway::test {

/// Prints `skipped: needs <what>` and marks the running test program as skipped.
void report_skipped(std::string_view what);

/// The same for want of a GPU, which most machines lack: `why` follows "needs a GPU: ".
void report_skipped_without_gpu(std::string_view why);

/// True once one of the above was called.
bool was_skipped();
/// True when something else than a GPU was missing.
bool was_skipped_for_more_than_a_gpu();

}  // namespace spillway::test
