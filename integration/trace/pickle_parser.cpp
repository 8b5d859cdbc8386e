// SPDX-License-Identifier: Apache-2.0
// The stack machine of the pickle format, reduced to opcodes that make plain data.
#include "integration/trace/pickle_parser.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <utility>

namespace spillway {
namespace {

constexpr std::size_t kDepthMax = 1000;  // open marks
constexpr std::uint64_t kItemsMax = std::uint64_t{1}
                                    << 31;  // 16 GiB of values: far beyond any snapshot
constexpr std::size_t kShapeKeysMax = 32;
constexpr std::ptrdiff_t kFastBytes = 260;  // opcode, length byte and 255 bytes of text
constexpr std::uint64_t kPayloadMask = (std::uint64_t{1} << 60) - 1;
constexpr PickleValue kUnset{~std::uint64_t{0}};

constexpr PickleValue make(PickleKind kind, std::uint64_t payload) {
  return PickleValue{static_cast<std::uint64_t>(kind) << 60 | (payload & kPayloadMask)};
}

/// Names of the opcodes that are refused, for the message.
constexpr std::array<std::pair<unsigned char, std::string_view>, 35> kRefused = {{
    {'0', "POP"},
    {'1', "POP_MARK"},
    {'2', "DUP"},
    {'F', "FLOAT"},
    {'I', "INT"},
    {'L', "LONG"},
    {'P', "PERSID"},
    {'Q', "BINPERSID"},
    {'R', "REDUCE"},
    {'S', "STRING"},
    {'T', "BINSTRING"},
    {'U', "SHORT_BINSTRING"},
    {'V', "UNICODE"},
    {'b', "BUILD"},
    {'c', "GLOBAL"},
    {'d', "DICT"},
    {'g', "GET"},
    {'i', "INST"},
    {'l', "LIST"},
    {'o', "OBJ"},
    {'p', "PUT"},
    {0x81, "NEWOBJ"},
    {0x82, "EXT1"},
    {0x83, "EXT2"},
    {0x84, "EXT4"},
    {0x8b, "LONG4"},
    {0x8e, "BINBYTES8"},
    {0x8f, "EMPTY_SET"},
    {0x90, "ADDITEMS"},
    {0x91, "FROZENSET"},
    {0x92, "NEWOBJ_EX"},
    {0x93, "STACK_GLOBAL"},
    {0x96, "BYTEARRAY8"},
    {0x97, "NEXT_BUFFER"},
    {0x98, "READONLY_BUFFER"},
}};

std::string describe_refused(unsigned char opcode) {
  for (const auto& [byte, name] : kRefused)
    if (byte == opcode && !name.empty()) return "pickle opcode " + std::string(name) + " refused";
  return "pickle opcode " + std::to_string(opcode) + " refused";
}

}  // namespace

class PickleParser {
 public:
  explicit PickleParser(BufferedInput& input) : input_(input) {}

  Result<PickleDocument> run() {
    SPW_RETURN_IF_ERROR(execute());
    input_.consume(static_cast<std::size_t>(cursor_ - window_));
    return std::move(document_);
  }

 private:
  std::uint64_t here() const {
    return input_.offset() + static_cast<std::uint64_t>(cursor_ - window_);
  }

  /// At the opcode being executed.
  Status bad(const std::string& text) const {
    return {Code::kBadInput,
            input_.source().name() + ": offset " + std::to_string(opcode_offset_) + ": " + text};
  }

  /// Makes `bytes` bytes readable at cursor_.
  Status need(std::size_t bytes) {
    if (static_cast<std::size_t>(limit_ - cursor_) >= bytes) return {};
    constexpr std::size_t kWindowBytes = 128 * 1024;
    constexpr std::size_t kPieceMaxBytes = 64 * 1024 * 1024;
    if (bytes > kPieceMaxBytes)
      return bad("expected a piece of at most 64 MiB, found a length of " + std::to_string(bytes));
    input_.consume(static_cast<std::size_t>(cursor_ - window_));
    SPW_ASSIGN_OR_RETURN(const std::string_view window, input_.peek(std::max(bytes, kWindowBytes)));
    window_ = cursor_ = window.data();
    limit_ = window_ + window.size();
    if (window.size() < bytes)
      return bad("expected " + std::to_string(bytes) +
                 " more bytes, found the end of the file after " + std::to_string(window.size()));
    return {};
  }

