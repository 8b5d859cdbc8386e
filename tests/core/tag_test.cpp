// SPDX-License-Identifier: Apache-2.0
// Tags, codecs, strings and records: packing, names and sizes.
#include "core/tag.hpp"

#include "core/codec.hpp"
#include "core/random.hpp"
#include "core/string_table.hpp"
#include "core/trace.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using namespace spillway;

TEST_SUITE("unit") {
  TEST_CASE("a tag survives packing, and hostile bits make no invalid enum") {
    Random random(3);
    for (int i = 0; i < 5000; ++i) {
      const std::uint64_t bits = random.next();
      const Tag tag = unpack_tag(bits);
      CHECK(unpack_tag(pack(tag)) == tag);
      CHECK(static_cast<int>(tag.kind) <= static_cast<int>(BufferKind::kConstant));
      CHECK(static_cast<int>(tag.dtype) <= static_cast<int>(Dtype::kFp64));
      CHECK(static_cast<int>(tag.phase) <= static_cast<int>(Phase::kOther));
      const OpTag op = unpack_op_tag(bits);
      CHECK(unpack_op_tag(pack(op)) == op);
    }
  }

  TEST_CASE("every name is read back as its value") {
    for (int i = 0; i <= static_cast<int>(BufferKind::kConstant); ++i)
      CHECK(parse_buffer_kind(name_of(static_cast<BufferKind>(i))) == static_cast<BufferKind>(i));
    for (int i = 0; i <= static_cast<int>(Dtype::kFp64); ++i)
      CHECK(parse_dtype(name_of(static_cast<Dtype>(i))) == static_cast<Dtype>(i));
    for (int i = 0; i <= static_cast<int>(OpKind::kOther); ++i)
      CHECK(parse_op_kind(name_of(static_cast<OpKind>(i))) == static_cast<OpKind>(i));
    for (int i = 0; i < kCodecCount; ++i)
      CHECK(parse_codec(name_of(static_cast<Codec>(i))) == static_cast<Codec>(i));
    CHECK(parse_dtype("no such dtype") == Dtype::kUnknown);
    int kinds = 0;
    for (int i = 0; i < 256; ++i) {
      const auto byte = static_cast<std::uint8_t>(i);
      RecordKind kind{};
      if (!is_record_kind(byte)) continue;
      ++kinds;
      REQUIRE(parse_record_kind(name_of(static_cast<RecordKind>(byte)), &kind));
      CHECK(kind == static_cast<RecordKind>(byte));
    }
    CHECK(kinds == 38);
  }

  TEST_CASE("payload sizes follow from the source alone") {
    // Header; per group of 128 values their bytes; per tile of 2048 scales and slots.
    CHECK(payload_bytes(Codec::kLossless12, Dtype::kBf16, 4096) == 64 + 16 * 192 + 16 + 24);
    CHECK(payload_bytes(Codec::kLossless12, Dtype::kFp32, 8192) == 64 + 16 * 448 + 16 + 24);
    CHECK(payload_bytes(Codec::kMask1, Dtype::kBool, 17) == 64 + 16);
    CHECK(payload_bytes(Codec::kInt8, Dtype::kFp32, 4 * 129) == 64 + 256 + 16);
    CHECK(payload_bytes(Codec::kInt4, Dtype::kBf16, 2 * 2049) == 64 + 17 * 64 + 64);
    CHECK(payload_bytes(Codec::kSparse, Dtype::kFp16, 4096) == 64 + 256 + 1280 * 2);
    CHECK(payload_bytes(Codec::kSparse, Dtype::kFp32, 4, 16) == 64 + 16 + 8192);
    // From 8 tiles up every codec that takes a dtype saves at least a tenth.
    for (const std::uint64_t bytes : {1ull << 16, (1ull << 16) + 2, 1ull << 40})
      for (int c = 1; c < kCodecCount; ++c)
        CHECK(payload_bytes(static_cast<Codec>(c), Dtype::kBf16, bytes) < bytes / 10 * 9);
  }

  TEST_CASE("a codec takes the dtypes that it has kernels for") {
    for (const Dtype dtype : {Dtype::kBf16, Dtype::kFp16, Dtype::kFp32})
      for (int c = 0; c < kCodecCount; ++c)
        CHECK(codec_supports(static_cast<Codec>(c), dtype) ==
              !(static_cast<Codec>(c) == Codec::kLossless12 && dtype == Dtype::kFp16));
    for (int c = 1; c < kCodecCount; ++c) {
      CHECK(codec_supports(static_cast<Codec>(c), Dtype::kBool) ==
            (static_cast<Codec>(c) == Codec::kMask1));
      CHECK(!codec_supports(static_cast<Codec>(c), Dtype::kInt32));
      CHECK(!codec_supports(static_cast<Codec>(c), Dtype::kUnknown));
    }
  }

  TEST_CASE("sparse and e5m2 are for what is tagged so") {
    Tag tag;
    tag.kind = BufferKind::kActivation;
    tag.dtype = Dtype::kBf16;
    CHECK(!codec_applies(Codec::kSparse, tag, true));
    CHECK(!codec_applies(Codec::kFp8E5m2, tag, true));
    tag.flags = kSparseValues | kExactRequired;
    CHECK(codec_applies(Codec::kSparse, tag, false));
    tag.kind = BufferKind::kGradient;
    CHECK(!codec_applies(Codec::kFp8E5m2, tag, true));
    tag.flags = kLossyOk;
    CHECK(codec_applies(Codec::kFp8E5m2, tag, true));
    CHECK(!codec_applies(Codec::kFp8E5m2, tag, false));
    CHECK(!codec_applies(Codec::kInt8, tag, true));
  }

  TEST_CASE("lossy codecs need permission, and never take what is not an activation") {
    Tag tag;
    tag.kind = BufferKind::kActivation;
    tag.dtype = Dtype::kBf16;
    CHECK(codec_applies(Codec::kLossless12, tag, false));
    CHECK(!codec_applies(Codec::kInt8, tag, false));
    CHECK(codec_applies(Codec::kInt8, tag, true));
    CHECK(!codec_applies(Codec::kMask1, tag, true));
    tag.flags = kExactRequired;
    CHECK(!codec_applies(Codec::kInt8, tag, true));
    tag.flags = 0;
    tag.dtype = Dtype::kInt64;
    for (int c = 1; c < kCodecCount; ++c) CHECK(!codec_applies(static_cast<Codec>(c), tag, true));
    tag.dtype = Dtype::kBf16;
    tag.kind = BufferKind::kParameter;
    for (int c = 0; c < kCodecCount; ++c) CHECK(!codec_applies(static_cast<Codec>(c), tag, true));
  }

  TEST_CASE("strings are stored once, and their views stay valid while the table grows") {
    StringTable table;
    std::vector<StringId> ids;
    std::vector<std::string_view> views;
    for (int i = 0; i < 20000; ++i) {
      ids.push_back(table.intern("text " + std::to_string(i)));
      views.push_back(table.view(ids.back()));
    }
    CHECK(table.size() == 20001);
    for (int i = 0; i < 20000; ++i) {
      CHECK(views[static_cast<std::size_t>(i)] == "text " + std::to_string(i));
      CHECK(table.intern("text " + std::to_string(i)) == ids[static_cast<std::size_t>(i)]);
    }
    CHECK(table.view(StringId(0u)).empty());
    CHECK(table.view(StringId::none()).empty());
    CHECK(!table.find("never seen").valid());
    const StringTable copy = table;
    CHECK(copy.view(ids[7]) == "text 7");
    CHECK(copy.view(ids[7]).data() != table.view(ids[7]).data());
  }
}
