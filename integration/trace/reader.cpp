// SPDX-License-Identifier: Apache-2.0
// The table of formats and the choice among them. A format is tried in the order of the table, the
// strictest tests first.
#include "integration/trace/reader.hpp"

#include "integration/trace/formats.hpp"
#include "integration/trace/spwt_format.hpp"

#include <new>
#include <utility>

namespace spillway {
namespace {

constexpr std::size_t kHeadBytes = 64 * 1024;

/// Reports progress after each read of another source.
class ProgressSource final : public ByteSource {
 public:
  ProgressSource(ByteSource& inner, const ReadOptions& options)
      : inner_(inner), options_(options) {}

  Result<std::size_t> read(char* data, std::size_t bytes) override {
    auto count = inner_.read(data, bytes);
    if (options_.progress) options_.progress(inner_.consumed_bytes(), inner_.total_bytes());
    return count;
  }
  const std::string& name() const override { return inner_.name(); }
  std::uint64_t consumed_bytes() const override { return inner_.consumed_bytes(); }
  std::uint64_t total_bytes() const override { return inner_.total_bytes(); }

 private:
  ByteSource& inner_;
  const ReadOptions& options_;
};

std::string list_formats() {
  std::string names;
  for (const TraceFormat& format : trace_formats()) {
    if (!names.empty()) names += ", ";
    names += format.name;
  }
  return names;
}

Result<TraceInfo> read_detected(ByteSource& source, const ReadOptions& options, TraceSink& sink) {
  ProgressSource watched(source, options);
  BufferedInput input(watched);
  SPW_ASSIGN_OR_RETURN(std::string_view head, input.peek(kHeadBytes));
  if (head.empty()) return input.error("expected a trace, found an empty file");
  head = head.substr(0, kHeadBytes);
  for (const TraceFormat& format : trace_formats())
    if (format.matches(head)) return format.read(input, options, sink);
  return input.error("expected one of " + list_formats() + ", found none of them");
}

}  // namespace

const std::vector<TraceFormat>& trace_formats() {
  static const std::vector<TraceFormat> formats = {
      {"spwt", is_spwt, read_spwt},
      {"spwt-text", is_spwt_text, read_spwt_text},
      {"spwt-live", is_spwt_live, read_spwt_live},
      {"pytorch-snapshot", matches_pytorch_snapshot, read_pytorch_snapshot},
      {"dtr-log", matches_dtr_log, read_dtr_log},
      {"checkmate-graph", matches_checkmate_graph, read_checkmate_graph},
      {"layer-csv", matches_layer_csv, read_layer_csv},
  };
  return formats;
}

Result<TraceInfo> read_trace(ByteSource& source, const ReadOptions& options, TraceSink& sink) {
  try {
    return read_detected(source, options, sink);
  } catch (const std::bad_alloc&) {
    return Status(Code::kOutOfMemory, source.name() + ": not enough host memory to read it");
  }
}

Result<TraceInfo> read_trace(const std::string& path, const ReadOptions& options, TraceSink& sink) {
  SPW_ASSIGN_OR_RETURN(const std::unique_ptr<ByteSource> source, open_file_source(path));
  return read_trace(*source, options, sink);
}

}  // namespace spillway
