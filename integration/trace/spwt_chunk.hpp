// SPDX-License-Identifier: Apache-2.0
// One framed chunk of a packed trace: is its header believable, is its payload intact, what is in
// it. Both readers (in order, and by index) go through here. Texts say what was expected; callers
// add where.
#pragma once

#include "integration/trace/spwt_layout.hpp"

#include <memory>
#include <string>
#include <string_view>

namespace spillway {

/// Reads the header at the start of `bytes`. Returns "" or what is wrong with it: too few bytes, no
/// magic, a bad checksum, lengths beyond the limits. After "" the header's lengths can be trusted.
std::string check_spwt_chunk_header(std::string_view bytes, SpwtChunkHeader* header);

class SpwtUnpacker {
 public:
  SpwtUnpacker();
  SpwtUnpacker(const SpwtUnpacker&) = delete;
  SpwtUnpacker& operator=(const SpwtUnpacker&) = delete;
  SpwtUnpacker(SpwtUnpacker&&) = delete;
  SpwtUnpacker& operator=(SpwtUnpacker&&) = delete;
  ~SpwtUnpacker();

  /// Checks `payload` against `header` and unpacks it. Returns "" or what is wrong. Then `raw` is
  /// the payload as its writer built it, with kSpwtDecodePadding readable bytes behind it, valid
  /// until the next call. REQUIRES: check_spwt_chunk_header accepted `header`.
  std::string unpack(const SpwtChunkHeader& header,
                     std::string_view payload,
                     std::string_view* raw);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace spillway
