// SPDX-License-Identifier: Apache-2.0
// The fingerprint: known values, independent of threads and cuts, sensitive to every word.
#include "core/random.hpp"
#include "tests/kernels/lab.hpp"

#include <array>
#include <string>

namespace spillway {
namespace {

using codec_lab::Buffer;

Buffer random_bytes(Random* random, std::size_t bytes) {
  Buffer out(bytes);
  for (std::size_t i = 0; i < bytes; ++i)
    out.set<std::uint8_t>(i, static_cast<std::uint8_t>(random->next()));
  return out;
}

/// SplitMix64's finaliser and the sum, written again from docs/codecs.md.
std::uint64_t by_definition(std::span<const std::byte> bytes) {
  const auto mixed = [](std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  };
  std::uint64_t sum = mixed(bytes.size());
  for (std::size_t at = 0; at < bytes.size(); at += 8) {
    std::uint64_t word = 0;
    for (std::size_t b = 0; b < 8 && at + b < bytes.size(); ++b)
      word |= static_cast<std::uint64_t>(bytes[at + b]) << (8 * b);
    sum += mixed(word + (at / 8 + 1) * 0x9e3779b97f4a7c15ull);
  }
  return sum;
}

}  // namespace

TEST_SUITE("kernels") {
  TEST_CASE("a fingerprint is the sum of the definition, for every length, thread count and set") {
    const std::uint64_t seed = 21;
    MESSAGE("seed " << seed << ": spillway_kernels_tests -tc='a fingerprint is*'");
    Random random(seed);
    std::vector<std::size_t> lengths;
    for (std::size_t i = 0; i <= 300; ++i) lengths.push_back(i);
    for (const std::size_t length : {4095u, 4096u, 131072u, 131073u, 1000003u})
      lengths.push_back(length);
    for (const std::size_t length : lengths) {
      const Buffer bytes = random_bytes(&random, length);
      const std::uint64_t expected = by_definition(bytes.span());
      for (int isa = 0; isa < kHostIsaCount; ++isa)
        for (const int threads : {1, 2, 3}) {
          HostCodecOptions options;
          options.threads = threads;
          options.kernels = host_kernels(static_cast<HostIsa>(isa));
          if (options.kernels == nullptr) continue;
          CHECK(fingerprint(bytes.span(), options) == expected);
          if (threads > 1) continue;
          const std::vector<std::uint64_t> blocks = fingerprint_blocks(bytes.span(), options);
          CHECK(blocks.size() == (length + kFingerprintBlock - 1) / kFingerprintBlock);
          CHECK(fingerprint_of_blocks(blocks, length) == expected);
        }
    }
    CHECK(fingerprint({}) == by_definition({}));
  }

  TEST_CASE("one changed bit changes the fingerprint and the sum of its block alone") {
    Random random(22);
    Buffer bytes = random_bytes(&random, 5000);
    const std::uint64_t whole = fingerprint(bytes.span());
    const std::vector<std::uint64_t> blocks = fingerprint_blocks(bytes.span());
    for (std::size_t bit = 0; bit < 5000 * 8; bit += 7) {
      const auto byte = bytes.at<std::uint8_t>(bit / 8);
      bytes.set<std::uint8_t>(bit / 8, static_cast<std::uint8_t>(byte ^ 1u << bit % 8));
      CHECK(fingerprint(bytes.span()) != whole);
      if (bit % 49 == 0) {
        const std::vector<std::uint64_t> changed = fingerprint_blocks(bytes.span());
        for (std::size_t i = 0; i < blocks.size(); ++i)
          CHECK((changed[i] != blocks[i]) == (i == bit / 8 / kFingerprintBlock));
      }
      bytes.set<std::uint8_t>(bit / 8, byte);
    }
    CHECK(fingerprint(bytes.span()) == whole);
  }

  TEST_CASE("swapped words, zeros at the end and -0 for +0 change the fingerprint") {
    Random random(23);
    Buffer bytes = random_bytes(&random, 4096);
    const std::uint64_t whole = fingerprint(bytes.span());
    for (std::size_t i = 0; i + 1 < 512; ++i) {
      const auto a = bytes.at<std::uint64_t>(i);
      const auto b = bytes.at<std::uint64_t>(i + 1);
      bytes.set(i, b);
      bytes.set(i + 1, a);
      CHECK(fingerprint(bytes.span()) != whole);
      bytes.set(i, a);
      bytes.set(i + 1, b);
    }
    const Buffer zeros(64, 0);
    CHECK(fingerprint(zeros.span()) != fingerprint(zeros.span().first(63)));
    CHECK(fingerprint(zeros.span()) != fingerprint(zeros.span().first(56)));
    Buffer negative(64, 0);
    negative.set<std::uint16_t>(5, 0x8000);
    CHECK(fingerprint(zeros.span()) != fingerprint(negative.span()));
  }

  TEST_CASE("encode and decode take the fingerprint of the plain bytes on the way") {
    Random random(24);
    for (int c = 0; c < kCodecCount; ++c)
      for (const Dtype dtype : {Dtype::kBf16, Dtype::kFp16, Dtype::kFp32, Dtype::kBool})
        for (const std::size_t values : {1u, 3u, 5u, 127u, 2048u, 70003u}) {
          const CodecFormat format{static_cast<Codec>(c), dtype, 16};
          if (!codec_supports(format.codec, dtype)) continue;
          CAPTURE(std::string(name_of(format.codec)));
          const Buffer source = random_bytes(&random, values * dtype_bytes(dtype));
          Buffer payload(format.payload_bytes_for(values));
          std::uint64_t seen = 0;
          HostCodecOptions options;
          options.fingerprint = &seen;
          REQUIRE(encode(format, source.span(), payload.span(), options).ok());
          CHECK(seen == fingerprint(source.span()));
          if (format.codec == Codec::kNone) continue;
          const Buffer back(source.size());
          if (!decode(payload.span(), back.span(), options).ok()) continue;
          CHECK(seen == fingerprint(back.span()));
        }
  }
}

}  // namespace spillway
