// SPDX-License-Identifier: Apache-2.0
// Text from outside, made fit to print: names in traces are always valid UTF-8 on one line.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace spillway {

/// Bytes of the well-formed UTF-8 character at the start of `text`; 0 when there is none. REQUIRES:
/// text is not empty.
std::size_t utf8_character_bytes(std::string_view text);

/// `text` with each byte that is not part of valid UTF-8 replaced by U+FFFD and each control
/// character by a space, cut (at a character) so that at most `max_bytes` bytes remain.
std::string clean_utf8(std::string_view text, std::size_t max_bytes = 1024);

}  // namespace spillway
