// SPDX-License-Identifier: Apache-2.0
// The worked examples of docs/codecs.md are what the code writes and reads, byte by byte.
#include "kernels/host_codec.hpp"
#include "tests/kernels/lab.hpp"
#include "tests/support/paths.hpp"

#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

using namespace spillway;
using codec_lab::Buffer;

namespace {

/// The bytes of lines like "0040  20 c0 | codes"; "*" stands for zeros up to the next line.
std::vector<unsigned char> bytes_of_block(const std::string& language) {
  std::ifstream in(test::source_dir() / "docs/codecs.md", std::ios::binary);
  const std::string doc{std::istreambuf_iterator<char>(in), {}};
  const std::string open = "```" + language + "\n";
  const std::size_t begin = doc.find(open);
  REQUIRE(begin != std::string::npos);
  const std::size_t end = doc.find("\n```", begin);
  REQUIRE(end != std::string::npos);
  std::istringstream lines(doc.substr(begin + open.size(), end - begin - open.size()));
  std::vector<unsigned char> bytes;
  bool zeros = false;
  for (std::string line; std::getline(lines, line);) {
    CAPTURE(line);
    const std::size_t at = std::strtoul(line.substr(0, 4).c_str(), nullptr, 16);
    if (zeros) bytes.resize(at, 0);
    CHECK(bytes.size() == at);
    std::istringstream words(line.substr(4, line.find('|') - 4));
    zeros = false;
    for (std::string word; words >> word;) {
      zeros = word == "*";
      if (!zeros)
        bytes.push_back(static_cast<unsigned char>(std::strtoul(word.c_str(), nullptr, 16)));
    }
  }
  return bytes;
}

}  // namespace

TEST_SUITE("golden: codecs") {
  TEST_CASE("the worked examples of the description are what the code writes and reads") {
    constexpr std::uint16_t kValues[] = {0x3f80, 0xc000, 0x0000, 0x3f81, 0x1234};
    constexpr std::uint16_t kInt8Back[] = {0x3f80, 0xc000, 0x0000, 0x3f80, 0x0000};
    for (const Codec codec : {Codec::kLossless12, Codec::kInt8}) {
      const std::string name(name_of(codec));
      CAPTURE(name);
      const std::vector<unsigned char> written = bytes_of_block(name);
      CodecFormat format;
      format.codec = codec;
      format.dtype = Dtype::kBf16;
      REQUIRE(format.payload_bytes_for(5) == written.size());
      const Buffer source(10);
      const Buffer payload(written.size());
      std::memcpy(source.data(), kValues, 10);
      const auto encoded = encode(format, source.span(), payload.span());
      REQUIRE(encoded.ok());
      CHECK(encoded.value().misfit_tiles == 0);
      for (std::size_t i = 0; i < written.size(); ++i) {
        CAPTURE(i);
        CHECK(payload.at<unsigned char>(i) == written[i]);
      }
      std::memcpy(payload.data(), written.data(), written.size());
      const Buffer back(10);
      REQUIRE(decode(payload.span(), back.span()).ok());
      CHECK(std::memcmp(back.data(), codec == Codec::kInt8 ? kInt8Back : kValues, 10) == 0);
    }
  }
}
