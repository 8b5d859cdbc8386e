// SPDX-License-Identifier: Apache-2.0
// UTF-8 well-formedness after table 3-7 of the Unicode standard: no overlong forms, no surrogates,
// nothing past U+10FFFF.
#include "integration/trace/utf8.hpp"

namespace spillway {
std::size_t utf8_character_bytes(std::string_view text) {
  const auto at = [text](std::size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  const auto tail = [&at](std::size_t i) { return (at(i) & 0xc0u) == 0x80u; };
  const unsigned first = at(0);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return tail(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    const bool overlong = first == 0xe0 && at(1) < 0xa0;
    const bool surrogate = first == 0xed && at(1) > 0x9f;
    return tail(1) && tail(2) && !overlong && !surrogate ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    const bool overlong = first == 0xf0 && at(1) < 0x90;
    const bool too_high = first == 0xf4 && at(1) > 0x8f;
    return tail(1) && tail(2) && tail(3) && !overlong && !too_high ? 4 : 0;
  }
  return 0;
}

std::string clean_utf8(std::string_view text, std::size_t max_bytes) {
  constexpr std::string_view kReplacement = "\xef\xbf\xbd";
  std::string clean;
  while (!text.empty()) {
    const std::size_t bytes = utf8_character_bytes(text);
    std::string_view piece = bytes == 0 ? kReplacement : text.substr(0, bytes);
    const auto first = static_cast<unsigned char>(text.front());
    if (first < 0x20 || first == 0x7f) piece = " ";
    if (clean.size() + piece.size() > max_bytes) break;
    clean += piece;
    text.remove_prefix(bytes == 0 ? 1 : bytes);
  }
  return clean;
}

}  // namespace spillway