  template <int kBytes>
  Status number(std::uint64_t* value) {
    SPW_RETURN_IF_ERROR(need(kBytes));
    *value = 0;
    for (int i = 0; i < kBytes; ++i)
      *value |= static_cast<std::uint64_t>(static_cast<unsigned char>(cursor_[i])) << (8 * i);
    cursor_ += kBytes;
    return {};
  }

  Status push(PickleValue value) {
    stack_.push_back(value);
    return {};
  }

  Status push_int(std::int64_t value) {
    const std::int64_t limit = std::int64_t{1} << 59;
    if (value >= -limit && value < limit)
      return push(make(PickleKind::kInt, static_cast<std::uint64_t>(value)));
    return push_wide(static_cast<std::uint64_t>(value), value < 0);
  }

  Status push_wide(std::uint64_t bits, bool negative) {
    document_.wide_ints_.push_back(bits);
    document_.wide_is_negative_.push_back(negative);
    return push(make(PickleKind::kWideInt, document_.wide_ints_.size() - 1));
  }

  /// Little-endian two's complement of `length` bytes.
  Status push_long(std::size_t length) {
    SPW_RETURN_IF_ERROR(need(length));
    std::uint64_t bits = 0;
    for (std::size_t i = 0; i < std::min<std::size_t>(length, 8); ++i)
      bits |= static_cast<std::uint64_t>(static_cast<unsigned char>(cursor_[i])) << (8 * i);
    const bool negative =
        length != 0 && (static_cast<unsigned char>(cursor_[length - 1]) & 0x80) != 0;
    const char last = length == 0 ? '\0' : cursor_[length - 1];
    cursor_ += length;
    if (length <= 8) {
      if (negative && length < 8) bits |= ~std::uint64_t{0} << (8 * length);
      return push_int(static_cast<std::int64_t>(bits));
    }
    // Nine bytes with a zero on top: an unsigned 64-bit number, such as a high address.
    if (length == 9 && last == '\0') return push_wide(bits, false);
    return push(make(PickleKind::kBigInt, 0));
  }

  Status push_text(PickleKind kind, std::uint64_t length) {
    SPW_RETURN_IF_ERROR(need(length));
    const StringId id = document_.strings_.intern(std::string_view(cursor_, length));
    cursor_ += length;
    return push(make(kind, id.value));
  }

  Result<PickleValue> open(PickleKind kind) {
    if (document_.containers_.size() >= kItemsMax)
      return bad("expected fewer objects, found too many");
    PickleDocument::Container box;
    box.offset = opcode_offset_;
    document_.containers_.push_back(box);
    return make(kind, document_.containers_.size() - 1);
  }

  Status push_empty(PickleKind kind) {
    SPW_ASSIGN_OR_RETURN(const PickleValue value, open(kind));
    return push(value);
  }

  /// Values above the last mark, which it removes; they start at *begin.
  Status above_mark(std::size_t* begin) {
    if (marks_.empty()) return bad("expected a mark on the pickle stack, found none");
    *begin = marks_.back();
    marks_.pop_back();
    return {};
  }

  /// REQUIRES: values belong to no run of items_.
  Status append(PickleValue target, const PickleValue* values, std::size_t count) {
    auto& box = document_.containers_[document_.container_index(target)];
    auto& items = document_.items_;
    if (count == 0) return {};
    if (items.size() + box.count + 2 * count > kItemsMax)
      return bad("expected fewer values, found too many");
    const std::uint64_t end = box.start + box.capacity;
    if (box.count + count > box.capacity) {
      if (box.capacity != 0 && end == items.size()) {
        items.resize(box.start + box.count + count);
        box.capacity = static_cast<std::uint32_t>(box.count + count);
      } else {
        // The first filling takes what it needs; later ones double, so that moving stays linear.
        const std::size_t capacity = box.count == 0 ? count : 2 * (box.count + count);
        const std::uint64_t start = items.size();
        items.resize(start + capacity);
        std::copy_n(items.begin() + static_cast<std::ptrdiff_t>(box.start),
                    box.count,
                    items.begin() + static_cast<std::ptrdiff_t>(start));
        box.start = start;
        box.capacity = static_cast<std::uint32_t>(capacity);
      }
    }
    std::copy_n(values, count, items.begin() + static_cast<std::ptrdiff_t>(box.start + box.count));
    box.count += static_cast<std::uint32_t>(count);
    return {};
  }

