// SPDX-License-Identifier: Apache-2.0
// Any bytes as a codec's payload, with the header as it is and with one that holds, and any bytes
// as values under any format, size, alignment and overlap. Buffers have exactly the size they
// should, so that a sanitizer sees every byte outside.
#include "kernels/body/header.hpp"
#include "kernels/host_codec.hpp"
#include "tests/support/checking_sink.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <vector>

namespace {

using namespace spillway;
using test::CheckingSink;

// Tensors of a few tiles: deep enough for every plane, small enough for thousands a second.
constexpr std::uint64_t kValuesMax = 3 * kCodecTileValues + 5;

/// Exactly `bytes` bytes on the heap, `shift` behind a 16-byte boundary.
class Buffer {
 public:
  explicit Buffer(std::size_t bytes, std::size_t shift = 0)
      : memory_(static_cast<std::byte*>(::operator new (bytes + shift, std::align_val_t{16}))),
        shift_(shift),
        bytes_(bytes) {
    std::memset(memory_, 0xa5, bytes + shift);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { ::operator delete (memory_, std::align_val_t{16}); }

  [[nodiscard]] std::span<std::byte> span() const { return {memory_ + shift_, bytes_}; }

 private:
  std::byte* memory_;
  std::size_t shift_;
  std::size_t bytes_;
};

/// Bytes off the front of the input; zeros when there are none left.
struct Input {
  std::span<const std::byte> left;

  std::uint8_t byte() {
    if (left.empty()) return 0;
    const auto value = static_cast<std::uint8_t>(left.front());
    left = left.subspan(1);
    return value;
  }
};

bool is_untouched(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0xa5}; });
}

void check_text(const Status& status) {
  CheckingSink::require(CheckingSink::is_utf8_line(status.message()),
                        "an error is one line of UTF-8");
}

/// Decodes with every instruction set there is: the same status, the same bytes.
Status decode_everywhere(std::span<const std::byte> payload, std::span<std::byte> destination) {
  std::uint64_t print = 0;
  HostCodecOptions options;
  options.threads = 1;
  options.kernels = host_kernels(HostIsa::kBaseline);
  options.fingerprint = &print;
  const Status status = decode(payload, destination, options);
  check_text(status);
  const bool decoded = status.ok() || status.code() == Code::kBadInput;
  for (const HostIsa isa : {HostIsa::kAvx2, HostIsa::kAvx512}) {
    options.kernels = host_kernels(isa);
    if (options.kernels == nullptr) continue;
    const Buffer other(destination.size());
    std::uint64_t other_print = 0;
    options.fingerprint = &other_print;
    const Status again = decode(payload, other.span(), options);
    CheckingSink::require(again.code() == status.code(), "every instruction set agrees");
    CheckingSink::require(!decoded || other_print == print, "on the fingerprint");
    CheckingSink::require(
        std::memcmp(other.span().data(), destination.data(), destination.size()) == 0,
        "and on the bytes");
  }
  CheckingSink::require(!status.ok() || print == fingerprint(destination),
                        "the fingerprint is that of the bytes");
  return status;
}

void try_payload(std::span<const std::byte> bytes) {
  const Buffer payload(bytes.size());
  std::copy(bytes.begin(), bytes.end(), payload.span().begin());
  const auto info = inspect_payload(payload.span());
  if (!info.ok()) {
    CheckingSink::require(info.status().code() == Code::kBadInput, "it is bad input");
    check_text(info.status());
    const Buffer destination(64);
    CheckingSink::require(!decode(payload.span(), destination.span()).ok(),
                          "what has no header is not decoded");
    CheckingSink::require(is_untouched(destination.span()), "and nothing is written");
    return;
  }
  const CodecFormat& format = info.value().format;
  const std::uint64_t size = info.value().values * dtype_bytes(format.dtype);
  CheckingSink::require(codec_supports(format.codec, format.dtype), "the pair exists");
  CheckingSink::require(format.payload_bytes_for(info.value().values) == bytes.size(),
                        "the sizes agree");
  if (info.value().values > 64 * kValuesMax) return;
  const Buffer destination(size);
  const Status status = decode_everywhere(payload.span(), destination.span());
  CheckingSink::require(status.ok() || status.code() == Code::kBadInput, "it is bad input");
  const bool has_lists = format.codec == Codec::kLossless12 || format.codec == Codec::kSparse;
  CheckingSink::require(status.ok() || has_lists, "only lists and masks can point outside");
  // One byte less of either is refused, whatever the payload says.
  const Buffer small(size - 1);
  CheckingSink::require(!decode(payload.span(), small.span()).ok(),
                        "a small destination is refused");
  CheckingSink::require(is_untouched(small.span()), "before it is written");
}

