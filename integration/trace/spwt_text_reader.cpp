// SPDX-License-Identifier: Apache-2.0
// Reads a text trace line by line. Every error names file, offset, line and what was expected
// there.
#include "integration/trace/spwt_format.hpp"
#include "integration/trace/spwt_text_lines.hpp"
#include "integration/trace/spwt_text_words.hpp"
#include "integration/trace/trace_filter.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>

namespace spillway {
namespace {

constexpr std::uint64_t kAnyNumber = ~std::uint64_t{0};
constexpr std::size_t kFoundCharacters = 40;

/// Parses one line. After a failed call, `expected` says what should have stood at `at`.
class LineParser {
 public:
  LineParser(std::string_view line, TextStrings& strings, TraceSink& sink)
      : line_(line), strings_(strings), sink_(sink) {}

  bool parse(std::uint64_t* record_count) {
    skip_blanks();
    if (at_end() || line_[at_] == '#') return true;
    const std::size_t start = at_;
    if (word() == "string") return parse_string_line();
    at_ = start;
    ++*record_count;
    return parse_record();
  }

  [[nodiscard]] const std::string& expected() const { return expected_; }
  [[nodiscard]] std::size_t at() const { return at_; }

 private:
  bool fail(std::size_t at, std::string_view expected) {
    at_ = at;
    expected_ = expected;
    return false;
  }

  void skip_blanks() {
    while (at_ < line_.size() && (line_[at_] == ' ' || line_[at_] == '\t')) ++at_;
  }
  [[nodiscard]] bool at_end() const { return at_ == line_.size(); }

  /// The next word; "" at the end. Stands behind it afterwards.
  std::string_view word() {
    skip_blanks();
    const std::size_t start = at_;
    while (at_ < line_.size() && line_[at_] != ' ' && line_[at_] != '\t') ++at_;
    return line_.substr(start, at_ - start);
  }

  bool number(std::string_view prefix,
              std::uint64_t max,
              std::string_view expected,
              std::uint64_t* value) {
    skip_blanks();
    const std::size_t start = at_;
    std::string_view text = word();
    if (text.substr(0, prefix.size()) != prefix) return fail(start, expected);
    text.remove_prefix(prefix.size());
    return parse_number(text, max, value) || fail(start, expected);
  }

  /// A quoted text, with a blank or the end behind it.
  bool quoted(std::string* text) {
    skip_blanks();
    const std::size_t start = at_;
    if (at_end() || line_[at_] != '"') return fail(start, "a quoted string");
    if (const std::string_view wrong = parse_quoted(line_, &at_, text); !wrong.empty())
      return fail(start, wrong);
    if (text->size() > kTraceStringBytesMax) return fail(start, "a string of at most 4 MiB");
    if (!at_end() && line_[at_] != ' ' && line_[at_] != '\t')
      return fail(at_, "a blank behind a string");
    return true;
  }

  std::uint32_t announce(std::string_view text) {
    const std::uint32_t id = strings_.announce(text);
    sink_.string(StringId(id), text);
    return id;
  }

  bool parse_string_line() {
    std::string text;
    if (!quoted(&text)) return false;
    skip_blanks();
    if (!at_end()) return fail(at_, "the end of the line");
    if (!room_for_string()) return fail(0, "fewer than 2^32 strings");
    announce(text);
    return true;
  }

  [[nodiscard]] bool room_for_string() const { return strings_.count() < StringId::kNoneValue - 1; }

  bool string_ref(std::uint64_t* id) {
    skip_blanks();
    if (!at_end() && line_[at_] == '$')
      return number("$", strings_.count(), "a string announced before", id);
    std::string text;
    const std::size_t start = at_;
    if (!quoted(&text)) return false;
    *id = strings_.latest(text);
    if (*id != 0 || text.empty()) return true;
    if (!room_for_string()) return fail(start, "fewer than 2^32 strings");
    *id = announce(text);
    return true;
  }

  bool direction(std::uint64_t* value) {
    skip_blanks();
    const std::size_t start = at_;
    const std::string_view text = word();
    for (std::size_t i = 1; i < kCopyDirections.size(); ++i) {
      *value = i;
      if (kCopyDirections[i] == text) return true;
    }
    return parse_number(text, kAnyNumber, value) || fail(start, "h2d, d2h, d2d or a number");
  }

  bool column(const TextColumn& column, Record* record) {
    std::uint64_t value = 0;
    const std::uint64_t max = column.field == TextField::kStream ? 0xffffffffu : kAnyNumber;
    switch (column.form) {
      case TextForm::kNumber:
      case TextForm::kHex:
        if (!number("", max, "a number", &value)) return false;
        break;
      case TextForm::kTensor:
        if (!number("#", max, "#NUMBER", &value)) return false;
        break;
      case TextForm::kOp:
        if (!number("@", max, "@NUMBER", &value)) return false;
        break;
      case TextForm::kString:
        if (!string_ref(&value)) return false;
        break;
      case TextForm::kFrame: {
        std::uint64_t parent = 0;
        if (!number("", 0xffffffffu, "the number of the parent frame", &parent)) return false;
        if (!string_ref(&value)) return false;
        value |= parent << 32;
        break;
      }
      case TextForm::kDirection:
        if (!direction(&value)) return false;
        break;
      case TextForm::kPacked:
        return true;  // its fields are among the keys
    }
    set(column.field, value, record);
    return true;
  }

