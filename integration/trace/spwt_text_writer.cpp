// SPDX-License-Identifier: Apache-2.0
// A string is announced by the record that first names it when that gives the reader the same ids;
// otherwise by a line of its own.
#include "integration/trace/spwt_text_writer.hpp"

#include <algorithm>

namespace spillway {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{64} * 1024;

std::uint64_t field_of(const Record& record, TextField field) {
  switch (field) {
    case TextField::kId:
      return record.id;
    case TextField::kArg:
      return record.arg;
    case TextField::kStream:
      break;
  }
  return record.stream;
}

std::uint32_t string_in(const TextColumn& column, const Record& record) {
  // kFrame keeps its string in the low half; the others fit it.
  return static_cast<std::uint32_t>(field_of(record, column.field) & 0xffffffffu);
}

bool is_string(TextForm form) { return form == TextForm::kString || form == TextForm::kFrame; }

}  // namespace

SpwtTextWriter::SpwtTextWriter(ByteSink& out) : out_(out) {
  buffer_ = kTextTraceFirstLine;
  buffer_ += '\n';
}

void SpwtTextWriter::fail(std::string text) {
  if (status_.ok()) status_ = Status(Code::kInvalidArgument, std::move(text));
}

void SpwtTextWriter::flush() {
  if (status_.ok()) status_ = out_.write(buffer_);
  buffer_.clear();
}

void SpwtTextWriter::string(StringId id, std::string_view text) {
  if (!status_.ok()) return;
  const std::size_t expected = strings_.count() + pending_.size() + 1;
  if (id.value != expected)
    return fail("string " + std::to_string(id.value) + ": expected id " + std::to_string(expected));
  if (text.size() > kTraceStringBytesMax)
    return fail("string " + std::to_string(id.value) + ": expected at most " +
                std::to_string(kTraceStringBytesMax) + " bytes, found " +
                std::to_string(text.size()));
  pending_.emplace_back(text);
}

bool SpwtTextWriter::names_unknown_string(const Record& record) const {
  const std::uint64_t count = strings_.count() + pending_.size();
  const StringFields names = string_fields(record.kind);
  return (names.id && record.id > count) || (names.arg && record.arg > count) ||
         (names.arg_low && (record.arg & 0xffffffffu) > count) ||
         (names.stream && record.stream > count);
}

/// The pending strings that the record names, each once, in the order of its line.
std::vector<std::uint32_t> SpwtTextWriter::strings_of(const Record& record,
                                                      const TextLine& line) const {
  std::vector<std::uint32_t> named;
  for (std::size_t i = 0; i < line.column_count; ++i) {
    if (!is_string(line.columns[i].form)) continue;
    const std::uint32_t id = string_in(line.columns[i], record);
    if (id > strings_.count() && std::find(named.begin(), named.end(), id) == named.end())
      named.push_back(id);
  }
  return named;
}

/// How many of the last pending strings the record's line can announce: all that it names, or none.
/// They must be the last ones, in order, and each text must be new, or a reader would count
/// otherwise.
std::size_t SpwtTextWriter::count_inline(const std::vector<std::uint32_t>& named) const {
  if (named.size() > pending_.size()) return 0;
  const std::size_t first = pending_.size() - named.size();
  for (std::size_t i = 0; i < named.size(); ++i) {
    if (named[i] != strings_.count() + first + i + 1) return 0;
    const std::string& text = pending_[first + i];
    if (text.empty() || strings_.latest(text) != 0) return 0;
    const auto end = pending_.begin() + static_cast<std::ptrdiff_t>(first + i);
    if (std::find(pending_.begin(), end, text) != end) return 0;
  }
  return named.size();
}

/// Gives all but the last `keep_count` pending strings a line.
void SpwtTextWriter::announce_pending(std::size_t keep_count) {
  const std::size_t count = pending_.size() - keep_count;
  for (std::size_t i = 0; i < count; ++i) {
    buffer_ += "string ";
    append_quoted(&buffer_, pending_[i]);
    buffer_ += '\n';
    strings_.announce(pending_[i]);
  }
  pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(count));
}

void SpwtTextWriter::append_string(std::uint32_t id) {
  if (id > strings_.count()) {
    // Only those that the line announces are still pending, and they come in order.
    strings_.announce(pending_.front());
    pending_.erase(pending_.begin());
  }
  const std::string_view text = strings_.view(id);
  if (strings_.latest(text) == id) {
    append_quoted(&buffer_, text);
  } else {
    buffer_ += '$';
    buffer_ += std::to_string(id);
  }
}

void SpwtTextWriter::append_column(const TextColumn& column,
                                   const Record& record,
                                   PackedForm packed) {
  const std::uint64_t value = field_of(record, column.field);
  if (column.form == TextForm::kPacked) return append_packed(&buffer_, packed, value);
  buffer_ += ' ';
  switch (column.form) {
    case TextForm::kHex:
      return append_hex(&buffer_, value);
    case TextForm::kString:
      return append_string(string_in(column, record));
    case TextForm::kFrame:
      buffer_ += std::to_string(value >> 32);
      buffer_ += ' ';
      return append_string(string_in(column, record));
    case TextForm::kDirection:
      if (value > 0 && value < kCopyDirections.size()) {
        buffer_ += kCopyDirections[value];
        return;
      }
      break;
    case TextForm::kTensor:
      buffer_ += '#';
      break;
    case TextForm::kOp:
      buffer_ += '@';
      break;
    case TextForm::kNumber:
    case TextForm::kPacked:
      break;
  }
  buffer_ += std::to_string(value);
}

void SpwtTextWriter::record(const Record& record) {
  if (!status_.ok()) return;
  if (!is_record_kind(static_cast<std::uint8_t>(record.kind)) || names_unknown_string(record))
    return fail("record " + std::to_string(record_count_) +
                ": expected a known kind and strings announced before");
  const TextLine line = text_line(record.kind);
  announce_pending(count_inline(strings_of(record, line)));
  append_time(&buffer_, record.time_ns);
  buffer_ += ' ';
  buffer_ += name_of(record.kind);
  for (std::size_t i = 0; i < line.column_count; ++i)
    append_column(line.columns[i], record, line.packed);
  const auto append_rest = [&](std::string_view key, std::uint64_t value) {
    if (value == 0) return;
    buffer_ += ' ';
    buffer_ += key;
    buffer_ += '=';
    buffer_ += std::to_string(value);
  };
  if (!line.has(TextField::kId)) append_rest("id", record.id);
  if (!line.has(TextField::kArg)) append_rest("arg", record.arg);
  if (!line.has(TextField::kStream)) append_rest("stream", record.stream);
  append_rest("device", record.device);
  if (record.flags != 0) {
    buffer_ += " flags=";
    append_record_flags(&buffer_, record.flags);
  }
  buffer_ += '\n';
  ++record_count_;
  if (buffer_.size() >= kBufferBytes) flush();
}

Status SpwtTextWriter::finish() {
  if (status_.ok()) announce_pending(0);
  flush();
  return status_;
}

}  // namespace spillway
