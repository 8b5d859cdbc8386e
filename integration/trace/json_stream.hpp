// SPDX-License-Identifier: Apache-2.0
// JSON as events, straight from a BufferedInput: no tree in memory, no recursion, and the offset
// for error texts. Bytes that are not UTF-8 arrive as U+FFFD.
#pragma once

#include "core/status.hpp"
#include "integration/trace/byte_source.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace spillway {

/// What parse_json calls. A failed Status ends the parse and is returned as it is.
class JsonEvents {
 public:
  virtual ~JsonEvents() = default;
  virtual Status key(std::string_view text) = 0;
  virtual Status text(std::string_view text) = 0;
  /// `value` is as near as a double gets; `whole` says that the number is an integer from 0 to 2^64
  /// - 1, given in `unsigned_value`.
  virtual Status number(double value, bool whole, std::uint64_t unsigned_value) = 0;
  /// true, false and null.
  virtual Status other() = 0;
  virtual Status begin_object() = 0;
  virtual Status end_object() = 0;
  virtual Status begin_array() = 0;
  virtual Status end_array() = 0;
};

/// Parses one JSON value that ends the input. Errors: kBadInput with file, offset and what was
/// expected; deeper than 64 levels too.
Status parse_json(BufferedInput& input, JsonEvents& events);

}  // namespace spillway