  Status make_tuple(std::size_t count) {
    if (stack_.size() - floor() < count)
      return bad("expected " + std::to_string(count) + " values on the pickle stack");
    SPW_ASSIGN_OR_RETURN(const PickleValue value, open(PickleKind::kTuple));
    SPW_RETURN_IF_ERROR(append(value, stack_.data() + (stack_.size() - count), count));
    stack_.resize(stack_.size() - count);
    return push(value);
  }

  /// The stack below the last mark is out of reach for everything but the opcode that takes the
  /// mark.
  std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }

  Status append_from(std::size_t begin) {
    if (begin <= floor() || stack_[begin - 1].kind() != PickleKind::kList)
      return bad("expected a list on the pickle stack below the values to append");
    SPW_RETURN_IF_ERROR(append(stack_[begin - 1], stack_.data() + begin, stack_.size() - begin));
    stack_.resize(begin);
    return {};
  }

  Status set_items_from(std::size_t begin) {
    if (begin <= floor() || stack_[begin - 1].kind() != PickleKind::kDict)
      return bad("expected a dict on the pickle stack below the entries to set");
    const std::size_t count = stack_.size() - begin;
    if (count % 2 != 0) return bad("expected pairs of key and value on the pickle stack");
    const PickleValue dict = stack_[begin - 1];
    const auto& box = document_.containers_[document_.container_index(dict)];
    if (box.count == 0 && count != 0 && count / 2 <= kShapeKeysMax) {
      SPW_RETURN_IF_ERROR(set_shaped(dict, stack_.data() + begin, count / 2));
    } else {
      SPW_RETURN_IF_ERROR(unshape(dict));
      SPW_RETURN_IF_ERROR(append(dict, stack_.data() + begin, count));
    }
    stack_.resize(begin);
    return {};
  }

  /// Dicts of one kind have the same keys in the same order: those are stored once.
  Status set_shaped(PickleValue dict, PickleValue* pairs, std::size_t count) {
    std::uint64_t hash = count;
    for (std::size_t i = 0; i < count; ++i)
      hash = (hash ^ pairs[2 * i].bits) * 0x9e3779b97f4a7c15u + (hash >> 29);
    auto& shapes = document_.shapes_;
    auto& keys = document_.shape_keys_;
    const auto [place, fresh] =
        shape_of_.try_emplace(hash, static_cast<std::uint32_t>(shapes.size()));
    if (fresh) {
      shapes.push_back({keys.size(), static_cast<std::uint32_t>(count)});
      for (std::size_t i = 0; i < count; ++i) keys.push_back(pairs[2 * i]);
    }
    const auto& shape = shapes[place->second];
    bool same = shape.count == count;
    for (std::size_t i = 0; same && i < count; ++i)
      same = keys[shape.start + i].bits == pairs[2 * i].bits;
    if (!same)
      return append(dict, pairs, 2 * count);  // two shapes with one hash: the later stays unshaped
    for (std::size_t i = 0; i < count; ++i) pairs[i] = pairs[2 * i + 1];
    document_.containers_[document_.container_index(dict)].shape = place->second;
    return append(dict, pairs, count);
  }

  Status unshape(PickleValue dict) {
    auto& box = document_.containers_[document_.container_index(dict)];
    if (box.shape == PickleDocument::kNoShape) return {};
    std::vector<PickleValue> pairs;
    for (std::size_t i = 0; i < box.count; ++i) {
      pairs.push_back(document_.key(dict, i));
      pairs.push_back(document_.entry(dict, i));
    }
    box.shape = PickleDocument::kNoShape;
    box.count = 0;
    return append(dict, pairs.data(), pairs.size());
  }

  Status memo_put(std::uint64_t index) {
    if (stack_.size() <= floor())
      return bad("expected a value to memorise on the pickle stack, found none");
    // Writers count up from 0; a put takes at least 2 bytes, so an index beyond the offset is no
    // writer's.
    if (index > here())
      return bad("expected a memo index up to " + std::to_string(here()) + ", found " +
                 std::to_string(index));
    if (index >= memo_.size()) memo_.resize(index + 1, kUnset);
    if (memo_[index].bits == kUnset.bits) ++memo_count_;
    memo_[index] = stack_.back();
    return {};
  }

