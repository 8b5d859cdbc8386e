// SPDX-License-Identifier: Apache-2.0
// Makes pickles for tests, byte by byte: plain data given as JSON, in the opcodes that PyTorch's
// writers use.
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <string_view>

namespace spillway::test {

class PickleWriter {
 public:
  /// Protocol 2 memorises by BINPUT, 4 by MEMOIZE.
  explicit PickleWriter(int protocol = 4) : protocol_(protocol) {
    bytes_ = "\x80";
    bytes_ += static_cast<char>(protocol);
  }

  std::string finish() { return bytes_ + "."; }

  void raw(std::string_view bytes) { bytes_ += bytes; }

  void value(const nlohmann::json& json) {
    switch (json.type()) {
      case nlohmann::json::value_t::object:
        bytes_ += "}";
        memorise();
        bytes_ += "(";
        for (const auto& [key, entry] : json.items()) {
          text(key);
          value(entry);
        }
        bytes_ += "u";
        break;
      case nlohmann::json::value_t::array:
        bytes_ += "]";
        memorise();
        bytes_ += "(";
        for (const auto& item : json) value(item);
        bytes_ += "e";
        break;
      case nlohmann::json::value_t::string:
        text(json.get_ref<const std::string&>());
        break;
      case nlohmann::json::value_t::boolean:
        bytes_ += json.get<bool>() ? "\x88" : "\x89";
        break;
      case nlohmann::json::value_t::number_float:
        number(json.get<double>());
        break;
      case nlohmann::json::value_t::number_integer:
      case nlohmann::json::value_t::number_unsigned:
        number(json.get<std::int64_t>());
        break;
      default:
        bytes_ += "N";
        break;
    }
  }

  void number(std::int64_t value) {
    if (value >= 0 && value < 256) {
      bytes_ += "K";
      little_endian(value, 1);
    } else if (value >= 0 && value < 65536) {
      bytes_ += "M";
      little_endian(value, 2);
    } else if (value >= INT32_MIN && value <= INT32_MAX) {
      bytes_ += "J";
      little_endian(value, 4);
    } else {
      bytes_ += "\x8a\x08";
      little_endian(value, 8);
    }
  }

  void number(double value) {
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    bytes_ += "G";
    for (int shift = 56; shift >= 0; shift -= 8) bytes_ += static_cast<char>(bits >> shift & 0xff);
  }

  /// A text seen before is taken from the memo.
  void text(const std::string& text) {
    if (const auto known = memo_.find(text); known != memo_.end()) {
      if (known->second < 256) {
        bytes_ += "h";
        little_endian(known->second, 1);
      } else {
        bytes_ += "j";
        little_endian(known->second, 4);
      }
      return;
    }
    if (protocol_ >= 4 && text.size() < 256) {
      bytes_ += "\x8c";
      little_endian(static_cast<std::int64_t>(text.size()), 1);
    } else {
      bytes_ += "X";
      little_endian(static_cast<std::int64_t>(text.size()), 4);
    }
    bytes_ += text;
    memo_[text] = memorise();
  }

  /// Puts the value on top of the stack into the memo.
  std::int64_t memorise() {
    if (protocol_ >= 4) {
      bytes_ += "\x94";
    } else if (next_ < 256) {
      bytes_ += "q";
      little_endian(next_, 1);
    } else {
      bytes_ += "r";
      little_endian(next_, 4);
    }
    return next_++;
  }

  void little_endian(std::int64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) bytes_ += static_cast<char>(value >> (8 * i) & 0xff);
  }

 private:
  int protocol_;
  std::string bytes_;
  std::int64_t next_ = 0;
  std::map<std::string, std::int64_t> memo_;
};

inline std::string pickle_of(const nlohmann::json& json, int protocol = 4) {
  PickleWriter writer(protocol);
  writer.value(json);
  return writer.finish();
}

}  // namespace spillway::test
