// SPDX-License-Identifier: Apache-2.0
// Packing and names of tags. The name tables are indexed by the enum values above.
#include "core/tag.hpp"

#include <array>

namespace spillway {
namespace {

constexpr std::array<std::string_view, 8> kBufferKinds = {"unknown",
                                                          "activation",
                                                          "parameter",
                                                          "gradient",
                                                          "optimizer",
                                                          "workspace",
                                                          "other",
                                                          "constant"};
constexpr std::array<std::string_view, 5> kPhases = {
    "unknown", "forward", "backward", "optimizer", "other"};
constexpr std::array<std::string_view, 11> kDtypes = {"unknown",
                                                      "fp32",
                                                      "bf16",
                                                      "fp16",
                                                      "fp8_e4m3",
                                                      "fp8_e5m2",
                                                      "int8",
                                                      "int32",
                                                      "int64",
                                                      "bool",
                                                      "fp64"};
constexpr std::array<std::uint32_t, 11> kDtypeBytes = {0, 4, 2, 2, 1, 1, 1, 4, 8, 1, 8};
constexpr std::array<std::string_view, 15> kOpKinds = {"unknown",
                                                       "matmul",
                                                       "conv",
                                                       "attention",
                                                       "norm",
                                                       "elementwise",
                                                       "softmax",
                                                       "dropout",
                                                       "embedding",
                                                       "loss",
                                                       "pool",
                                                       "collective",
                                                       "optimizer",
                                                       "view",
                                                       "other"};

template <typename Enum, std::size_t N>
Enum parse(const std::array<std::string_view, N>& names, std::string_view text) {
  for (std::size_t i = 0; i < N; ++i)
    if (names[i] == text) return static_cast<Enum>(i);
  return static_cast<Enum>(0);
}

template <typename Enum, std::size_t N>
std::string_view name(const std::array<std::string_view, N>& names, Enum value) {
  const auto i = static_cast<std::size_t>(value);
  return i < N ? names[i] : names[0];
}

template <typename Enum>
Enum checked(std::uint64_t byte, std::size_t count) {
  return byte < count ? static_cast<Enum>(byte) : static_cast<Enum>(0);
}

std::uint64_t pack_fields(std::uint8_t kind,
                          std::uint8_t second,
                          Phase phase,
                          std::uint8_t micro_batch,
                          std::uint16_t layer,
                          std::uint16_t flags) {
  return static_cast<std::uint64_t>(kind) | static_cast<std::uint64_t>(second) << 8 |
         static_cast<std::uint64_t>(phase) << 16 | static_cast<std::uint64_t>(micro_batch) << 24 |
         static_cast<std::uint64_t>(layer) << 32 | static_cast<std::uint64_t>(flags) << 48;
}

}  // namespace

std::uint64_t pack(const Tag& tag) {
  return pack_fields(static_cast<std::uint8_t>(tag.kind),
                     static_cast<std::uint8_t>(tag.dtype),
                     tag.phase,
                     tag.micro_batch,
                     tag.layer,
                     tag.flags);
}

std::uint64_t pack(const OpTag& tag) {
  return pack_fields(static_cast<std::uint8_t>(tag.kind),
                     tag.reserved,
                     tag.phase,
                     tag.micro_batch,
                     tag.layer,
                     tag.flags);
}

Tag unpack_tag(std::uint64_t bits) {
  Tag tag;
  tag.kind = checked<BufferKind>(bits & 0xff, kBufferKinds.size());
  tag.dtype = checked<Dtype>(bits >> 8 & 0xff, kDtypes.size());
  tag.phase = checked<Phase>(bits >> 16 & 0xff, kPhases.size());
  tag.micro_batch = static_cast<std::uint8_t>(bits >> 24);
  tag.layer = static_cast<std::uint16_t>(bits >> 32);
  tag.flags = static_cast<std::uint16_t>(bits >> 48);
  return tag;
}

OpTag unpack_op_tag(std::uint64_t bits) {
  OpTag tag;
  tag.kind = checked<OpKind>(bits & 0xff, kOpKinds.size());
  tag.phase = checked<Phase>(bits >> 16 & 0xff, kPhases.size());
  tag.micro_batch = static_cast<std::uint8_t>(bits >> 24);
  tag.layer = static_cast<std::uint16_t>(bits >> 32);
  tag.flags = static_cast<std::uint16_t>(bits >> 48);
  return tag;
}

std::string_view name_of(BufferKind kind) { return name(kBufferKinds, kind); }
std::string_view name_of(Phase phase) { return name(kPhases, phase); }
std::string_view name_of(Dtype dtype) { return name(kDtypes, dtype); }
std::string_view name_of(OpKind kind) { return name(kOpKinds, kind); }

BufferKind parse_buffer_kind(std::string_view text) {
  return parse<BufferKind>(kBufferKinds, text);
}
Phase parse_phase(std::string_view text) { return parse<Phase>(kPhases, text); }
Dtype parse_dtype(std::string_view text) { return parse<Dtype>(kDtypes, text); }
OpKind parse_op_kind(std::string_view text) { return parse<OpKind>(kOpKinds, text); }

std::uint32_t dtype_bytes(Dtype dtype) {
  const auto i = static_cast<std::size_t>(dtype);
  return i < kDtypeBytes.size() ? kDtypeBytes[i] : 0;
}

}  // namespace spillway
