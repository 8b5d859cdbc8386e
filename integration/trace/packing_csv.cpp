// SPDX-License-Identifier: Apache-2.0
// Gaps (times within a lifetime in which a buffer is not needed) are read past: a buffer then keeps
// its place throughout, which is right and may be higher than need be.
#include "integration/trace/packing_csv.hpp"

#include "integration/trace/csv_cells.hpp"
#include "integration/trace/utf8.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>
#include <unordered_set>
#include <utility>

namespace spillway {
namespace {

constexpr std::size_t kLineMaxBytes = std::size_t{64} * 1024;
constexpr std::size_t kIdMaxBytes = 256;

enum Column : std::uint8_t {
  kId,
  kLower,
  kUpper,
  kSize,
  kAlignment,
  kHint,
  kGaps,
  kOffset,
  kColumnCount
};
constexpr std::array<std::string_view, kColumnCount> kColumns = {
    "id", "lower", "upper", "size", "alignment", "hint", "gaps", "offset"};
constexpr std::size_t kRequiredColumns = 4;

class PackingCsvReader {
 public:
  explicit PackingCsvReader(BufferedInput& input) : input_(input) {}

  Result<PackingFile> run() {
    bool header = true;
    for (;;) {
      SPW_ASSIGN_OR_RETURN(const bool ended, input_.at_end());
      if (ended) break;
      const bool first = input_.offset() == 0;
      ++line_;
      SPW_ASSIGN_OR_RETURN(std::string_view line, input_.line(kLineMaxBytes));
      if (first) line = without_byte_order_mark(line);
      if (is_csv_comment(line)) continue;
      const auto cells = split_csv_line(line);
      if (!cells) return bad("expected cells between commas, found an open quote");
      SPW_RETURN_IF_ERROR(header ? read_header(*cells) : read_buffer(*cells));
      header = false;
    }
    if (header) {
      ++line_;
      return bad("expected a header with id,lower,upper,size, found the end of the file");
    }
    return std::move(file_);
  }

 private:
  Status bad(const std::string& text) const {
    return {Code::kBadInput,
            input_.source().name() + ": line " + std::to_string(line_) + ": " + text};
  }
  static std::string quoted(std::string_view text) { return "\"" + clean_utf8(text, 64) + "\""; }

  Status read_header(const std::vector<CsvCell>& cells) {
    cell_count_ = cells.size();
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const auto known = std::find(kColumns.begin(), kColumns.end(), cells[i].text);
      if (known == kColumns.end()) {
        if (i < 64)
          file_.notes.push_back("column " + quoted(cells[i].text) +
                                " is not known and was left out");
        continue;
      }
      auto& place = cell_of_[static_cast<std::size_t>(known - kColumns.begin())];
      if (place) return bad("expected each column once, found " + quoted(cells[i].text) + " again");
      place = i;
    }
    for (std::size_t i = 0; i < kRequiredColumns; ++i)
      if (!cell_of_[i])
        return bad("expected a header with a column " + quoted(kColumns[i]) + ", found " +
                   quoted(cells.front().text) + (cells.size() > 1 ? " and others" : ""));
    return {};
  }

  /// The text of a column; "" when the table does not have it.
  std::string_view text(const std::vector<CsvCell>& cells, Column column) const {
    return cell_of_[column] ? std::string_view(cells[*cell_of_[column]].text) : std::string_view();
  }

  /// Leaves `value` empty for an empty cell of a column that may be missing.
  Status read_number(const std::vector<CsvCell>& cells,
                     Column column,
                     std::optional<std::uint64_t>* value) const {
    const std::string_view found = text(cells, column);
    if (found.empty() && column >= kRequiredColumns) return {};
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(found.data(), found.data() + found.size(), number);
    if (error != std::errc() || end != found.data() + found.size())
      return bad("expected " + std::string(kColumns[column]) +
                 " to be a whole number from 0 to 2^64 - 1, found " + quoted(found));
    *value = number;
    return {};
  }

  Status read_buffer(const std::vector<CsvCell>& cells) {
    if (cells.size() != cell_count_)
      return bad("expected " + std::to_string(cell_count_) + " cells, found " +
                 std::to_string(cells.size()));
    std::string id(text(cells, kId));
    if (id.empty() || id.size() > kIdMaxBytes)
      return bad("expected an id of 1 to 256 bytes, found " + quoted(id));
    if (!seen_.insert(id).second)
      return bad("expected each id once, found " + quoted(id) + " again");
    std::optional<std::uint64_t> lower, upper, size, alignment, hint, offset;
    SPW_RETURN_IF_ERROR(read_number(cells, kLower, &lower));
    SPW_RETURN_IF_ERROR(read_number(cells, kUpper, &upper));
    SPW_RETURN_IF_ERROR(read_number(cells, kSize, &size));
    SPW_RETURN_IF_ERROR(read_number(cells, kAlignment, &alignment));
    SPW_RETURN_IF_ERROR(read_number(cells, kHint, &hint));
    SPW_RETURN_IF_ERROR(read_number(cells, kOffset, &offset));
    if (*lower > *upper)
      return bad("expected lower to be at most upper, found " + std::to_string(*lower) + " and " +
                 std::to_string(*upper));
    if (alignment && *alignment == 0) return bad("expected an alignment above 0, found \"0\"");
    if (!text(cells, kGaps).empty() && !gaps_noted_) {
      file_.notes.emplace_back(
          "column \"gaps\" was left out: a buffer keeps its place for all of its lifetime");
      gaps_noted_ = true;
    }
    PackBuffer buffer;
    buffer.begin = *lower;
    buffer.end = *upper;
    buffer.bytes = *size;
    buffer.alignment = alignment.value_or(1);
    buffer.hint_offset = hint ? hint : offset;
    file_.problem.buffers.push_back(buffer);
    file_.ids.push_back(std::move(id));
    if (cell_of_[kOffset]) file_.offsets.push_back(offset);
    return {};
  }

  BufferedInput& input_;
  std::uint64_t line_ = 0;  // counted from 1
  std::size_t cell_count_ = 0;
  std::array<std::optional<std::size_t>, kColumnCount> cell_of_;
  std::unordered_set<std::string> seen_;
  bool gaps_noted_ = false;
  PackingFile file_;
};

}  // namespace

Result<PackingFile> read_packing_csv(BufferedInput& input) { return PackingCsvReader(input).run(); }

Status write_packing_csv(const PackingFile& file,
                         const std::vector<std::uint64_t>& offsets,
                         ByteSink& sink) {
  const std::vector<PackBuffer>& buffers = file.problem.buffers;
  const bool aligned = std::any_of(buffers.begin(), buffers.end(), [](const PackBuffer& buffer) {
    return buffer.alignment != 1;
  });
  std::string line =
      aligned ? "id,lower,upper,size,alignment,offset\n" : "id,lower,upper,size,offset\n";
  SPW_RETURN_IF_ERROR(sink.write(line));
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    const PackBuffer& buffer = buffers[i];
    line = csv_cell(file.ids[i]) + "," + std::to_string(buffer.begin) + "," +
           std::to_string(buffer.end) + "," + std::to_string(buffer.bytes) + "," +
           (aligned ? std::to_string(buffer.alignment) + "," : "") + std::to_string(offsets[i]) +
           "\n";
    SPW_RETURN_IF_ERROR(sink.write(line));
  }
  return {};
}

}  // namespace spillway