  static void set(TextField field, std::uint64_t value, Record* record) {
    switch (field) {
      case TextField::kId:
        record->id = value;
        break;
      case TextField::kArg:
        record->arg = value;
        break;
      case TextField::kStream:
        record->stream = static_cast<std::uint32_t>(value);
        break;
    }
  }

  bool plain_key(const TextLine& line,
                 std::string_view key,
                 std::string_view value,
                 Record* record) {
    std::uint64_t parsed = 0;
    if (key == "flags") return parse_record_flags(value, &record->flags);
    if (key == "device") {
      if (!parse_number(value, 0xffff, &parsed)) return false;
      record->device = static_cast<std::uint16_t>(parsed);
      return true;
    }
    constexpr std::array<std::pair<std::string_view, TextField>, 3> kKeys = {
        {{"id", TextField::kId}, {"arg", TextField::kArg}, {"stream", TextField::kStream}}};
    for (const auto& [name, field] : kKeys) {
      if (name != key || line.has(field)) continue;
      if (!parse_number(value, field == TextField::kStream ? 0xffffffffu : kAnyNumber, &parsed))
        return false;
      set(field, parsed, record);
      return true;
    }
    return false;
  }

  bool keys(const TextLine& line, Record* record) {
    PackedParser packed(line.packed);
    std::array<std::string_view, 16> seen;
    std::size_t seen_count = 0;
    for (skip_blanks(); !at_end(); skip_blanks()) {
      const std::size_t start = at_;
      const std::string_view text = word();
      const std::size_t equals = text.find('=');
      if (equals == std::string_view::npos) return fail(start, "KEY=VALUE");
      const std::string_view key = text.substr(0, equals);
      const std::string_view value = text.substr(equals + 1);
      const auto* seen_end = seen.begin() + seen_count;
      if (seen_count == seen.size() || std::find(seen.cbegin(), seen_end, key) != seen_end)
        return fail(start, "each key at most once");
      seen[seen_count++] = key;
      const bool good =
          packed.knows(key) ? packed.set(key, value) : plain_key(line, key, value, record);
      if (!good) return fail(start, "a key of this kind of record, with a value that fits it");
    }
    if (line.packed != PackedForm::kNone) record->arg = packed.bits();
    return true;
  }

  bool parse_record() {
    Record record;
    std::size_t start = at_;
    if (!parse_time(word(), &record.time_ns)) return fail(start, "a time as SECONDS.NNNNNNNNN");
    skip_blanks();
    start = at_;
    if (!parse_record_kind(word(), &record.kind)) return fail(start, "a kind of record");
    const TextLine line = text_line(record.kind);
    for (std::size_t i = 0; i < line.column_count; ++i)
      if (!column(line.columns[i], &record)) return false;
    if (!keys(line, &record)) return false;
    sink_.record(record);
    return true;
  }

  std::string_view line_;
  TextStrings& strings_;
  TraceSink& sink_;
  std::size_t at_ = 0;
  std::string expected_;
};

/// What stands at `at`, short and printable.
std::string found_text(std::string_view line, std::size_t at) {
  if (at >= line.size()) return "the end of the line";
  std::string text;
  append_quoted(&text, line.substr(at, kFoundCharacters));
  return text;
}

Result<TraceInfo> read_lines(BufferedInput& input, TraceSink& sink) {
  TraceInfo info;
  info.format = "spwt-text";
  TextStrings strings;
  std::uint64_t line_number = 0;
  for (;;) {
    SPW_ASSIGN_OR_RETURN(const bool ended, input.at_end());
    if (ended) return info;
    const std::uint64_t offset = input.offset();
    SPW_ASSIGN_OR_RETURN(const std::string_view line, input.line(kTextLineBytesMax));
    ++line_number;
    const auto error = [&](std::size_t at, const std::string& expected) {
      return Status(Code::kBadInput,
                    input.source().name() + ": offset " + std::to_string(offset + at) + ": line " +
                        std::to_string(line_number) + ": expected " + expected + ", found " +
                        found_text(line, at));
    };
    if (line_number == 1) {
      if (line != kTextTraceFirstLine)
        return error(0, "\"" + std::string(kTextTraceFirstLine) + "\"");
      continue;
    }
    LineParser parser(line, strings, sink);
    if (!parser.parse(&info.event_count)) return error(parser.at(), parser.expected());
  }
}

}  // namespace

bool is_spwt_text(std::string_view head) {
  constexpr std::string_view kStart = "# spwt text ";
  return head.substr(0, kStart.size()) == kStart;
}

Result<TraceInfo> read_spwt_text(BufferedInput& input,
                                 const ReadOptions& options,
                                 TraceSink& sink) {
  return read_one_device(
      options.device, sink, [&](TraceSink& chosen) { return read_lines(input, chosen); });
}

}  // namespace spillway
