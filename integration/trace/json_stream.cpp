// SPDX-License-Identifier: Apache-2.0
// Feeds nlohmann's event parser from the window of a BufferedInput.
#include "integration/trace/json_stream.hpp"

#include "integration/trace/utf8.hpp"

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstddef>
#include <iterator>
#include <vector>

namespace spillway {
namespace {

constexpr int kDepthMax = 64;

class CharStream {
 public:
  explicit CharStream(BufferedInput& input) : input_(input) { look(); }

  bool ended() const { return ended_; }
  char current() const { return current_; }
  const Status& failed() const { return failed_; }

  void advance() {
    if (replacement_left_ != 0) {
      current_ = kReplacement[3 - replacement_left_--];
      return;
    }
    input_.consume(1);
    if (valid_left_ != 0) --valid_left_;
    look();
  }

 private:
  static constexpr char kReplacement[] = "\xef\xbf\xbd";

  void look() {
    auto window = input_.peek(4);
    if (!window.ok() || window.value().empty()) {
      if (!window.ok()) failed_ = window.status();
      ended_ = true;
      return;
    }
    current_ = window.value().front();
    if (static_cast<unsigned char>(current_) < 0x80 || valid_left_ != 0) return;
    valid_left_ = utf8_character_bytes(window.value());
    if (valid_left_ != 0) return;
    current_ = kReplacement[0];
    replacement_left_ = 2;
  }

  BufferedInput& input_;
  char current_ = '\0';
  bool ended_ = false;
  int replacement_left_ = 0;    // bytes of U+FFFD still to give
  std::size_t valid_left_ = 0;  // bytes left of a well-formed character, this one included
  Status failed_;
};

/// All copies share one position, as input iterators do.
class CharIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = char;

  CharIterator() = default;
  explicit CharIterator(CharStream* stream) : stream_(stream) {}
  char operator*() const { return stream_->current(); }
  CharIterator& operator++() {
    stream_->advance();
    return *this;
  }
  CharIterator operator++(int) {
    CharIterator before = *this;
    ++*this;
    return before;
  }
  friend bool operator==(const CharIterator& a, const CharIterator& b) {
    return a.at_end() == b.at_end();
  }
  friend bool operator!=(const CharIterator& a, const CharIterator& b) { return !(a == b); }

 private:
  bool at_end() const { return stream_ == nullptr || stream_->ended(); }
  CharStream* stream_ = nullptr;
};

class Adapter final : public nlohmann::json_sax<nlohmann::json> {
 public:
  Adapter(BufferedInput& input, JsonEvents& events) : input_(input), events_(events) {}

  bool null() override { return keep(events_.other()); }
  bool boolean(bool) override { return keep(events_.other()); }
  bool number_integer(number_integer_t value) override {
    return keep(
        events_.number(static_cast<double>(value), value >= 0, static_cast<std::uint64_t>(value)));
  }
  bool number_unsigned(number_unsigned_t value) override {
    return keep(events_.number(static_cast<double>(value), true, value));
  }
  bool number_float(number_float_t value, const string_t&) override {
    const bool whole = value >= 0 && value < 0x1p63 && std::floor(value) == value;
    return keep(events_.number(value, whole, whole ? static_cast<std::uint64_t>(value) : 0));
  }
  bool string(string_t& value) override { return keep(events_.text(value)); }
  bool binary(binary_t&) override { return false; }
  bool key(string_t& value) override { return keep(events_.key(value)); }
  bool start_object(std::size_t) override { return deeper() && keep(events_.begin_object()); }
  bool end_object() override { return --depth_, keep(events_.end_object()); }
  bool start_array(std::size_t) override { return deeper() && keep(events_.begin_array()); }
  bool end_array() override { return --depth_, keep(events_.end_array()); }
  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception&) override {
    return keep(input_.error("expected valid JSON, found something else"));
  }

  Status status() const { return status_; }

 private:
  bool keep(Status status) {
    if (!status.ok()) status_ = std::move(status);
    return status_.ok();
  }
  bool deeper() {
    if (++depth_ <= kDepthMax) return true;
    return keep(input_.error("expected JSON of at most 64 levels, found more"));
  }

  BufferedInput& input_;
  JsonEvents& events_;
  int depth_ = 0;
  Status status_;
};

}  // namespace

Status parse_json(BufferedInput& input, JsonEvents& events) {
  CharStream stream(input);
  Adapter adapter(input, events);
  const bool parsed = nlohmann::json::sax_parse(CharIterator(&stream), CharIterator(), &adapter);
  if (!stream.failed().ok()) return stream.failed();
  if (!adapter.status().ok()) return adapter.status();
  if (!parsed) return input.error("expected valid JSON, found something else");
  return {};
}

}  // namespace spillway
