// SPDX-License-Identifier: Apache-2.0
// How each kind of record is laid out on its line of a text trace: which fields stand at fixed
// places, and in which form. All others follow as key=value when they are not zero. Writer and
// reader share it.
#pragma once

#include "core/trace.hpp"
#include "integration/trace/spwt_text_words.hpp"

#include <array>
#include <cstdint>
#include <string_view>

namespace spillway {

inline constexpr std::string_view kTextTraceFirstLine = "# spwt text 1";
/// Two strings of the longest kind, each byte escaped, fit a line.
inline constexpr std::size_t kTextLineBytesMax = 48u << 20;

enum class TextField : std::uint8_t { kId, kArg, kStream };

enum class TextForm : std::uint8_t {
  kNumber,     // 42
  kHex,        // 0x2a
  kTensor,     // #42, a storage or a tensor
  kOp,         // @42
  kString,     // "text", or $42 for a string whose text stands for another one
  kFrame,      // 42 "text": the parent in the high half, the string in the low one
  kDirection,  // h2d, d2h, d2d, or a number
  kPacked,     // key=value for each field
};

struct TextColumn {
  TextField field = TextField::kId;
  TextForm form = TextForm::kNumber;
};

struct TextLine {
  std::array<TextColumn, 3> columns{};
  std::uint8_t column_count = 0;
  PackedForm packed = PackedForm::kNone;

  [[nodiscard]] bool has(TextField field) const;
};

/// REQUIRES: is_record_kind(kind).
TextLine text_line(RecordKind kind);

/// By direction number; 0 has no name.
inline constexpr std::array<std::string_view, 4> kCopyDirections = {"", "h2d", "d2h", "d2d"};

}  // namespace spillway
