// SPDX-License-Identifier: Apache-2.0
// Readers of spillway's own trace formats: the packed archive (.spwt), its text twin and the live
// log. The formats are docs/trace_format.md; the writers are spwt_writer.hpp, spwt_text_writer.hpp
// and spwt_live_writer.hpp.
#pragma once

#include "core/status.hpp"
#include "core/trace.hpp"
#include "integration/trace/byte_source.hpp"
#include "integration/trace/reader.hpp"
#include "integration/trace/spwt_layout.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace spillway {

bool is_spwt(std::string_view head);
/// Every chunk is checked before its records are sent. A file that is cut or damaged is kBadInput;
/// with options.recover what is intact is sent, and what was lost is noted.
Result<TraceInfo> read_spwt(BufferedInput& input, const ReadOptions& options, TraceSink& sink);

bool is_spwt_text(std::string_view head);
Result<TraceInfo> read_spwt_text(BufferedInput& input, const ReadOptions& options, TraceSink& sink);

bool is_spwt_live(std::string_view head);
/// Merges the threads' records by time; each thread's own order is kept, and a kThread record tells
/// where the thread changes. A log whose writer was killed is read up to what it committed, and
/// noted.
Result<TraceInfo> read_spwt_live(BufferedInput& input, const ReadOptions& options, TraceSink& sink);

/// The index of a packed trace, for reading a part of it: found from the end of the file. Fails
/// with kNotFound when the file has none (it was cut, or its writer left it out).
Result<std::vector<SpwtIndexEntry>> load_spwt_index(const std::string& path);

/// Sends the records of the chunk that `entry` describes, and the strings defined in it. Strings
/// defined in earlier chunks are sent as "<lost string N>" when a record names them.
Result<TraceInfo> read_spwt_chunk(const std::string& path,
                                  const SpwtIndexEntry& entry,
                                  TraceSink& sink);

}  // namespace spillway
