// SPDX-License-Identifier: Apache-2.0
// Writes plain data as a Python pickle, protocol 2: dicts, lists, tuples, numbers, booleans, text.
// No opcode that imports or calls. Text that repeats is written once and named by memo; so is any
// list that the caller marks. The caller keeps the order of calls right; texts must be UTF-8.
#pragma once

#include "core/status.hpp"
#include "integration/trace/byte_sink.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>

namespace spillway {

class PickleWriter {
 public:
  /// `out` must outlive the writer.
  explicit PickleWriter(ByteSink& out);

  // A dict or list is opened, filled (a dict with text() for each key, then its value) and closed.
  void begin_dict() { put("}("); }
  void end_dict() { put("u"); }
  void begin_list() { put("]("); }
  void end_list() { put("e"); }
  void empty_dict() { put("}"); }
  void empty_list() { put("]"); }
  /// Numbers the object on top of the stack, for same_as().
  std::uint32_t memorise();
  void same_as(std::uint32_t memo);

  void text(std::string_view text);
  void number(std::uint64_t value);
  void signed_number(std::int64_t value);
  void real(double value);
  void flag(bool value) { put(value ? "\x88" : "\x89"); }
  /// A tuple of two numbers.
  void pair(std::uint64_t first, std::uint64_t second);

  /// Ends the pickle; call once. The sink's first error, if there was one.
  Status finish();

 private:
  void put(std::string_view bytes);
  void little_endian(std::uint64_t value, int bytes);

  ByteSink& out_;
  Status status_;
  std::string buffer_;
  std::unordered_map<std::string, std::uint32_t> memo_of_;
  std::uint32_t memo_count_ = 0;
};

}  // namespace spillway
