// SPDX-License-Identifier: Apache-2.0
// The inputs of the same-bits tests and the lines that say what became of them. Integers only, and
// nothing but headers: programs of any compiler and instruction set make the same inputs from it.
#pragma once

#include "core/codec.hpp"

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>

namespace spillway::same_bits {

constexpr std::uint64_t kMostBytes = std::uint64_t{6000} * 4;
/// More than any codec needs for so many: bytes past a payload count too, they must stay 0.
constexpr std::uint64_t kPayloadRoom = 64 << 10;
constexpr std::uint64_t kTensorKey = 0x0123456789abcdef;
constexpr std::uint64_t kStep = 0xfedcba987;

struct Buffers {
  alignas(64) unsigned char source[kMostBytes];
  alignas(64) unsigned char payload[kPayloadRoom];
  alignas(64) unsigned char back[kMostBytes];
};

/// SplitMix64.
inline std::uint64_t next(std::uint64_t* state) {
  std::uint64_t z = *state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

/// Order matters, a byte at a time; not the codecs' own fingerprint.
class Hash {
 public:
  void add(const void* data, std::uint64_t bytes) {
    const auto* at = static_cast<const unsigned char*>(data);
    for (std::uint64_t i = 0; i < bytes; ++i) value_ = (value_ ^ at[i]) * 0x100000001b3u;
  }
  [[nodiscard]] std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325u;  // FNV-1a
};

enum class Input { kNearOne, kSpecials, kAnyBits, kManyZeros };
constexpr const char* kInputNames[] = {"near_one", "specials", "any_bits", "many_zeros"};
constexpr int kInputCount = 4;

struct Format {
  int exponent_bits, mantissa_bits;
};
constexpr Format format_of(Dtype dtype) {
  if (dtype == Dtype::kBf16) return {8, 7};
  if (dtype == Dtype::kFp16) return {5, 10};
  return {8, 23};
}

/// Raw bits of value `index`.
inline std::uint32_t raw_value(Dtype dtype,
                               Input input,
                               std::uint64_t index,
                               std::uint64_t* state) {
  const std::uint64_t r = next(state);
  const std::uint64_t group = index / 128;
  if (dtype == Dtype::kBool) {
    const bool any = input == Input::kAnyBits && group % 4 == 3;
    return static_cast<std::uint32_t>(any ? r & 0xff : r & 1);
  }
  const Format format = format_of(dtype);
  const auto top = (1 << format.exponent_bits) - 1;
  const auto all_mantissa = (1u << format.mantissa_bits) - 1;
  const auto mantissa = static_cast<std::uint32_t>(r >> 20) & all_mantissa;
  const auto sign = static_cast<std::uint32_t>(r >> 63)
                    << (format.exponent_bits + format.mantissa_bits);
  const auto with = [&](int exponent, std::uint32_t m) {
    exponent = exponent < 0 ? 0 : exponent > top ? top : exponent;
    return sign | static_cast<std::uint32_t>(exponent) << format.mantissa_bits | m;
  };
  // Half as many for each binade down, as with a bell curve near 0.
  int exponent = top / 2 + 1;
  for (std::uint64_t bits = r; (bits & 1) == 0 && exponent > top / 2 - 18; bits >>= 1) --exponent;
  switch (input) {
    case Input::kNearOne:
      return with(exponent, mantissa);
    case Input::kAnyBits:
      return with(static_cast<int>(r >> 48) & top, mantissa);
    case Input::kManyZeros:
      if (group % 3 == 0 || (r >> 50 & 1) != 0) return (r >> 51 & 15) == 0 ? sign : 0;
      return with(exponent, mantissa);
    case Input::kSpecials:
      break;
  }
  // Groups of every size, the smallest and the largest numbers among them; NaN and Inf in some.
  const int shift = static_cast<int>(group * 37 % static_cast<std::uint64_t>(2 * top)) - top;
  if ((r >> 40 & 15) == 0) {
    switch (r >> 44 & 7) {
      case 0:
        return with(0, 0);
      case 1:
        return with(0, mantissa);
      case 2:
        return with(0, 1);
      case 3:
        return with(top - 1, all_mantissa);
      case 4:
        return group % 2 == 0 ? with(top, 0) : with(1, 0);
      case 5:
        return group % 4 == 0 ? with(top, mantissa | 1) : with(top - 2, mantissa);
      default:
        break;
    }
  }
  return with(exponent + shift, mantissa);
}

/// Calls encode(codec, dtype, values, buffers), which says how many tiles do not fit, and
/// decode(the same), which says 1 when any did not, on every input; appends a line for each.
template <typename Encode, typename Decode>
void run_codec(Codec codec,
               Dtype dtype,
               const char* name,
               Buffers* buffers,
               const Encode& encode,
               const Decode& decode,
               std::string* lines) {
  constexpr std::uint64_t kLengths[] = {1, 2, 7, 8, 127, 128, 129, 300, 2047, 2048, 2049, 6000};
  const std::uint64_t element = dtype == Dtype::kBool ? 1 : dtype == Dtype::kFp32 ? 4 : 2;
  for (int i = 0; i < kInputCount; ++i) {
    std::uint64_t state = static_cast<std::uint64_t>(i);
    Hash payload;
    Hash back;
    Hash corrupt;
    for (const std::uint64_t values : kLengths) {
      std::memset(buffers, 0, sizeof(Buffers));
      for (std::uint64_t v = 0; v < values; ++v) {
        const std::uint32_t raw = raw_value(dtype, static_cast<Input>(i), v, &state);
        std::memcpy(buffers->source + v * element, &raw, element);
      }
      const std::uint64_t misfits = encode(codec, dtype, values, buffers);
      payload.add(&misfits, sizeof(misfits));
      payload.add(buffers->payload + kCodecHeaderBytes, kPayloadRoom - kCodecHeaderBytes);
      const std::uint64_t lost = decode(codec, dtype, values, buffers);
      back.add(&lost, sizeof(lost));
      back.add(buffers->back, sizeof(buffers->back));
      // Any bytes decode to the same everywhere, not only those that an encoder wrote.
      for (std::uint64_t at = kCodecHeaderBytes; at < kPayloadRoom; ++at) {
        const std::uint64_t r = next(&state);
        if ((r & 7) == 0) buffers->payload[at] ^= static_cast<unsigned char>(r >> 8);
      }
      std::memset(buffers->back, 0, sizeof(buffers->back));
      const std::uint64_t unsound = decode(codec, dtype, values, buffers);
      corrupt.add(&unsound, sizeof(unsound));
      corrupt.add(buffers->back, sizeof(buffers->back));
    }
    char line[160];
    std::snprintf(line,
                  sizeof(line),
                  "%s %s payload %016llx decoded %016llx corrupt %016llx\n",
                  name,
                  kInputNames[i],
                  static_cast<unsigned long long>(payload.value()),
                  static_cast<unsigned long long>(back.value()),
                  static_cast<unsigned long long>(corrupt.value()));
    *lines += line;
  }
}

/// `sum(data, bytes, first_word)`: what fingerprints add up.
template <typename Sum>
void run_fingerprint(Buffers* buffers, const Sum& sum, std::string* lines) {
  std::uint64_t state = 9;
  for (unsigned char& byte : buffers->source) byte = static_cast<unsigned char>(next(&state));
  Hash hash;
  for (std::uint64_t bytes = 0; bytes < 600; ++bytes) {
    const std::uint64_t value = sum(buffers->source + bytes % 9, bytes, bytes * 3);
    hash.add(&value, sizeof(value));
  }
  char line[80];
  std::snprintf(
      line, sizeof(line), "fingerprint %016llx\n", static_cast<unsigned long long>(hash.value()));
  *lines += line;
}

/// "int8 bf16": of codecs and dtypes that have kernels.
inline std::string name_of_pair(Codec codec, Dtype dtype) {
  constexpr const char* kCodecs[] = {
      "copy", "lossless12", "mask1", "int8", "fp8-e4m3", "int4", "sparse", "fp8-e5m2"};
  static_assert(sizeof(kCodecs) / sizeof(kCodecs[0]) == kCodecCount);
  const char* dtype_name = dtype == Dtype::kBf16   ? " bf16"
                           : dtype == Dtype::kFp16 ? " fp16"
                           : dtype == Dtype::kFp32 ? " fp32"
                                                   : " bool";
  return std::string(kCodecs[static_cast<int>(codec)]) + dtype_name;
}

/// True when `lines` are those of the file; else says where they differ, on stderr.
inline bool agrees_with(const std::string& lines, const char* path) {
  std::string golden;
  if (std::FILE* file = std::fopen(path, "rb")) {
    char part[4096];
    for (std::size_t got; (got = std::fread(part, 1, sizeof(part), file)) > 0;)
      golden.append(part, got);
    std::fclose(file);
  }
  if (lines == golden) return true;
  std::size_t a = 0;
  std::size_t b = 0;
  while (a < lines.size() || b < golden.size()) {
    const std::size_t a_end = lines.find('\n', a);
    const std::size_t b_end = golden.find('\n', b);
    const std::string ours = a < lines.size() ? lines.substr(a, a_end - a) : "";
    const std::string theirs = b < golden.size() ? golden.substr(b, b_end - b) : "";
    if (ours != theirs)
      std::fprintf(stderr, "expected %s\n   found %s\n", theirs.c_str(), ours.c_str());
    a = a_end == std::string::npos ? lines.size() : a_end + 1;
    b = b_end == std::string::npos ? golden.size() : b_end + 1;
  }
  return false;
}

}  // namespace spillway::same_bits
