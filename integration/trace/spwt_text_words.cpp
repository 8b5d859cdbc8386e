// SPDX-License-Identifier: Apache-2.0
// Printing and parsing of single words.
#include "integration/trace/spwt_text_words.hpp"

#include "core/trace.hpp"

#include <array>
#include <charconv>
#include <span>

namespace spillway {
namespace {

constexpr std::uint64_t kNsPerSecond = 1'000'000'000;

// By bit number.
constexpr std::array<std::string_view, 5> kRecordFlags = {
    "read", "write", "create", "preexisting", "inferred"};
constexpr std::array<std::string_view, 10> kBufferMarks = {"exact_required",
                                                           "lossy_ok",
                                                           "boolean",
                                                           "sign_only",
                                                           "never_recompute",
                                                           "contains_collective",
                                                           "inferred",
                                                           "preexisting",
                                                           "rewritten",
                                                           "sparse_values"};
constexpr std::array<std::string_view, 6> kOpMarks = {
    "rng", "in_place", "collective", "never_recompute", "inferred", "rng_restorable"};

void append_number(std::string* out, std::uint64_t value) { *out += std::to_string(value); }

void append_flags(std::string* out, std::span<const std::string_view> names, std::uint64_t flags) {
  bool first = true;
  for (std::size_t bit = 0; bit < names.size(); ++bit) {
    if ((flags >> bit & 1) == 0) continue;
    if (!first) *out += ',';
    *out += names[bit];
    first = false;
  }
  const std::uint64_t rest = flags >> names.size() << names.size();
  if (rest == 0) return;
  if (!first) *out += ',';
  append_hex(out, rest);
}

bool parse_flags(std::string_view text,
                 std::span<const std::string_view> names,
                 std::uint64_t max,
                 std::uint64_t* flags) {
  *flags = 0;
  while (!text.empty()) {
    const std::size_t comma = text.find(',');
    const std::string_view word = text.substr(0, comma);
    text = comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1);
    std::uint64_t bits = 0;
    for (std::size_t bit = 0; bit < names.size(); ++bit)
      if (names[bit] == word) bits = std::uint64_t{1} << bit;
    if (bits == 0 && (word.substr(0, 2) != "0x" || !parse_number(word, max, &bits))) return false;
    *flags |= bits;
  }
  return *flags != 0;
}

/// Bytes of the well-formed UTF-8 character at text[at]; 0 when there is none.
std::size_t utf8_bytes(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) -> unsigned {
    return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0u;
  };
  const auto follows = [&](std::size_t i, unsigned low, unsigned high) {
    return byte(i) >= low && byte(i) <= high;
  };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead <= 0xdf) return follows(1, 0x80, 0xbf) ? 2 : 0;
  if (lead >= 0xe0 && lead <= 0xef) {
    // No overlong forms, no surrogates.
    const unsigned low = lead == 0xe0 ? 0xa0 : 0x80;
    const unsigned high = lead == 0xed ? 0x9f : 0xbf;
    return follows(1, low, high) && follows(2, 0x80, 0xbf) ? 3 : 0;
  }
  if (lead >= 0xf0 && lead <= 0xf4) {
    const unsigned low = lead == 0xf0 ? 0x90 : 0x80;
    const unsigned high = lead == 0xf4 ? 0x8f : 0xbf;
    return follows(1, low, high) && follows(2, 0x80, 0xbf) && follows(3, 0x80, 0xbf) ? 4 : 0;
  }
  return 0;
}

void append_escaped_byte(std::string* out, unsigned char byte) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  *out += "\\x";
  *out += kDigits[byte >> 4];
  *out += kDigits[byte & 0xf];
}

/// A control character: below space, DEL, or U+0080 to U+009F.
bool is_control(std::string_view character) {
  const auto lead = static_cast<unsigned char>(character[0]);
  if (character.size() == 1) return lead < 0x20 || lead == 0x7f;
  return lead == 0xc2 && static_cast<unsigned char>(character[1]) < 0xa0;
}

bool parse_hex_byte(std::string_view digits, char* byte) {
  unsigned value = 0;
  const char* end = digits.data() + digits.size();
  const auto parsed = std::from_chars(digits.data(), end, value, 16);
  if (digits.size() != 2 || parsed.ec != std::errc() || parsed.ptr != end) return false;
  *byte = static_cast<char>(value);
  return true;
}

/// The value called `text` of an enum; false for a text that is no name.
template <typename Enum, typename Parse>
bool parse_name(std::string_view text, Parse parse, Enum* value) {
  *value = parse(text);
  return name_of(*value) == text;
}

