// SPDX-License-Identifier: Apache-2.0
// Character by character.
#include "core/printable.hpp"

namespace spillway {

std::string printable(std::string_view text, std::size_t length_max) {
  std::string out;
  for (const char c : text.substr(0, length_max)) out.push_back(c >= ' ' && c <= '~' ? c : '?');
  if (text.size() > length_max) out += "...";
  return out;
}

}  // namespace spillway
