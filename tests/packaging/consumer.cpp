// SPDX-License-Identifier: Apache-2.0
// What a user's first program does with the library: reads a byte count, sends a trace record
// through the topmost library into a sink of its own, and prints the version it was linked to.
#include "core/trace.hpp"
#include "core/units.hpp"
#include "core/version.hpp"
#include "integration/trace/emitter.hpp"

#include <cstdint>
#include <cstdio>
#include <string_view>

namespace {

class CountingSink final : public spillway::TraceSink {
 public:
  void string(spillway::StringId /*id*/, std::string_view /*text*/) override { ++string_count_; }
  void record(const spillway::Record& /*record*/) override { ++record_count_; }
  [[nodiscard]] bool saw_both() const { return string_count_ > 0 && record_count_ > 0; }

 private:
  int string_count_ = 0;
  int record_count_ = 0;
};

}  // namespace

int main() {
  const auto bytes = spillway::parse_bytes("20GiB");
  if (!bytes.ok() || bytes.value() != std::uint64_t{20} << 30) return 1;

  CountingSink sink;
  spillway::TraceEmitter emitter(sink);
  emitter.mark("consumer", "hello");
  if (!sink.saw_both()) return 2;

  const std::string_view version = spillway::version_text();
  std::printf("spillway %.*s\n", static_cast<int>(version.size()), version.data());
  return 0;
}
