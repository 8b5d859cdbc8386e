// SPDX-License-Identifier: Apache-2.0
// Packed traces: as a file, strictly and with recovery, and as the bare payload of a chunk, which a
// file's checksums would keep a fuzzer away from. What is read must be written and read again as
// the same trace.
#include "integration/trace/byte_source.hpp"
#include "integration/trace/spwt_format.hpp"
#include "integration/trace/spwt_records.hpp"
#include "integration/trace/spwt_writer.hpp"
#include "tests/support/trace_tape.hpp"

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

namespace {

using namespace spillway;

bool read(std::string_view bytes, bool recover, test::TraceTape* tape) {
  const auto source = memory_source(bytes);
  BufferedInput input(*source);
  ReadOptions options;
  options.recover = recover;
  const bool ok = read_spwt(input, options, *tape).ok();
  if (!tape->ids_are_dense()) std::abort();
  return ok;
}

void must_round_trip(const test::TraceTape& tape) {
  StringSink out;
  SpwtWriterOptions options;
  options.chunk_bytes = 200;
  SpwtWriter writer(out, options);
  tape.replay(writer);
  test::TraceTape back;
  if (!writer.finish().ok() || !read(out.bytes(), false, &back) || !(back == tape)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  test::TraceTape strict;
  test::TraceTape recovered;
  if (read(bytes, false, &strict)) must_round_trip(strict);
  read(bytes, true, &recovered);
  must_round_trip(recovered);

  test::TraceTape bare;
  std::string padded(bytes);
  padded.append(kSpwtDecodePadding, '\xff');
  decode_spwt_records(std::string_view(padded).substr(0, size), 1000, 0, bare);
  must_round_trip(bare);
  return 0;
}
