// SPDX-License-Identifier: Apache-2.0
// Small files that the kernel writes, /proc and /sys, read whole and taken apart with care: inside
// a container they are whatever its owner mounted.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace spillway {

/// At most 4 MiB of a file; nothing when it cannot be opened or read, or is longer.
std::optional<std::string> read_system_file(const std::string& path);

/// The digits at the begin of `text`, after blanks; nothing when there are none or they overflow.
std::optional<std::uint64_t> leading_number(std::string_view text, int base = 10);

/// What follows `key` on the line of `text` that begins with it. The key contains its ':' or ' '.
std::optional<std::string_view> value_of_key(std::string_view text, std::string_view key);

/// Takes the first line off `text`, without its end; nothing when there is no more.
std::optional<std::string_view> next_line(std::string_view* text);

/// Takes the first field off `line`: everything up to `separator`, which goes as well.
std::string_view next_field(std::string_view* line, char separator);

}  // namespace spillway
