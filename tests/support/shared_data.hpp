// SPDX-License-Identifier: Apache-2.0
// Where the recorded traces lie that are not part of the project (they may not be redistributed):
// $SPILLWAY_SHARED_DATA, else ../shared/data beside the source tree.
#pragma once

#include "tests/support/skip.hpp"

#include <filesystem>
#include <optional>

namespace spillway::test {

/// The folder, or nothing when this machine has none.
std::optional<std::filesystem::path> shared_data_dir();

}  // namespace spillway::test

/// Defines `const std::filesystem::path& dir`; without the data, reports the test as skipped and
/// returns from it.
#define SPW_REQUIRE_SHARED_DATA(dir)                                                            \
  const std::optional<std::filesystem::path> dir##_found = ::spillway::test::shared_data_dir(); \
  if (!dir##_found) {                                                                           \
    ::spillway::test::report_skipped("the shared data (set SPILLWAY_SHARED_DATA)");             \
    return;                                                                                     \
  }                                                                                             \
  /* NOLINTNEXTLINE(bugprone-macro-parentheses): a declaration */                               \
  const std::filesystem::path& dir = dir##_found.value()
