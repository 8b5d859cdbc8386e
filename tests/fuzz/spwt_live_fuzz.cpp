// SPDX-License-Identifier: Apache-2.0
// Live logs, strictly and with recovery. With the checksums set right first, so that a fuzzer gets
// behind them; what is sent must always be a proper trace.
#include "integration/trace/byte_source.hpp"
#include "integration/trace/spwt_format.hpp"
#include "integration/trace/spwt_layout.hpp"
#include "integration/trace/spwt_live_layout.hpp"
#include "integration/trace/spwt_writer.hpp"
#include "tests/support/trace_tape.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

namespace {

using namespace spillway;

void read(std::string_view bytes, bool recover) {
  const auto source = memory_source(bytes);
  BufferedInput input(*source);
  ReadOptions options;
  options.recover = recover;
  test::TraceTape tape;
  static_cast<void>(read_spwt_live(input, options, tape));
  // The writer refuses strings out of order and names of strings that are not there.
  StringSink out;
  SpwtWriter writer(out);
  tape.replay(writer);
  if (!tape.ids_are_dense() || !writer.finish().ok()) std::abort();
}

void set_crc(std::string* bytes, std::size_t from, std::size_t count, std::size_t at) {
  if (bytes->size() < from + at + 4 || bytes->size() < from + count) return;
  std::string crc;
  append_le(&crc, crc32_of(std::string_view(*bytes).substr(from, count)));
  bytes->replace(from + at, 4, crc);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  read(bytes, false);
  read(bytes, true);
  set_crc(&bytes, 0, 20, 20);
  LiveFileHeader file;
  if (bytes.size() < kLiveFileHeaderBytes || !load_live_file_header(bytes, &file).empty()) return 0;
  for (std::size_t at = file.header_bytes; at < bytes.size(); at += file.chunk_bytes) {
    bytes.replace(at,
                  std::min(kLiveChunkMagic.size(), bytes.size() - at),
                  kLiveChunkMagic.substr(0, bytes.size() - at));
    set_crc(&bytes, at, 32, 40);
  }
  read(bytes, false);
  read(bytes, true);
  return 0;
}
