// SPDX-License-Identifier: Apache-2.0
// Makes text from a trace fit for a terminal, a page or a protobuf string: valid UTF-8 without
// control characters.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace spillway {

/// `text` with bytes that are not UTF-8 (overlong forms and surrogates included) and control
/// characters replaced by U+FFFD.
std::string clean_text(std::string_view text);

/// Columns of cleaned text, one per code point.
std::size_t columns_of(std::string_view text);

/// At most `columns` code points of cleaned text; the cut is marked with "..." at the end, or in
/// front with `keep_end`.
std::string shorten(std::string_view text, std::size_t columns, bool keep_end = false);

}  // namespace spillway
