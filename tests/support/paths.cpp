// SPDX-License-Identifier: Apache-2.0
// The two paths that CMake hands to this file alone; see paths.hpp.
#include "tests/support/paths.hpp"

namespace spillway::test {

std::filesystem::path source_dir() { return SPILLWAY_SOURCE_DIR; }

std::filesystem::path program_path() { return SPILLWAY_PROGRAM; }

}  // namespace spillway::test
