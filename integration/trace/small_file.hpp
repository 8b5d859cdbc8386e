// SPDX-License-Identifier: Apache-2.0
// Configuration files: read whole, bounded.
#pragma once

#include "core/status.hpp"

#include <cstddef>
#include <string>

namespace spillway {

/// The content of `path` (gzip is unpacked). kIo or, above `max_bytes`, kBadInput; both name the
/// path.
Result<std::string> read_small_file(const std::string& path,
                                    std::size_t max_bytes = std::size_t{4} << 20);

}  // namespace spillway
