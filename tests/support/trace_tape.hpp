// SPDX-License-Identifier: Apache-2.0
// A trace held in memory, strings and records in order of arrival, so that two of them can be
// compared exactly; and a generator of random ones with every kind and extreme values.
#pragma once

#include "core/random.hpp"
#include "core/trace.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace spillway::test {

class TraceTape final : public TraceSink {
 public:
  struct Entry {
    bool is_string = false;
    std::string text;  // of a string
    Record record;
    friend bool operator==(const Entry&, const Entry&) = default;
  };

  void string(StringId id, std::string_view text) override {
    ++string_count_;
    if (id.value != string_count_) ids_are_dense_ = false;
    entries_.push_back({true, std::string(text), {}});
  }
  void record(const Record& record) override {
    ++record_count_;
    entries_.push_back({false, {}, record});
  }
  std::uint32_t add_string(std::string_view text) {
    string(StringId(string_count_ + 1), text);
    return string_count_;
  }

  void replay(TraceSink& sink) const {
    std::uint32_t id = 0;
    for (const Entry& entry : entries_) {
      if (entry.is_string) {
        sink.string(StringId(++id), entry.text);
      } else {
        sink.record(entry.record);
      }
    }
  }

  [[nodiscard]] const std::vector<Entry>& entries() const { return entries_; }
  [[nodiscard]] std::uint64_t record_count() const { return record_count_; }
  [[nodiscard]] std::uint32_t string_count() const { return string_count_; }
  [[nodiscard]] bool ids_are_dense() const { return ids_are_dense_; }
  [[nodiscard]] std::vector<std::string> strings() const {
    std::vector<std::string> texts;
    for (const Entry& entry : entries_)
      if (entry.is_string) texts.push_back(entry.text);
    return texts;
  }
  [[nodiscard]] std::vector<Record> records() const {
    std::vector<Record> records;
    for (const Entry& entry : entries_)
      if (!entry.is_string) records.push_back(entry.record);
    return records;
  }

  friend bool operator==(const TraceTape& a, const TraceTape& b) {
    return a.entries_ == b.entries_;
  }

 private:
  std::vector<Entry> entries_;
  std::uint64_t record_count_ = 0;
  std::uint32_t string_count_ = 0;
  bool ids_are_dense_ = true;
};

inline std::vector<RecordKind> all_record_kinds() {
  std::vector<RecordKind> kinds;
  for (unsigned byte = 0; byte < 256; ++byte)
    if (is_record_kind(static_cast<std::uint8_t>(byte)))
      kinds.push_back(static_cast<RecordKind>(byte));
  return kinds;
}

/// 0, 1, all ones, powers of two and neighbours, small and any numbers.
inline std::uint64_t extreme_number(Random& random) {
  switch (random.below(6)) {
    case 0:
      return random.below(4);
    case 1:
      return ~std::uint64_t{0} - random.below(2);
    case 2:
      return (std::uint64_t{1} << random.below(64)) - random.below(2);
    case 3:
      return random.below(1000);
    default:
      return random.next() >> random.below(64);
  }
}

inline std::string random_text(Random& random) {
  constexpr std::string_view kSyllables[] = {
      "aten::", "mm",   " ",        "\"",     "\\",   "\n",  "#",  "=", "\t", "é",
      "层",     "\xff", "\xc3\x28", "layer.", "\x7f", "\x1", "x9", "0", ",",  "'"};
  std::string text;
  for (std::uint64_t i = random.below(8); i != 0; --i)
    text += kSyllables[random.below(std::size(kSyllables))];
  if (random.below(20) == 0) text += std::string(1, '\0') + "end";
  return text;
}

/// About `record_count` records with the strings they name. Texts may repeat and may be empty.
inline TraceTape random_tape(std::uint64_t seed, std::uint64_t record_count) {
  Random random(seed);
  TraceTape tape;
  const std::vector<RecordKind> kinds = all_record_kinds();
  const auto some_string = [&]() -> std::uint32_t {
    if (random.below(3) == 0) return tape.add_string(random_text(random));
    return static_cast<std::uint32_t>(random.below(tape.string_count() + std::uint64_t{1}));
  };
  std::uint64_t time_ns = random.below(2) == 0 ? 0 : random.next() >> 8;
  for (std::uint64_t i = 0; i < record_count; ++i) {
    if (random.below(16) == 0) tape.add_string(random_text(random));
    Record record;
    record.kind = kinds[random.below(kinds.size())];
    time_ns = random.below(50) == 0 ? extreme_number(random) : time_ns + random.below(2000);
    record.time_ns = time_ns;
    record.flags =
        static_cast<std::uint8_t>(random.below(3) == 0 ? random.below(256) : random.below(32));
    record.device = static_cast<std::uint16_t>(random.below(4) == 0 ? extreme_number(random) : 0);
    record.stream = static_cast<std::uint32_t>(random.below(4) == 0 ? extreme_number(random) : 0);
    record.id = extreme_number(random);
    record.arg = extreme_number(random);
    const StringFields names = string_fields(record.kind);
    if (names.id) record.id = some_string();
    if (names.arg) record.arg = some_string();
    if (names.arg_low) record.arg = (record.arg >> 32 << 32) | some_string();
    if (names.stream) record.stream = some_string();
    tape.record(record);
  }
  return tape;
}

}  // namespace spillway::test
