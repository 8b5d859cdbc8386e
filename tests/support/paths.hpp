// SPDX-License-Identifier: Apache-2.0
// Where this build's tree and program lie. Functions and not macros, so that test objects do not
// depend on the folder they were built in and a compiler cache can share them.
#pragma once

#include <filesystem>

namespace spillway::test {

/// Root of the source tree.
std::filesystem::path source_dir();

/// The spillway program of this build; empty when it is not built.
std::filesystem::path program_path();

}  // namespace spillway::test
