// SPDX-License-Identifier: Apache-2.0
// What is no tensor, no payload or not for this codec is answered with a status, and nothing is
// written.
#include "kernels/body/header.hpp"
#include "tests/kernels/lab.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <string>

namespace spillway {
namespace {

using codec_lab::Buffer;

bool untouched(std::span<const std::byte> bytes, unsigned char fill) {
  return std::all_of(bytes.begin(), bytes.end(), [fill](std::byte b) {
    return b == static_cast<std::byte>(fill);
  });
}

/// A payload of 300 bf16 values.
Buffer some_payload(Codec codec) {
  const CodecFormat format{codec, Dtype::kBf16};
  Buffer source(600, 0x3f);
  Buffer payload(format.payload_bytes_for(300));
  REQUIRE(encode(format, source.span(), payload.span()).ok());
  return payload;
}

void write_header(const Buffer& payload, body::PayloadHeader header) {
  header.check = body::header_check(header);
  std::memcpy(payload.data(), &header, sizeof(header));
}

}  // namespace

TEST_SUITE("kernels") {
  TEST_CASE("encode refuses what it cannot take and writes nothing") {
    const CodecFormat format{Codec::kInt8, Dtype::kBf16};
    const Buffer source(608, 0x3f);
    const Buffer payload(format.payload_bytes_for(304) + 16, 0xa5);
    const auto right = payload.span().first(format.payload_bytes_for(304));
    const auto refused = [&](const CodecFormat& with,
                             std::span<const std::byte> from,
                             std::span<std::byte> to,
                             const std::string& says) {
      const Result<EncodeResult> result = encode(with, from, to);
      REQUIRE(!result.ok());
      CHECK(result.status().code() == Code::kInvalidArgument);
      CHECK_MESSAGE(result.status().message().find(says) != std::string::npos,
                    result.status().message());
      CHECK(untouched(payload.span(), 0xa5));
      CHECK(untouched(source.span(), 0x3f));
    };
    refused(format, source.span().first(0), right, "no values");
    refused(format, source.span().first(607), right, "whole number");
    refused(format, source.span().subspan(2), right, "aligned");
    refused(format, source.span(), right.first(right.size() - 1), "payload has");
    refused(format, source.span(), payload.span(), "payload has");
    refused(format, source.span(), payload.span().subspan(8, right.size()), "aligned");
    const CodecFormat shorter{Codec::kInt8, Dtype::kBf16};
    refused(shorter,
            source.span().subspan(2, 304),
            payload.span().first(shorter.payload_bytes_for(152)),
            "aligned");
    refused(format, source.span(), {source.data(), right.size()}, "overlap");
    refused({Codec::kInt8, Dtype::kInt32}, source.span(), right, "does not take");
    refused({Codec::kLossless12, Dtype::kFp16}, source.span(), right, "does not take");
    refused({Codec::kMask1, Dtype::kInt64}, source.span(), right, "does not take");
    refused({static_cast<Codec>(99), Dtype::kBf16}, source.span(), right, "does not take");
    refused({Codec::kInt8, static_cast<Dtype>(77)}, source.span(), right, "does not take");
    refused({Codec::kSparse, Dtype::kBf16, 0}, source.span(), right, "capacity");
    refused({Codec::kSparse, Dtype::kBf16, 17}, source.span(), right, "capacity");
    refused(format, {static_cast<const std::byte*>(nullptr), 608}, right, "null");
  }

  TEST_CASE("decode refuses headers that are none, name nothing or do not fit") {
    const Buffer payload = some_payload(Codec::kInt8);
    body::PayloadHeader good{};
    std::memcpy(&good, payload.data(), sizeof(good));
    const Buffer back(600, 0x77);
    REQUIRE(decode(payload.span(), back.span()).ok());
    const Buffer target(600, 0x77);
    const auto refused = [&](Code code, const std::string& says) {
      const Status status = decode(payload.span(), target.span());
      CHECK(status.code() == code);
      CHECK_MESSAGE(status.message().find(says) != std::string::npos, status.message());
      CHECK(untouched(target.span(), 0x77));
    };
    // Every single changed bit of the header is seen.
    for (std::size_t bit = 0; bit < 64 * 8; ++bit) {
      const auto byte = payload.at<std::uint8_t>(bit / 8);
      payload.data()[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
      CHECK(!inspect_payload(payload.span()).ok());
      payload.data()[bit / 8] = static_cast<std::byte>(byte);
    }
    const auto with = [&](auto change) {
      body::PayloadHeader header = good;
      change(header);
      write_header(payload, header);
    };
    with([](body::PayloadHeader& h) { h.magic = 1; });
    refused(Code::kBadInput, "magic");
    with([](body::PayloadHeader& h) { h.version = 2; });
    refused(Code::kBadInput, "version 2");
    for (const auto codec : std::array<std::uint8_t, 3>{0, 8, 255}) {
      with([codec](body::PayloadHeader& h) { h.codec = codec; });
      refused(Code::kBadInput, "codec");
    }
    for (const auto dtype : std::array<std::uint8_t, 3>{0, 6, 200}) {
      with([dtype](body::PayloadHeader& h) { h.dtype = dtype; });
      refused(Code::kBadInput, "dtype");
    }
    for (const std::uint64_t values : {std::uint64_t{0},
                                       std::uint64_t{1},
                                       std::uint64_t{1} << 40,
                                       std::uint64_t{1} << 63,
                                       std::numeric_limits<std::uint64_t>::max()}) {
      with([values](body::PayloadHeader& h) { h.values = values; });
      refused(Code::kBadInput, "values do not make");
    }
    with([](body::PayloadHeader& h) { h.payload_bytes += 16; });
    refused(Code::kBadInput, "values do not make");
    // The right size for another codec or dtype is not enough: the destination must agree.
    with([](body::PayloadHeader& h) { h.dtype = static_cast<std::uint8_t>(Dtype::kFp32); });
    refused(Code::kInvalidArgument, "destination");
    write_header(payload, good);
    CHECK(decode(payload.span().first(63), target.span()).code() == Code::kBadInput);
    CHECK(decode(payload.span().first(0), target.span()).code() == Code::kBadInput);
    CHECK(decode(payload.span(), target.span().first(598)).code() == Code::kInvalidArgument);
    CHECK(untouched(target.span(), 0x77));
  }

  TEST_CASE("escapes and masks that point past their tile are refused, and touch nothing outside") {
    const Buffer payload = some_payload(Codec::kLossless12);
    const Buffer back(600);
    // The first escape index lies 24 bytes before the end of a payload of one tile.
    const std::size_t index = payload.size() - 24;
    for (const auto value : std::array<std::uint16_t, 4>{300, 2047, 2048, 0xfffe}) {
      std::memcpy(payload.data() + index, &value, 2);
      CHECK(decode(payload.span(), back.span()).code() == Code::kBadInput);
    }
    const std::uint16_t inside = 299;
    std::memcpy(payload.data() + index, &inside, 2);
    CHECK(decode(payload.span(), back.span()).ok());

    const CodecFormat sparse{Codec::kSparse, Dtype::kBf16, 1};
    const Buffer zeros(4096, 0);
    const Buffer bits(sparse.payload_bytes_for(2048));
    REQUIRE(encode(sparse, zeros.span(), bits.span()).ok());
    std::memset(bits.data() + 64, 0xff, 17);  // 136 bits, room for 128 values
    const Buffer out(4096);
    CHECK(decode(bits.span(), out.span()).code() == Code::kBadInput);
    std::memset(bits.data() + 64, 0, 256);
    std::memset(bits.data() + 64, 0xff, 16);
    CHECK(decode(bits.span(), out.span()).ok());
  }

  TEST_CASE("payload planes lie where their sizes say, for every codec") {
    for (const std::uint64_t values : {1ull,
                                       127ull,
                                       128ull,
                                       129ull,
                                       2047ull,
                                       2048ull,
                                       2049ull,
                                       65536ull,
                                       1ull << 31,
                                       (1ull << 40) + 12345}) {
      for (const Dtype dtype : {Dtype::kBf16, Dtype::kFp32}) {
        const std::uint64_t bytes = values * dtype_bytes(dtype);
        const body::Scaled8Layout scaled(values);
        CHECK(payload_bytes(Codec::kInt8, dtype, bytes) ==
              scaled.scales() + body::tiles_of(values) * 16);
        const body::Lossless12Layout lossless(values, dtype == Dtype::kFp32);
        CHECK(payload_bytes(Codec::kLossless12, dtype, bytes) ==
              lossless.exponents() + body::tiles_of(values) * 8);
        const body::Int4Layout int4(values);
        CHECK(payload_bytes(Codec::kInt4, dtype, bytes) ==
              int4.zeros() + body::tiles_of(values) * 16);
        const body::BitmapLayout bitmap(values);
        CHECK(payload_bytes(Codec::kMask1, dtype, bytes) == bitmap.packed());
        CHECK(payload_bytes(Codec::kSparse, dtype, bytes, 7) ==
              bitmap.packed() +
                  body::tiles_of(values) * body::BitmapLayout::capacity(7) * dtype_bytes(dtype));
        for (const std::uint64_t offset : {scaled.scales(),
                                           lossless.nibbles(),
                                           lossless.low(),
                                           lossless.bases(),
                                           lossless.indices(),
                                           int4.exponents(),
                                           int4.zeros(),
                                           bitmap.packed()})
          CHECK(offset % 16 == 0);
        CHECK(lossless.exponents() % 8 == 0);
      }
    }
  }
}

}  // namespace spillway
