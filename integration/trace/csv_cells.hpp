// SPDX-License-Identifier: Apache-2.0
// One line of a comma-separated table as cells.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace spillway {

struct CsvCell {
  std::string text;
  std::size_t begin = 0;  // in the line
};

/// Splits at commas, blanks around a cell left out; a cell in double quotes may hold commas, and ""
/// for a quote. Nothing when a quote stays open.
std::optional<std::vector<CsvCell>> split_csv_line(std::string_view line);

/// `text` as a cell that split_csv_line reads back, for any text without line feeds.
std::string csv_cell(std::string_view text);

/// Empty lines and lines that begin with '#'.
bool is_csv_comment(std::string_view line);

/// `text` without the byte order mark that some programs open a file with.
std::string_view without_byte_order_mark(std::string_view text);

}  // namespace spillway
