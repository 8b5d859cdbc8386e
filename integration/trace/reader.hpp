// SPDX-License-Identifier: Apache-2.0
// One door for every trace format: what a file is follows from its content, never from its name.
#pragma once

#include "core/status.hpp"
#include "core/trace.hpp"
#include "integration/trace/byte_source.hpp"

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace spillway {

struct ReadOptions {
  /// Which device of a multi-device file; -1 takes the one with the most events. spillway's own
  /// formats pass on all devices then, and note it.
  int device = -1;
  /// Damaged or cut .spwt files: read what is intact and note what was lost, instead of failing.
  bool recover = false;
  /// Called now and then with consumed and total bytes of the file.
  std::function<void(std::uint64_t, std::uint64_t)> progress;
};

/// What a reader knows beyond the records it sent.
struct TraceInfo {
  std::string format;  // "pytorch-snapshot", "dtr-log", "checkmate-graph", "layer-csv", "spwt",
                       // "spwt-text", "spwt-live"
  std::uint64_t event_count = 0;      // records sent
  std::vector<std::string> inferred;  // one line each: what was concluded rather than read
  std::vector<std::string> notes;     // one line each: what was left out or is odd
};

/// A format: a test on the first bytes (up to 64 KiB, unpacked) and a streaming reader.
struct TraceFormat {
  std::string_view name;
  bool (*matches)(std::string_view head);
  Result<TraceInfo> (*read)(BufferedInput& input, const ReadOptions& options, TraceSink& sink);
};

/// Every format, in the order in which they are tried.
const std::vector<TraceFormat>& trace_formats();

/// Reads `path` into `sink`. Errors: kIo (cannot open), kBadInput (unknown or damaged; text names
/// file, offset and what was expected).
Result<TraceInfo> read_trace(const std::string& path, const ReadOptions& options, TraceSink& sink);
Result<TraceInfo> read_trace(ByteSource& source, const ReadOptions& options, TraceSink& sink);

}  // namespace spillway
