// SPDX-License-Identifier: Apache-2.0
// The few opcodes that plain data takes (Python's pickletools names them).
#include "integration/trace/pickle_writer.hpp"

#include <array>
#include <bit>
#include <limits>

namespace spillway {
namespace {

constexpr std::size_t kBufferBytes = 64 * 1024;

}  // namespace

PickleWriter::PickleWriter(ByteSink& out) : out_(out) { put("\x80\x02"); }

void PickleWriter::put(std::string_view bytes) {
  buffer_ += bytes;
  if (buffer_.size() < kBufferBytes) return;
  if (status_.ok()) status_ = out_.write(buffer_);
  buffer_.clear();
}

void PickleWriter::little_endian(std::uint64_t value, int bytes) {
  std::array<char, 8> text{};
  for (int i = 0; i < bytes; ++i)
    text[static_cast<std::size_t>(i)] = static_cast<char>(value >> (8 * i) & 0xff);
  put({text.data(), static_cast<std::size_t>(bytes)});
}

std::uint32_t PickleWriter::memorise() {
  if (memo_count_ < 256) {
    put("q");  // BINPUT
    little_endian(memo_count_, 1);
  } else {
    put("r");  // LONG_BINPUT
    little_endian(memo_count_, 4);
  }
  return memo_count_++;
}

void PickleWriter::same_as(std::uint32_t memo) {
  put(memo < 256 ? "h" : "j");  // BINGET, LONG_BINGET
  little_endian(memo, memo < 256 ? 1 : 4);
}

void PickleWriter::text(std::string_view text) {
  const auto [place, fresh] = memo_of_.try_emplace(std::string(text), 0);
  if (!fresh) {
    same_as(place->second);
    return;
  }
  put("X");  // BINUNICODE
  little_endian(text.size(), 4);
  put(text);
  place->second = memorise();
}

void PickleWriter::number(std::uint64_t value) {
  if (value <= 0xff) {
    put("K");  // BININT1
    little_endian(value, 1);
  } else if (value <= 0xffff) {
    put("M");  // BININT2
    little_endian(value, 2);
  } else if (value <= std::numeric_limits<std::int32_t>::max()) {
    put("J");  // BININT
    little_endian(value, 4);
  } else {
    // LONG1 is signed: the top bit of the last byte must stay clear.
    const bool top_bit = value >> 63 != 0;
    put("\x8a");
    little_endian(top_bit ? 9 : 8, 1);
    little_endian(value, 8);
    if (top_bit) little_endian(0, 1);
  }
}

void PickleWriter::signed_number(std::int64_t value) {
  if (value >= 0) return number(static_cast<std::uint64_t>(value));
  put("\x8a");
  little_endian(8, 1);
  little_endian(static_cast<std::uint64_t>(value), 8);
}

void PickleWriter::real(double value) {
  put("G");  // BINFLOAT: big-endian
  const auto bits = std::bit_cast<std::uint64_t>(value);
  for (int shift = 56; shift >= 0; shift -= 8) little_endian(bits >> shift & 0xff, 1);
}

void PickleWriter::pair(std::uint64_t first, std::uint64_t second) {
  number(first);
  number(second);
  put("\x86");  // TUPLE2
}

Status PickleWriter::finish() {
  put(".");
  if (status_.ok()) status_ = out_.write(buffer_);
  buffer_.clear();
  return status_;
}

}  // namespace spillway