  Status memo_get(std::uint64_t index) {
    if (index >= memo_.size() || memo_[index].bits == kUnset.bits)
      return bad("expected a memo index that was written, found " + std::to_string(index));
    return push(memo_[index]);
  }

  Status push_float() {
    std::uint64_t bits = 0;
    SPW_RETURN_IF_ERROR(need(8));
    for (int i = 0; i < 8; ++i) bits = bits << 8 | static_cast<unsigned char>(cursor_[i]);
    cursor_ += 8;
    double value = 0;
    std::memcpy(&value, &bits, sizeof value);
    document_.floats_.push_back(value);
    return push(make(PickleKind::kFloat, document_.floats_.size() - 1));
  }

  Status protocol() {
    std::uint64_t version = 0;
    SPW_RETURN_IF_ERROR(number<1>(&version));
    if (version < 2 || version > 5)
      return bad("expected pickle protocol 2 to 5, found " + std::to_string(version));
    return {};
  }

  /// FRAME's length is a hint for readers that want to read ahead; it is not needed here.
  Status frame() {
    std::uint64_t length = 0;
    return number<8>(&length);
  }

  template <int kBytes>
  Status with_number(Status (PickleParser::*next)(std::uint64_t)) {
    std::uint64_t value = 0;
    SPW_RETURN_IF_ERROR(number<kBytes>(&value));
    return (this->*next)(value);
  }

  Status push_string(std::uint64_t length) { return push_text(PickleKind::kString, length); }
  Status push_bytes(std::uint64_t length) { return push_text(PickleKind::kBytes, length); }
  Status push_long_of(std::uint64_t length) { return push_long(length); }
  Status push_small(std::uint64_t value) { return push_int(static_cast<std::int64_t>(value)); }
  Status push_int32(std::uint64_t value) {
    return push_int(static_cast<std::int32_t>(static_cast<std::uint32_t>(value)));
  }

  Status mark() {
    if (marks_.size() >= kDepthMax)
      return bad("expected at most " + std::to_string(kDepthMax) + " open marks, found more");
    marks_.push_back(stack_.size());
    return {};
  }

  Status append_one() {
    if (stack_.size() <= floor() + 1) return bad("expected a list and a value on the pickle stack");
    return append_from(stack_.size() - 1);
  }

  Status set_one() {
    if (stack_.size() <= floor() + 2)
      return bad("expected a dict, a key and a value on the pickle stack");
    return set_items_from(stack_.size() - 2);
  }

  Status with_mark(Status (PickleParser::*next)(std::size_t)) {
    std::size_t begin = 0;
    SPW_RETURN_IF_ERROR(above_mark(&begin));
    return (this->*next)(begin);
  }

  Status tuple_from(std::size_t begin) { return make_tuple(stack_.size() - begin); }

  Status step(unsigned char opcode) {
    switch (opcode) {
      case 0x80:
        return protocol();
      case 0x95:
        return frame();
      case '(':
        return mark();
      case 'N':
        return push(make(PickleKind::kNone, 0));
      case 0x88:
        return push(make(PickleKind::kBool, 1));
      case 0x89:
        return push(make(PickleKind::kBool, 0));
      case 'J':
        return with_number<4>(&PickleParser::push_int32);
      case 'K':
        return with_number<1>(&PickleParser::push_small);
      case 'M':
        return with_number<2>(&PickleParser::push_small);
      case 0x8a:
        return with_number<1>(&PickleParser::push_long_of);
      case 'G':
        return push_float();
      case 0x8c:
        return with_number<1>(&PickleParser::push_string);
      case 'X':
        return with_number<4>(&PickleParser::push_string);
      case 0x8d:
        return with_number<8>(&PickleParser::push_string);
      case 'C':
        return with_number<1>(&PickleParser::push_bytes);
      case 'B':
        return with_number<4>(&PickleParser::push_bytes);
      case ']':
        return push_empty(PickleKind::kList);
      case '}':
        return push_empty(PickleKind::kDict);
      case ')':
        return push_empty(PickleKind::kTuple);
      case 0x85:
        return make_tuple(1);
      case 0x86:
        return make_tuple(2);
      case 0x87:
        return make_tuple(3);
      case 't':
        return with_mark(&PickleParser::tuple_from);
      case 'a':
        return append_one();
      case 'e':
        return with_mark(&PickleParser::append_from);
      case 's':
        return set_one();
      case 'u':
        return with_mark(&PickleParser::set_items_from);
      case 0x94:
        return memo_put(memo_count_);
      case 'q':
        return with_number<1>(&PickleParser::memo_put);
      case 'r':
        return with_number<4>(&PickleParser::memo_put);
      case 'h':
        return with_number<1>(&PickleParser::memo_get);
      case 'j':
        return with_number<4>(&PickleParser::memo_get);
      default:
        return bad(describe_refused(opcode) + ": expected plain data");
    }
  }

