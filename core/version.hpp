// SPDX-License-Identifier: Apache-2.0
// Version and git revision of this build; every printed figure carries them. The texts are
// generated (cmake/SpillwayVersion.cmake), so that a new commit recompiles one small file and
// nothing else.
#pragma once

#include <string_view>

namespace spillway {

/// Release number, "0.1.0".
std::string_view version_text();

/// Abbreviated commit with "-dirty" when tracked files differ from it; "unknown" without git.
std::string_view git_revision();

}  // namespace spillway