/// A header that holds, made of what the input wishes for, before its bytes: deep code is reached.
void try_repaired(Input input) {
  const auto codec = static_cast<Codec>(1 + input.byte() % (kCodecCount - 1));
  constexpr Dtype kDtypes[] = {Dtype::kBf16, Dtype::kFp16, Dtype::kFp32, Dtype::kBool};
  CodecFormat format;
  format.codec = codec;
  format.dtype = kDtypes[input.byte() % 4];
  format.sparse_capacity = static_cast<std::uint8_t>(1 + input.byte() % 16);
  const std::uint64_t low = input.byte();
  const std::uint64_t values =
      1 + (low | static_cast<std::uint64_t>(input.byte()) << 8) % kValuesMax;
  std::vector<std::byte> bytes(format.payload_bytes_for(values));
  // The planes repeat the input, so that few bytes reach all of them.
  for (std::size_t i = kCodecHeaderBytes; i < bytes.size() && !input.left.empty(); ++i)
    bytes[i] = input.left[(i - kCodecHeaderBytes) % input.left.size()];
  const body::PayloadHeader header =
      body::make_header(static_cast<std::uint8_t>(codec),
                        static_cast<std::uint8_t>(format.dtype),
                        codec == Codec::kSparse ? format.sparse_capacity : std::uint8_t{0},
                        values,
                        bytes.size(),
                        0,
                        0);
  std::memcpy(bytes.data(), &header, sizeof(header));
  CheckingSink::require(inspect_payload(bytes).ok() == codec_supports(codec, format.dtype),
                        "a header that holds is believed when the pair exists");
  try_payload(bytes);
}

void check_round_trip(const CodecFormat& format,
                      std::span<const std::byte> source,
                      std::span<const std::byte> payload,
                      std::uint64_t misfit_tiles) {
  const Buffer decoded(source.size());
  if (format.codec == Codec::kNone) {
    CheckingSink::require(std::memcmp(payload.data(), source.data(), source.size()) == 0, "a copy");
    return;
  }
  const Status status = decode_everywhere(payload, decoded.span());
  CheckingSink::require(status.ok() || (misfit_tiles > 0 && status.code() == Code::kBadInput),
                        "what was encoded can be decoded");
  if (misfit_tiles != 0) {
    CheckingSink::require(is_lossless(format.codec), "only lossless codes can be too full");
    return;
  }
  const bool sign_only = format.codec == Codec::kMask1 && format.dtype != Dtype::kBool;
  if (is_lossless(format.codec) && !sign_only)
    CheckingSink::require(std::memcmp(decoded.span().data(), source.data(), source.size()) == 0,
                          "the bits come back");
  if (is_lossless(format.codec) || format.codec == Codec::kInt4) return;
  // What a codec makes is on its grid: encoding that again changes nothing.
  const Buffer again(payload.size());
  const Buffer twice(source.size());
  const auto encoded = encode(format, decoded.span(), again.span());
  CheckingSink::require(encoded.ok() && decode(again.span(), twice.span()).ok(), "again");
  CheckingSink::require(std::memcmp(decoded.span().data(), twice.span().data(), source.size()) == 0,
                        "decode of encode is idempotent");
}

void try_values(Input input) {
  CodecFormat format;
  format.codec = static_cast<Codec>(input.byte() % (kCodecCount + 1));
  format.dtype = static_cast<Dtype>(input.byte() % 12);
  const std::uint8_t capacity = input.byte();
  format.sparse_capacity = capacity < 128 ? static_cast<std::uint8_t>(capacity % 18) : capacity;
  const std::uint8_t shifts = input.byte();  // most often both aligned
  const std::size_t source_shift = shifts >= 240 ? shifts % 16u : 0;
  const std::size_t payload_shift = shifts >= 224 && shifts < 240 ? shifts % 16u : 0;
  const std::uint8_t wrong = input.byte();
  HostCodecOptions options;
  options.threads = 1 + wrong % 2;
  options.tensor_key = wrong;
  const std::size_t bytes = std::min<std::size_t>(input.left.size(), 4 * kValuesMax);
  const Buffer source(bytes, source_shift);
  std::copy_n(input.left.begin(), bytes, source.span().begin());

  const std::uint64_t element_bytes = std::max<std::uint64_t>(dtype_bytes(format.dtype), 1);
  std::uint64_t size = 64;
  if (format.sparse_capacity <= 16) size = format.payload_bytes_for(bytes / element_bytes);
  if (wrong >= 250) size += wrong - 252;  // two too few to three too many
  const Buffer payload(static_cast<std::size_t>(std::min<std::uint64_t>(size, 1 << 20)),
                       payload_shift);
  std::span<std::byte> target = payload.span();
  if (wrong == 249 && target.size() <= bytes) target = source.span().first(target.size());

  const auto encoded = encode(format, source.span(), target, options);
  if (!encoded.ok()) {
    CheckingSink::require(encoded.status().code() == Code::kInvalidArgument, "a wrong argument");
    check_text(encoded.status());
    CheckingSink::require(is_untouched(payload.span()), "of which nothing is written");
    CheckingSink::require(
        std::equal(source.span().begin(), source.span().end(), input.left.begin()),
        "not even to the source");
    return;
  }
  CheckingSink::require(codec_supports(format.codec, format.dtype) && bytes != 0 &&
                            bytes % element_bytes == 0 && source_shift == 0 && payload_shift == 0 &&
                            target.data() == payload.span().data(),
                        "what is encoded was legal");
  check_round_trip(format, source.span(), target, encoded.value().misfit_tiles);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input{std::as_bytes(std::span(data, size))};
  switch (input.byte() % 3) {
    case 0:
      try_payload(input.left);
      break;
    case 1:
      try_repaired(input);
      break;
    default:
      try_values(input);
      break;
  }
  return 0;
}
