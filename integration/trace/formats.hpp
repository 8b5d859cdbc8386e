// SPDX-License-Identifier: Apache-2.0
// The readers behind reader.hpp, one pair per format: a test on the first bytes and a streaming
// read. Formats written by spillway itself are declared in spwt_format.hpp.
#pragma once

#include "core/status.hpp"
#include "core/trace.hpp"
#include "integration/trace/byte_source.hpp"
#include "integration/trace/reader.hpp"

#include <string_view>

namespace spillway {

bool matches_pytorch_snapshot(std::string_view head);
Result<TraceInfo> read_pytorch_snapshot(BufferedInput& input,
                                        const ReadOptions& options,
                                        TraceSink& sink);

bool matches_dtr_log(std::string_view head);
Result<TraceInfo> read_dtr_log(BufferedInput& input, const ReadOptions& options, TraceSink& sink);

bool matches_checkmate_graph(std::string_view head);
Result<TraceInfo> read_checkmate_graph(BufferedInput& input,
                                       const ReadOptions& options,
                                       TraceSink& sink);

bool matches_layer_csv(std::string_view head);
Result<TraceInfo> read_layer_csv(BufferedInput& input, const ReadOptions& options, TraceSink& sink);

}  // namespace spillway
