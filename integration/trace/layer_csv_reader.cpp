// SPDX-License-Identifier: Apache-2.0
// A network as a hand-written table, one layer per line: name,bytes,forward_us,backward_us and,
// where known, dtype, params_bytes, workspace_bytes, kind, rng. See docs/input_formats.md for what
// a line becomes.
#include "core/units.hpp"
#include "integration/trace/csv_cells.hpp"
#include "integration/trace/emitter.hpp"
#include "integration/trace/formats.hpp"
#include "integration/trace/op_names.hpp"
#include "integration/trace/utf8.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace spillway {
namespace {

constexpr std::uint64_t kBytesMax = std::uint64_t{1} << 48;
constexpr double kTimeMaxUs = 1e12;
constexpr std::size_t kLayersMax = 65000;  // layers are numbered in 16 bits
constexpr std::size_t kLineMaxBytes = 1024 * 1024;

enum Column : std::uint8_t {
  kName,
  kBytes,
  kForward,
  kBackward,
  kDtype,
  kParams,
  kWorkspace,
  kKind,
  kRng,
  kColumnCount
};
constexpr std::array<std::string_view, kColumnCount> kColumns = {"name",
                                                                 "bytes",
                                                                 "forward_us",
                                                                 "backward_us",
                                                                 "dtype",
                                                                 "params_bytes",
                                                                 "workspace_bytes",
                                                                 "kind",
                                                                 "rng"};
constexpr std::size_t kRequiredColumns = 4;

struct Layer {
  std::string name;
  std::uint64_t bytes = 0;
  std::uint64_t forward_ns = 0;
  std::uint64_t backward_ns = 0;
  std::uint64_t params_bytes = 0;
  std::uint64_t workspace_bytes = 0;
  Dtype dtype = Dtype::kUnknown;
  OpKind kind = OpKind::kUnknown;
  bool rng = false;
};

class LayerCsvReader {
 public:
  LayerCsvReader(BufferedInput& input, TraceSink& sink) : input_(input), out_(sink) {}

  Result<TraceInfo> run() {
    bool header = true;
    for (;;) {
      SPW_ASSIGN_OR_RETURN(const bool ended, input_.at_end());
      if (ended) break;
      offset_ = input_.offset();
      SPW_ASSIGN_OR_RETURN(std::string_view line, input_.line(kLineMaxBytes));
      if (offset_ == 0) line = without_byte_order_mark(line);
      if (is_csv_comment(line)) continue;
      SPW_RETURN_IF_ERROR(header ? read_header(line) : read_layer(line));
      header = false;
    }
    offset_ = input_.offset();
    if (layers_.empty())
      return bad(0, "expected at least one line below the header, found the end of the file");
    emit();
    TraceInfo info;
    info.format = "layer-csv";
    info.event_count = out_.record_count();
    info.inferred.push_back("layers are a chain: each reads the output of the one above it");
    info.inferred.push_back("gradients are as large as the outputs that they belong to");
    info.notes = std::move(notes_);
    return info;
  }

 private:
  Status bad(std::size_t column_begin, const std::string& text) const {
    return {Code::kBadInput,
            input_.source().name() + ": offset " + std::to_string(offset_ + column_begin) + ": " +
                text};
  }
  static std::string quoted(std::string_view text) { return "\"" + clean_utf8(text, 64) + "\""; }

  Status read_header(std::string_view line) {
    const auto cells = split_csv_line(line);
    if (!cells) return bad(0, "expected a header of names between commas, found an open quote");
    cell_count_ = cells->size();
    for (std::size_t i = 0; i < cells->size(); ++i) {
      const CsvCell& cell = (*cells)[i];
      const auto known = std::find(kColumns.begin(), kColumns.end(), cell.text);
      if (known == kColumns.end()) {
        if (i < 64)
          notes_.push_back("column " + quoted(cell.text) + " is not known and was left out");
        continue;
      }
      auto& place = cell_of_[static_cast<std::size_t>(known - kColumns.begin())];
      if (place)
        return bad(cell.begin, "expected each column once, found " + quoted(cell.text) + " again");
      place = i;
    }
    for (std::size_t i = 0; i < kRequiredColumns; ++i)
      if (!cell_of_[i])
        return bad(0, "expected a column " + quoted(kColumns[i]) + " in the header");
    return {};
  }