Decision unpack_decision(std::uint64_t bits) {
  return {static_cast<Action>(bits & 0xff), static_cast<Codec>(bits >> 8 & 0xff)};
}

std::uint64_t pack_decision(const Decision& decision) {
  return static_cast<std::uint64_t>(decision.action) | static_cast<std::uint64_t>(decision.codec)
                                                           << 8;
}

/// Whether the fields of `form` say everything that is in `bits`.
bool fields_say_all(PackedForm form, std::uint64_t bits) {
  switch (form) {
    case PackedForm::kTag:
      return pack(unpack_tag(bits)) == bits;
    case PackedForm::kOpTag:
      return pack(unpack_op_tag(bits)) == bits;
    case PackedForm::kDecision:
      return bits < 1u << 16 && (bits & 0xff) < static_cast<unsigned>(kActionCount) &&
             bits >> 8 < static_cast<unsigned>(kCodecCount);
    case PackedForm::kNone:
      break;
  }
  return false;
}

template <typename AnyTag>
void append_tag_fields(std::string* out,
                       const AnyTag& tag,
                       std::span<const std::string_view> marks) {
  if (tag.phase != Phase::kUnknown) *out += " phase=" + std::string(name_of(tag.phase));
  if (tag.layer != kNoLayer) {
    *out += " layer=";
    append_number(out, tag.layer);
  }
  if (tag.micro_batch != kNoMicroBatch) {
    *out += " mb=";
    append_number(out, tag.micro_batch);
  }
  if (tag.flags == 0) return;
  *out += " marks=";
  append_flags(out, marks, tag.flags);
}

template <typename AnyTag>
bool set_tag_field(std::string_view key,
                   std::string_view value,
                   std::span<const std::string_view> marks,
                   AnyTag* tag) {
  if (key == "phase") return parse_name(value, parse_phase, &tag->phase);
  std::uint64_t number = 0;
  if (key == "layer") {
    if (!parse_number(value, 0xffff, &number)) return false;
    tag->layer = static_cast<std::uint16_t>(number);
  } else if (key == "mb") {
    if (!parse_number(value, 0xff, &number)) return false;
    tag->micro_batch = static_cast<std::uint8_t>(number);
  } else {
    if (!parse_flags(value, marks, 0xffff, &number)) return false;
    tag->flags = static_cast<std::uint16_t>(number);
  }
  return true;
}

bool is_one_of(std::string_view key, std::initializer_list<std::string_view> keys) {
  for (const std::string_view candidate : keys)
    if (candidate == key) return true;
  return false;
}

}  // namespace

void append_quoted(std::string* out, std::string_view text) {
  *out += '"';
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t bytes = utf8_bytes(text, at);
    const std::string_view character = text.substr(at, bytes == 0 ? 1 : bytes);
    if (character == "\"" || character == "\\") {
      *out += '\\';
      *out += character;
    } else if (character == "\n") {
      *out += "\\n";
    } else if (character == "\t") {
      *out += "\\t";
    } else if (bytes == 0 || is_control(character)) {
      for (const char c : character) append_escaped_byte(out, static_cast<unsigned char>(c));
    } else {
      *out += character;
    }
    at += character.size();
  }
  *out += '"';
}

std::string_view parse_quoted(std::string_view text, std::size_t* at, std::string* value) {
  value->clear();
  std::size_t i = *at + 1;
  for (; i < text.size() && text[i] != '"'; ++i) {
    if (text[i] != '\\') {
      *value += text[i];
      continue;
    }
    if (++i == text.size()) break;
    switch (text[i]) {
      case '"':
      case '\\':
        *value += text[i];
        break;
      case 'n':
        *value += '\n';
        break;
      case 't':
        *value += '\t';
        break;
      case 'x': {
        char byte = 0;
        if (!parse_hex_byte(text.substr(i + 1, 2), &byte))
          return "two hexadecimal digits behind \\x";
        *value += byte;
        i += 2;
        break;
      }
      default:
        return "one of \\\" \\\\ \\n \\t \\xHH";
    }
  }
  if (i >= text.size()) return "a closing quote";
  *at = i + 1;
  return {};
}

bool parse_number(std::string_view text, std::uint64_t max, std::uint64_t* value) {
  const bool hex = text.size() > 2 && text.substr(0, 2) == "0x";
  if (hex) text.remove_prefix(2);
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, *value, hex ? 16 : 10);
  return parsed.ec == std::errc() && parsed.ptr == end && *value <= max;
}

void append_hex(std::string* out, std::uint64_t value) {
  std::array<char, 16> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value, 16).ptr;
  *out += "0x";
  out->append(digits.data(), end);
}

