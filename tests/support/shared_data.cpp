// SPDX-License-Identifier: Apache-2.0
// Look-up of the shared data folder; see shared_data.hpp.
#include "tests/support/shared_data.hpp"

#include "tests/support/paths.hpp"

#include <cstdlib>
#include <system_error>

namespace spillway::test {

std::optional<std::filesystem::path> shared_data_dir() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing here changes the environment.
  const char* named = std::getenv("SPILLWAY_SHARED_DATA");
  const std::filesystem::path dir = named != nullptr && *named != '\0'
                                        ? std::filesystem::path(named)
                                        : source_dir().parent_path() / "shared" / "data";
  std::error_code ignored;
  if (!std::filesystem::is_directory(dir, ignored)) return std::nullopt;
  return dir;
}

}  // namespace spillway::test
