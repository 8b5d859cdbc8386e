// SPDX-License-Identifier: Apache-2.0
// A pickle as plain data, and nothing else: numbers, strings, bytes, lists, tuples and dicts. An
// opcode that would import or call something is refused, so a hostile file cannot do more than be
// wrong. Needs no Python and does not recurse. Values take 8 bytes. An object that the pickle
// repeats by memo is stored once, however often it is named.
#pragma once

#include "core/ids.hpp"
#include "core/status.hpp"
#include "core/string_table.hpp"
#include "integration/trace/byte_source.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace spillway {

enum class PickleKind : std::uint8_t {
  kNone = 0,
  kBool = 1,
  kInt = 2,      // 60 bits, in place
  kWideInt = 3,  // up to 64 bits, signed or unsigned
  kBigInt = 4,   // more than 64 bits: its value is not kept
  kFloat = 5,
  kString = 6,
  kBytes = 7,
  kList = 8,
  kTuple = 9,
  kDict = 10,
};

/// Kind in the top 4 bits, payload below. Meaningful together with its document.
struct PickleValue {
  std::uint64_t bits = 0;

  [[nodiscard]] PickleKind kind() const { return static_cast<PickleKind>(bits >> 60); }
  [[nodiscard]] std::uint64_t payload() const { return bits & ((std::uint64_t{1} << 60) - 1); }
  [[nodiscard]] bool is_container() const {
    return kind() >= PickleKind::kList && kind() <= PickleKind::kDict;
  }
  [[nodiscard]] bool is_sequence() const {
    return kind() == PickleKind::kList || kind() == PickleKind::kTuple;
  }
};

class PickleDocument {
 public:
  PickleValue root() const { return root_; }

  std::optional<bool> as_bool(PickleValue value) const;
  /// Any integer that fits; a bool counts as 0 or 1, as in Python.
  std::optional<std::int64_t> as_int(PickleValue value) const;
  std::optional<std::uint64_t> as_uint(PickleValue value) const;
  std::optional<double> as_float(PickleValue value) const;
  /// Text of a string (not of bytes). As found: not necessarily valid UTF-8.
  std::optional<std::string_view> as_string(PickleValue value) const;
  /// Number of a string's text among the document's strings: equal texts have equal ids.
  std::optional<StringId> as_string_id(PickleValue value) const;
  std::string_view text(StringId id) const { return strings_.view(id); }

  /// Items of a sequence or entries of a dict; 0 for anything else.
  std::size_t size(PickleValue value) const {
    if (!value.is_container()) return 0;
    const Container& box = container(value);
    return value.kind() == PickleKind::kDict && box.shape == kNoShape ? box.count / 2 : box.count;
  }
  /// REQUIRES: a sequence.
  std::span<const PickleValue> items(PickleValue sequence) const {
    const Container& box = container(sequence);
    return std::span<const PickleValue>(items_).subspan(box.start, box.count);
  }
  /// REQUIRES: a sequence; i < size().
  PickleValue item(PickleValue sequence, std::size_t i) const {
    return items_[container(sequence).start + i];
  }
  /// REQUIRES: a dict; i < size().
  PickleValue key(PickleValue dict, std::size_t i) const {
    const Container& box = container(dict);
    return box.shape == kNoShape ? items_[box.start + 2 * i]
                                 : shape_keys_[shapes_[box.shape].start + i];
  }
  PickleValue entry(PickleValue dict, std::size_t i) const {
    const Container& box = container(dict);
    return items_[box.start + (box.shape == kNoShape ? 2 * i + 1 : i)];
  }
  /// The entry under a string key (the last one, as Python would keep); nothing when absent or when
  /// `dict` is no dict.
  std::optional<PickleValue> find(PickleValue dict, StringId key_text) const {
    if (dict.kind() != PickleKind::kDict || !key_text.valid()) return std::nullopt;
    const std::uint64_t wanted =
        static_cast<std::uint64_t>(PickleKind::kString) << 60 | key_text.value;
    const Container& box = container(dict);
    const bool shaped = box.shape != kNoShape;
    const PickleValue* keys =
        shaped ? shape_keys_.data() + shapes_[box.shape].start : items_.data() + box.start;
    const std::size_t stride = shaped ? 1 : 2;
    for (std::size_t i = shaped ? box.count : box.count / 2; i-- > 0;)
      if (keys[i * stride].bits == wanted) return items_[box.start + (shaped ? i : 2 * i + 1)];
    return std::nullopt;
  }
  std::optional<PickleValue> find(PickleValue dict, std::string_view key) const;
  /// Id of a key for find(); none when the text does not occur.
  StringId key_id(std::string_view text) const { return strings_.find(text); }

  /// Dense number of a list, tuple or dict, for side tables. REQUIRES: is_container().
  std::size_t container_index(PickleValue value) const {
    return static_cast<std::size_t>(value.payload());
  }
  std::size_t container_count() const { return containers_.size(); }
  /// Byte offset at which the container was opened. REQUIRES: is_container().
  std::uint64_t offset(PickleValue value) const {
    return containers_[container_index(value)].offset;
  }

 private:
  friend class PickleParser;

  /// A run of `items_`. A dict with a shape holds its entries only, its keys are the shape's; any
  /// other dict holds key, entry, key, entry. count <= capacity; the runs do not overlap.
  struct Container {
    std::uint64_t offset = 0;
    std::uint64_t start = 0;
    std::uint32_t count = 0;     // used slots
    std::uint32_t capacity = 0;  // reserved slots
    std::uint32_t shape = kNoShape;
  };
  static constexpr std::uint32_t kNoShape = 0xffffffffu;
  struct Shape {
    std::uint64_t start = 0;  // in shape_keys_
    std::uint32_t count = 0;
  };

  const Container& container(PickleValue value) const {
    return containers_[container_index(value)];
  }

  PickleValue root_;
  StringTable strings_;
  std::vector<Container> containers_;
  std::vector<PickleValue> items_;
  std::vector<Shape> shapes_;
  std::vector<PickleValue> shape_keys_;
  std::vector<std::uint64_t> wide_ints_;
  std::vector<bool> wide_is_negative_;
  std::vector<double> floats_;
};

/// Reads one pickle (protocols 2 to 5) up to its STOP. Errors: kBadInput with file, offset and what
/// was expected.
Result<PickleDocument> parse_pickle(BufferedInput& input);

}  // namespace spillway