  /// The text of a column; "" when the table does not have it.
  std::string_view text(const std::vector<CsvCell>& cells, Column column) const {
    return cell_of_[column] ? std::string_view(cells[*cell_of_[column]].text) : std::string_view();
  }

  Status read_bytes(const std::vector<CsvCell>& cells, Column column, std::uint64_t* bytes) const {
    const std::string_view found = text(cells, column);
    if (found.empty() && column >= kRequiredColumns) return {};
    const auto parsed = parse_bytes(found);
    if (!parsed.ok() || parsed.value() > kBytesMax)
      return bad(cells[*cell_of_[column]].begin,
                 "expected " + std::string(kColumns[column]) + " from 0 to 256 TiB, found " +
                     quoted(found));
    *bytes = parsed.value();
    return {};
  }

  Status read_us(const std::vector<CsvCell>& cells, Column column, std::uint64_t* ns) const {
    const std::string_view found = text(cells, column);
    double us = -1;
    const auto [end, error] = std::from_chars(found.data(), found.data() + found.size(), us);
    if (error != std::errc() || end != found.data() + found.size() ||
        !(us >= 0 && us <= kTimeMaxUs))
      return bad(cells[*cell_of_[column]].begin,
                 "expected " + std::string(kColumns[column]) +
                     " to be microseconds from 0 to 1e12, found " + quoted(found));
    *ns = static_cast<std::uint64_t>(us * 1000 + 0.5);
    return {};
  }

  Status read_layer(std::string_view line) {
    const auto cells = split_csv_line(line);
    if (!cells) return bad(0, "expected cells between commas, found an open quote");
    if (cells->size() != cell_count_)
      return bad(0,
                 "expected " + std::to_string(cell_count_) + " cells, found " +
                     std::to_string(cells->size()));
    if (layers_.size() >= kLayersMax)
      return bad(0, "expected at most " + std::to_string(kLayersMax) + " layers, found more");
    Layer layer;
    layer.name = clean_utf8(text(*cells, kName), 256);
    SPW_RETURN_IF_ERROR(read_bytes(*cells, kBytes, &layer.bytes));
    SPW_RETURN_IF_ERROR(read_us(*cells, kForward, &layer.forward_ns));
    SPW_RETURN_IF_ERROR(read_us(*cells, kBackward, &layer.backward_ns));
    SPW_RETURN_IF_ERROR(read_bytes(*cells, kParams, &layer.params_bytes));
    SPW_RETURN_IF_ERROR(read_bytes(*cells, kWorkspace, &layer.workspace_bytes));
    SPW_RETURN_IF_ERROR(read_marks(*cells, &layer));
    layers_.push_back(std::move(layer));
    return {};
  }

  Status read_marks(const std::vector<CsvCell>& cells, Layer* layer) const {
    if (const std::string_view dtype = text(cells, kDtype); !dtype.empty()) {
      layer->dtype = parse_dtype(dtype);
      if (layer->dtype == Dtype::kUnknown)
        return bad(cells[*cell_of_[kDtype]].begin,
                   "expected a dtype such as fp32 or bf16, found " + quoted(dtype));
    }
    const std::string_view kind = text(cells, kKind);
    layer->kind = parse_op_kind(kind);
    const OpNameInfo info = describe_op_name(kind.empty() ? layer->name : kind);
    if (layer->kind == OpKind::kUnknown) layer->kind = info.kind;
    const std::string_view rng = text(cells, kRng);
    if (!rng.empty() && rng != "0" && rng != "1" && rng != "true" && rng != "false" &&
        rng != "yes" && rng != "no")
      return bad(cells[*cell_of_[kRng]].begin,
                 "expected rng to be yes or no, found " + quoted(rng));
    layer->rng = rng.empty() ? info.rng : rng == "1" || rng == "true" || rng == "yes";
    return {};
  }

  // Ids: one for each layer's parameters, output and gradient.
  std::uint64_t params_id(std::size_t layer) const { return 1 + layer; }
  std::uint64_t output_id(std::size_t layer) const { return 1 + layers_.size() + layer; }
  std::uint64_t gradient_id(std::size_t layer) const { return 1 + 2 * layers_.size() + layer; }

