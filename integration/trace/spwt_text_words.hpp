// SPDX-License-Identifier: Apache-2.0
// The words of a text trace: quoted strings, numbers, flags, and the fields of packed tags. Each
// comes as a pair, so that what is printed is read back to the same bits. Grammar:
// docs/trace_format.md, "Text twin".
#pragma once

#include "core/codec.hpp"
#include "core/ids.hpp"
#include "core/string_table.hpp"
#include "core/tag.hpp"
#include "policy/plan.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace spillway {

/// Appends `text` in quotes. Valid UTF-8 stays readable; quotes, backslashes, control characters
/// and bytes that are no UTF-8 are escaped.
void append_quoted(std::string* out, std::string_view text);

/// Reads a quoted string at text[*at] (a quote) and moves *at behind it. Returns "" or what was
/// expected.
std::string_view parse_quoted(std::string_view text, std::size_t* at, std::string* value);

/// Decimal, or hexadecimal behind "0x"; false unless all of `text` is a number of at most `max`.
bool parse_number(std::string_view text, std::uint64_t max, std::uint64_t* value);
void append_hex(std::string* out, std::uint64_t value);

/// Seconds with nine decimals.
void append_time(std::string* out, std::uint64_t time_ns);
bool parse_time(std::string_view text, std::uint64_t* time_ns);

/// Flags of a record: "read,create"; bits without a name as one hexadecimal number at the end.
void append_record_flags(std::string* out, std::uint8_t flags);
bool parse_record_flags(std::string_view text, std::uint8_t* flags);

/// What the 64 bits of a record's argument are made of.
enum class PackedForm : std::uint8_t { kNone, kTag, kOpTag, kDecision };

/// Appends " key=value" for each field that says something; " bits=0x..." when the fields cannot
/// say all.
void append_packed(std::string* out, PackedForm form, std::uint64_t bits);

/// Collects the fields again, in any order.
class PackedParser {
 public:
  explicit PackedParser(PackedForm form) : form_(form) {}
  /// False when `key` is no field of this form.
  [[nodiscard]] bool knows(std::string_view key) const;
  /// False when `value` is not one of the field's. REQUIRES: knows(key).
  bool set(std::string_view key, std::string_view value);
  [[nodiscard]] std::uint64_t bits() const;

 private:
  PackedForm form_;
  bool has_bits_ = false;
  std::uint64_t bits_ = 0;
  Tag tag_;
  OpTag op_tag_;
  Decision decision_;
};

/// Which id a text stands for: that of the last string announced with it. The empty text is always
/// 0.
class TextStrings {
 public:
  std::uint32_t announce(std::string_view text);
  /// 0 when no such text was announced.
  [[nodiscard]] std::uint32_t latest(std::string_view text) const;
  /// REQUIRES: id <= count().
  [[nodiscard]] std::string_view view(std::uint32_t id) const { return texts_.view(text_of_[id]); }
  [[nodiscard]] std::uint32_t count() const {
    return static_cast<std::uint32_t>(text_of_.size() - 1);
  }

 private:
  StringTable texts_;
  std::vector<StringId> text_of_{StringId(0u)};          // by string id
  std::vector<std::uint32_t> latest_{std::uint32_t{0}};  // by index in texts_
};

}  // namespace spillway
