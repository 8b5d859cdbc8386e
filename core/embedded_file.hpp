// SPDX-License-Identifier: Apache-2.0
// A data file that the build put into the library (see cmake/SpillwayEmbed.cmake): calibration
// tables, the report's page. Texts live as long as the program.
#pragma once

#include <optional>
#include <span>
#include <string_view>

namespace spillway {

struct EmbeddedFile {
  std::string_view name;  // file name without its folder, e.g. "h200.json"
  std::string_view text;  // the whole file, unchanged
};

/// Text of the file called `name`, or nothing.
inline std::optional<std::string_view> find_embedded(std::span<const EmbeddedFile> files,
                                                     std::string_view name) {
  for (const EmbeddedFile& file : files) {
    if (file.name == name) return file.text;
  }
  return std::nullopt;
}

}  // namespace spillway