  void make(std::uint64_t id,
            std::uint64_t bytes,
            std::size_t layer,
            BufferKind kind,
            Phase phase,
            std::uint8_t flags) {
    out_.alloc(id, bytes, 0, flags);
    Tag tag;
    tag.kind = kind;
    tag.phase = phase;
    tag.dtype = layers_[layer].dtype;
    tag.layer = static_cast<std::uint16_t>(layer);
    if ((flags & kRecordPreexisting) != 0) tag.flags = kPreexisting;
    out_.tag(id, tag);
    out_.name(id, layers_[layer].name);
  }

  void begin_op(std::uint64_t op, std::size_t index, Phase phase) {
    const Layer& layer = layers_[index];
    OpTag tag;
    tag.kind = layer.kind;
    tag.phase = phase;
    tag.layer = static_cast<std::uint16_t>(index);
    if (layer.rng && phase == Phase::kForward) tag.flags |= kOpRng;
    out_.op_begin(op, phase == Phase::kForward ? layer.name : layer.name + " backward", tag);
    if (layer.workspace_bytes != 0)
      out_.record(RecordKind::kOpWorkspace, op, layer.workspace_bytes);
    if (layer.params_bytes != 0) out_.use(op, params_id(index), kRecordRead);
  }

  void end_op(std::uint64_t op, std::uint64_t duration_ns) {
    clock_ns_ += duration_ns;
    out_.set_time_ns(clock_ns_);
    out_.op_end(op);
  }

  void emit() {
    out_.meta("source", "layer-csv");
    out_.meta("times_from", "the table");
    out_.step(0);
    for (std::size_t i = 0; i < layers_.size(); ++i)
      if (layers_[i].params_bytes != 0)
        make(params_id(i),
             layers_[i].params_bytes,
             i,
             BufferKind::kParameter,
             Phase::kUnknown,
             kRecordPreexisting);
    std::uint64_t op = 0;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      begin_op(++op, i, Phase::kForward);
      if (i != 0) out_.use(op, output_id(i - 1), kRecordRead);
      make(output_id(i), layers_[i].bytes, i, BufferKind::kActivation, Phase::kForward, 0);
      out_.use(op, output_id(i), kRecordCreate);
      end_op(op, layers_[i].forward_ns);
    }
    for (std::size_t i = layers_.size(); i-- > 0;) {
      const bool last = i + 1 == layers_.size();
      begin_op(++op, i, Phase::kBackward);
      out_.use(op, output_id(i), kRecordRead);
      if (i != 0) out_.use(op, output_id(i - 1), kRecordRead);
      if (!last) out_.use(op, gradient_id(i), kRecordRead);
      if (i != 0) {
        // A gradient is a temporary of the backward pass, not the gradient of a parameter.
        make(gradient_id(i - 1),
             layers_[i - 1].bytes,
             i - 1,
             BufferKind::kWorkspace,
             Phase::kBackward,
             0);
        out_.use(op, gradient_id(i - 1), kRecordCreate);
      }
      end_op(op, layers_[i].backward_ns);
      out_.free(output_id(i));
      if (!last) out_.free(gradient_id(i));
    }
  }

  BufferedInput& input_;
  TraceEmitter out_;
  std::uint64_t offset_ = 0;  // of the line at work
  std::size_t cell_count_ = 0;
  std::array<std::optional<std::size_t>, kColumnCount> cell_of_;
  std::vector<Layer> layers_;
  std::vector<std::string> notes_;
  std::uint64_t clock_ns_ = 0;
};

}  // namespace

bool matches_layer_csv(std::string_view head) {
  head = without_byte_order_mark(head);
  while (!head.empty()) {
    const std::size_t end = std::min(head.find('\n'), head.size());
    std::string_view line = head.substr(0, end);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    head.remove_prefix(std::min(end + 1, head.size()));
    if (is_csv_comment(line)) continue;
    const auto cells = split_csv_line(line);
    if (!cells) return false;
    const auto has = [&cells](std::string_view name) {
      return std::any_of(
          cells->begin(), cells->end(), [name](const CsvCell& cell) { return cell.text == name; });
    };
    return has("name") && has("bytes") && (has("forward_us") || has("backward_us"));
  }
  return false;
}

Result<TraceInfo> read_layer_csv(BufferedInput& input, const ReadOptions&, TraceSink& sink) {
  return LayerCsvReader(input, sink).run();
}

}  // namespace spillway
