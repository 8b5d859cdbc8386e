// SPDX-License-Identifier: Apache-2.0
// Text traces: what is read must be written and read again as the same trace, and written again as
// the same text.
#include "integration/trace/byte_source.hpp"
#include "integration/trace/spwt_format.hpp"
#include "integration/trace/spwt_text_writer.hpp"
#include "tests/support/trace_tape.hpp"

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

namespace {

using namespace spillway;

bool read(std::string_view text, test::TraceTape* tape) {
  const auto source = memory_source(text);
  BufferedInput input(*source);
  return read_spwt_text(input, {}, *tape).ok();
}

std::string write(const test::TraceTape& tape) {
  StringSink out;
  SpwtTextWriter writer(out);
  tape.replay(writer);
  if (!writer.finish().ok()) std::abort();
  return out.bytes();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  test::TraceTape tape;
  read({reinterpret_cast<const char*>(data), size}, &tape);
  // Also what came before an error must be a proper trace.
  const std::string text = write(tape);
  test::TraceTape back;
  if (!read(text, &back) || !(back == tape) || write(back) != text) std::abort();
  return 0;
}
