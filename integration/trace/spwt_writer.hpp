// SPDX-License-Identifier: Apache-2.0
// Writes a packed trace (.spwt): chunks of records, an index, an end marker. The same records give
// the same bytes. One thread. The format is docs/trace_format.md.
#pragma once

#include "core/status.hpp"
#include "core/trace.hpp"
#include "integration/trace/byte_sink.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace spillway {

struct SpwtWriterOptions {
  /// A chunk is closed once its payload has this many bytes before packing.
  std::size_t chunk_bytes = std::size_t{256} * 1024;
  /// zstd level of the payloads; 0 leaves them unpacked.
  int zstd_level = 3;
  bool index = true;
};

class SpwtWriter final : public TraceSink {
 public:
  /// `out` must outlive the writer. Nothing is written before the first chunk is full or finish().
  explicit SpwtWriter(ByteSink& out, const SpwtWriterOptions& options = {});
  SpwtWriter(const SpwtWriter&) = delete;
  SpwtWriter& operator=(const SpwtWriter&) = delete;
  SpwtWriter(SpwtWriter&&) = delete;
  SpwtWriter& operator=(SpwtWriter&&) = delete;
  ~SpwtWriter() override;

  void string(StringId id, std::string_view text) override;
  void record(const Record& record) override;

  /// Writes what is left and the end marker; call once. Fails with what went wrong first: the
  /// sink's error, or kInvalidArgument for a string over 4 MiB, a string id out of order, or a
  /// record that names a string never announced.
  Status finish();
  /// The first error so far; records that come after it are dropped.
  [[nodiscard]] const Status& status() const;
  [[nodiscard]] std::uint64_t written_bytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace spillway
