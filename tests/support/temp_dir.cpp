// SPDX-License-Identifier: Apache-2.0
// mkdtemp and its removal; see temp_dir.hpp.
#include "tests/support/temp_dir.hpp"

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <system_error>

namespace spillway::test {

TempDir::TempDir() {
  std::string name = (std::filesystem::temp_directory_path() / "spillway_test_XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed for " + name);
  path_ = name;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace spillway::test
