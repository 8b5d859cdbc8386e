// SPDX-License-Identifier: Apache-2.0
// UTF-8 checking by lead byte and range of the second byte (Unicode 15, table 3-7).
#include "integration/report/clean_text.hpp"

namespace spillway {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

/// Bytes of the well-formed character that `text` starts with; 0 when there is none.
std::size_t character_bytes(std::string_view text) {
  const auto at = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = at(0);
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  const std::size_t count = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (text.size() < count) return 0;
  const unsigned low = lead == 0xE0 ? 0xA0u : lead == 0xF0 ? 0x90u : 0x80u;
  const unsigned high = lead == 0xED ? 0x9Fu : lead == 0xF4 ? 0x8Fu : 0xBFu;
  if (at(1) < low || at(1) > high) return 0;
  for (std::size_t i = 2; i < count; ++i)
    if (at(i) < 0x80 || at(i) > 0xBF) return 0;
  return count;
}

/// C0, DEL, and C1 as UTF-8 (0xC2 0x80..0x9F).
bool is_control(std::string_view character) {
  const auto lead = static_cast<unsigned char>(character[0]);
  if (character.size() == 1) return lead < 0x20 || lead == 0x7F;
  return lead == 0xC2 && static_cast<unsigned char>(character[1]) < 0xA0;
}

bool continues(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

}  // namespace

std::string clean_text(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t count = character_bytes(text);
    const std::string_view character = text.substr(0, count == 0 ? 1 : count);
    if (count == 0 || is_control(character)) {
      out += kReplacement;
    } else {
      out += character;
    }
    text.remove_prefix(character.size());
  }
  return out;
}

std::size_t columns_of(std::string_view text) {
  std::size_t count = 0;
  for (const char c : text) count += continues(c) ? 0u : 1u;
  return count;
}

std::string shorten(std::string_view text, std::size_t columns, bool keep_end) {
  const std::size_t count = columns_of(text);
  if (count <= columns) return std::string(text);
  constexpr std::string_view kMark = "...";
  if (columns <= kMark.size()) return std::string(kMark.substr(0, columns));
  const std::size_t kept = columns - kMark.size();
  const std::size_t skip = keep_end ? count - kept : kept;  // code points in front of the cut
  std::size_t at = 0;
  for (std::size_t seen = 0; at < text.size(); ++at)
    if (!continues(text[at]) && seen++ == skip) break;
  return keep_end ? std::string(kMark) + std::string(text.substr(at))
                  : std::string(text.substr(0, at)) + std::string(kMark);
}

}  // namespace spillway