  std::uint64_t load(std::size_t bytes) const {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < bytes; ++i)
      value |= static_cast<std::uint64_t>(static_cast<unsigned char>(cursor_[1 + i])) << (8 * i);
    return value;
  }

  bool fast_get(std::uint64_t index, std::size_t bytes) {
    if (index >= memo_.size() || memo_[index].bits == kUnset.bits) return false;
    stack_.push_back(memo_[index]);
    cursor_ += bytes;
    return true;
  }

  bool fast_int(std::uint64_t value, std::size_t bytes) {
    stack_.push_back(make(PickleKind::kInt, value));
    cursor_ += bytes;
    return true;
  }

  /// The opcodes that make up nearly all of a snapshot, where nothing can go wrong; false leaves
  /// the opcode to step(). A Status per opcode would halve the speed. REQUIRES: at least kFastBytes
  /// bytes in sight.
  bool fast_step() {
    switch (static_cast<unsigned char>(*cursor_)) {
      case 'h':
        return fast_get(load(1), 2);
      case 'j':
        return fast_get(load(4), 5);
      case 'K':
        return fast_int(load(1), 2);
      case 'M':
        return fast_int(load(2), 3);
      case 'J':
        return fast_int(static_cast<std::uint64_t>(
                            static_cast<std::int64_t>(static_cast<std::int32_t>(load(4)))),
                        5);
      case 0x8a: {
        const std::uint64_t length = load(1);
        if (length == 0 || length > 7) return false;
        ++cursor_;
        const auto bits =
            static_cast<std::int64_t>(load(length) << (64 - 8 * length)) >> (64 - 8 * length);
        return fast_int(static_cast<std::uint64_t>(bits), 1 + length);
      }
      case 0x94:
        if (memo_count_ != memo_.size() || stack_.size() <= floor()) return false;
        memo_.push_back(stack_.back());
        ++memo_count_;
        ++cursor_;
        return true;
      case 0x8c: {
        const std::uint64_t length = load(1);
        const StringId id = document_.strings_.intern(std::string_view(cursor_ + 2, length));
        stack_.push_back(make(PickleKind::kString, id.value));
        cursor_ += 2 + length;
        return true;
      }
      default:
        return false;
    }
  }

  Status execute() {
    for (;;) {
      while (limit_ - cursor_ >= kFastBytes && fast_step()) {
      }
      opcode_offset_ = here();
      SPW_RETURN_IF_ERROR(need(1));
      const auto opcode = static_cast<unsigned char>(*cursor_++);
      if (opcode == '.') break;
      SPW_RETURN_IF_ERROR(step(opcode));
    }
    if (stack_.size() != 1 || !marks_.empty())
      return bad("expected one value on the pickle stack at its end, found " +
                 std::to_string(stack_.size()));
    document_.root_ = stack_.back();
    return {};
  }

  BufferedInput& input_;
  PickleDocument document_;
  const char* window_ = "";  // window_ <= cursor_ <= limit_: the unread bytes in sight
  const char* cursor_ = window_;
  const char* limit_ = window_;
  std::uint64_t opcode_offset_ = 0;
  std::vector<PickleValue> stack_;
  std::vector<std::size_t> marks_;  // sizes of stack_
  std::vector<PickleValue> memo_;
  std::uint64_t memo_count_ = 0;
  std::unordered_map<std::uint64_t, std::uint32_t> shape_of_;  // hash of the keys -> shape
};

Result<PickleDocument> parse_pickle(BufferedInput& input) { return PickleParser(input).run(); }

}  // namespace spillway
