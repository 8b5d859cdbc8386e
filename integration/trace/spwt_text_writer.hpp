// SPDX-License-Identifier: Apache-2.0
// Writes a trace as text, one line per record: the form for reviews, diffs and golden files.
// Nothing is lost: reading it gives the same records and strings in the same order. Grammar:
// docs/trace_format.md.
#pragma once

#include "core/status.hpp"
#include "core/trace.hpp"
#include "integration/trace/byte_sink.hpp"
#include "integration/trace/spwt_layout.hpp"
#include "integration/trace/spwt_text_lines.hpp"
#include "integration/trace/spwt_text_words.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace spillway {

class SpwtTextWriter final : public TraceSink {
 public:
  /// `out` must outlive the writer.
  explicit SpwtTextWriter(ByteSink& out);

  void string(StringId id, std::string_view text) override;
  void record(const Record& record) override;

  /// Writes what is left; call once. Fails with the first error: the sink's, or kInvalidArgument
  /// for a string over 4 MiB or out of order, a record of no known kind, or one that names an
  /// unknown string.
  Status finish();
  [[nodiscard]] const Status& status() const { return status_; }

 private:
  void fail(std::string text);
  void flush();
  [[nodiscard]] bool names_unknown_string(const Record& record) const;
  [[nodiscard]] std::vector<std::uint32_t> strings_of(const Record& record,
                                                      const TextLine& line) const;
  [[nodiscard]] std::size_t count_inline(const std::vector<std::uint32_t>& named) const;
  void announce_pending(std::size_t keep_count);
  void append_string(std::uint32_t id);
  void append_column(const TextColumn& column, const Record& record, PackedForm packed);

  ByteSink& out_;
  Status status_;
  std::string buffer_;
  TextStrings strings_;  // what a reader of the text knows so far
  std::vector<std::string>
      pending_;  // announced to us, not yet in the text; ids follow strings_.count()
  std::uint64_t record_count_ = 0;
};

}  // namespace spillway
