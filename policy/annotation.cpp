// SPDX-License-Identifier: Apache-2.0
// Plain substring search: texts are short and each distinct one is read once.
#include "policy/annotation.hpp"

#include <array>
#include <string>

namespace spillway {
namespace {

bool contains(std::string_view text, std::string_view word) {
  return text.find(word) != std::string_view::npos;
}

bool is_letter(char c) { return c >= 'a' && c <= 'z'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::uint16_t layer_after(std::string_view text, std::string_view word) {
  for (std::size_t at = text.find(word); at != std::string_view::npos;
       at = text.find(word, at + 1)) {
    if (at > 0 && is_letter(text[at - 1])) continue;
    std::size_t i = at + word.size();
    if (i < text.size() && (text[i] == '.' || text[i] == '_' || text[i] == '-' || text[i] == ' '))
      ++i;
    std::uint32_t number = 0;
    const std::size_t digits_begin = i;
    while (i < text.size() && is_digit(text[i]) && number < kNoLayer)
      number = number * 10 + static_cast<std::uint32_t>(text[i++] - '0');
    if (i > digits_begin && number < kNoLayer) return static_cast<std::uint16_t>(number);
  }
  return kNoLayer;
}

}  // namespace

Annotation read_annotation(std::string_view original) {
  std::string text(original.substr(0, 512));
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  Annotation result;
  if (contains(text, "backward") || contains(text, "bwd") || contains(text, "backprop")) {
    result.phase = Phase::kBackward;
  } else if (contains(text, "forward") || contains(text, "fwd")) {
    result.phase = Phase::kForward;
  } else if (contains(text, "optimizer") || contains(text, "zero_grad")) {
    result.phase = Phase::kOptimizer;
  }
  constexpr std::array<std::string_view, 5> kWords = {"layers", "layer", "blocks", "block", "h"};
  for (const std::string_view word : kWords) {
    result.layer = layer_after(text, word);
    if (result.layer != kNoLayer) break;
  }
  return result;
}

}  // namespace spillway