void append_time(std::string* out, std::uint64_t time_ns) {
  append_number(out, time_ns / kNsPerSecond);
  *out += '.';
  // A leading 1 keeps the zeros.
  *out += std::string_view(std::to_string(kNsPerSecond + time_ns % kNsPerSecond)).substr(1);
}

bool parse_time(std::string_view text, std::uint64_t* time_ns) {
  const std::size_t dot = text.find('.');
  if (dot == std::string_view::npos || text.size() - dot != 10) return false;
  std::uint64_t seconds = 0;
  std::uint64_t ns = 0;
  if (text.substr(0, 2) == "0x" || text.substr(dot + 1, 2) == "0x") return false;
  if (!parse_number(text.substr(0, dot), ~std::uint64_t{0} / kNsPerSecond, &seconds)) return false;
  if (!parse_number(text.substr(dot + 1), kNsPerSecond - 1, &ns)) return false;
  if (ns > ~std::uint64_t{0} - seconds * kNsPerSecond) return false;
  *time_ns = seconds * kNsPerSecond + ns;
  return true;
}

void append_record_flags(std::string* out, std::uint8_t flags) {
  append_flags(out, kRecordFlags, flags);
}

bool parse_record_flags(std::string_view text, std::uint8_t* flags) {
  std::uint64_t value = 0;
  if (!parse_flags(text, kRecordFlags, 0xff, &value)) return false;
  *flags = static_cast<std::uint8_t>(value);
  return true;
}

void append_packed(std::string* out, PackedForm form, std::uint64_t bits) {
  if (!fields_say_all(form, bits)) {
    *out += " bits=";
    append_hex(out, bits);
    return;
  }
  if (form == PackedForm::kTag) {
    const Tag tag = unpack_tag(bits);
    *out += " kind=" + std::string(name_of(tag.kind));
    if (tag.dtype != Dtype::kUnknown) *out += " dtype=" + std::string(name_of(tag.dtype));
    append_tag_fields(out, tag, kBufferMarks);
  } else if (form == PackedForm::kOpTag) {
    const OpTag tag = unpack_op_tag(bits);
    *out += " kind=" + std::string(name_of(tag.kind));
    append_tag_fields(out, tag, kOpMarks);
  } else {
    const Decision decision = unpack_decision(bits);
    *out += " action=" + std::string(name_of(decision.action));
    if (decision.codec != Codec::kNone) *out += " codec=" + std::string(name_of(decision.codec));
  }
}

bool PackedParser::knows(std::string_view key) const {
  switch (form_) {
    case PackedForm::kTag:
      return is_one_of(key, {"bits", "kind", "dtype", "phase", "layer", "mb", "marks"});
    case PackedForm::kOpTag:
      return is_one_of(key, {"bits", "kind", "phase", "layer", "mb", "marks"});
    case PackedForm::kDecision:
      return is_one_of(key, {"bits", "action", "codec"});
    case PackedForm::kNone:
      break;
  }
  return false;
}

bool PackedParser::set(std::string_view key, std::string_view value) {
  if (key == "bits") {
    has_bits_ = true;
    return parse_number(value, ~std::uint64_t{0}, &bits_);
  }
  if (form_ == PackedForm::kDecision) {
    if (key == "codec") return parse_name(value, parse_codec, &decision_.codec);
    for (int i = 0; i < kActionCount; ++i) {
      decision_.action = static_cast<Action>(i);
      if (name_of(decision_.action) == value) return true;
    }
    return false;
  }
  if (form_ == PackedForm::kOpTag) {
    if (key == "kind") return parse_name(value, parse_op_kind, &op_tag_.kind);
    return set_tag_field(key, value, kOpMarks, &op_tag_);
  }
  if (key == "kind") return parse_name(value, parse_buffer_kind, &tag_.kind);
  if (key == "dtype") return parse_name(value, parse_dtype, &tag_.dtype);
  return set_tag_field(key, value, kBufferMarks, &tag_);
}

std::uint64_t PackedParser::bits() const {
  if (has_bits_) return bits_;
  if (form_ == PackedForm::kTag) return pack(tag_);
  if (form_ == PackedForm::kOpTag) return pack(op_tag_);
  return pack_decision(decision_);
}

std::uint32_t TextStrings::announce(std::string_view text) {
  const StringId index = texts_.intern(text);
  text_of_.push_back(index);
  if (latest_.size() <= index.index()) latest_.resize(index.index() + 1);
  if (!text.empty()) latest_[index.index()] = count();
  return count();
}

std::uint32_t TextStrings::latest(std::string_view text) const {
  const StringId index = texts_.find(text);
  return index.valid() ? latest_[index.index()] : 0;
}

}  // namespace spillway
