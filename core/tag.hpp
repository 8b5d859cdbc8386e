// SPDX-License-Identifier: Apache-2.0
// What a buffer or an op is: kind, dtype, phase, layer, micro-batch and flags, packed into 64 bits
// so that a tag travels in one trace record. The layout is part of the file formats
// (docs/trace_format.md): append, never renumber.
#pragma once

#include <cstdint>
#include <string_view>

namespace spillway {

enum class BufferKind : std::uint8_t {
  kUnknown = 0,
  kActivation = 1,
  kParameter = 2,
  kGradient = 3,
  kOptimizer = 4,
  kWorkspace = 5,  // temporaries: born and dead inside one phase
  kOther = 6,
  kConstant = 7,  // inputs of the step and everything that is never written in it
};

enum class Phase : std::uint8_t {
  kUnknown = 0,
  kForward = 1,
  kBackward = 2,
  kOptimizer = 3,
  kOther = 4
};

enum class Dtype : std::uint8_t {
  kUnknown = 0,
  kFp32 = 1,
  kBf16 = 2,
  kFp16 = 3,
  kFp8E4m3 = 4,
  kFp8E5m2 = 5,
  kInt8 = 6,
  kInt32 = 7,
  kInt64 = 8,
  kBool = 9,
  kFp64 = 10,
};

enum class OpKind : std::uint8_t {
  kUnknown = 0,
  kMatmul = 1,
  kConv = 2,
  kAttention = 3,  // fused attention, or the score/softmax/dropout/context part of an unfused one
  kNorm = 4,
  kElementwise = 5,  // bias, activation functions, residual adds
  kSoftmax = 6,
  kDropout = 7,
  kEmbedding = 8,
  kLoss = 9,
  kPool = 10,
  kCollective = 11,
  kOptimizer = 12,
  kView = 13,  // no bytes of its own
  kOther = 14,
};

// Flags of a buffer (Tag::flags) and of an op (OpTag::flags).
enum BufferFlag : std::uint16_t {
  kExactRequired = 1u << 0,
  kLossyOk = 1u << 1,
  kBoolean = 1u << 2,
  kSignOnly = 1u << 3,
  kNeverRecompute = 1u << 4,
  kContainsCollective = 1u << 5,
  kTagInferred = 1u << 6,  // kind or phase was concluded, not recorded
  kPreexisting = 1u << 7,  // alive before the step's first record
  kRewritten =
      1u << 8,  // written again after it was created: recompute of one op would not rebuild it
  kSparseValues = 1u << 9,  // many exact zeros: output of a ReLU or of a dropout
};
enum OpFlag : std::uint16_t {
  kOpRng = 1u << 0,
  kOpInPlace = 1u << 1,
  kOpCollective = 1u << 2,
  kOpNeverRecompute = 1u << 3,
  kOpInferred = 1u << 4,       // made up from lifetimes; it has no inputs and cannot be run again
  kOpRngRestorable = 1u << 5,  // draws random numbers, and seed and offset are known: may run again
};

inline constexpr std::uint16_t kNoLayer = 0xffff;
inline constexpr std::uint8_t kNoMicroBatch = 0xff;

struct Tag {
  BufferKind kind = BufferKind::kUnknown;
  Dtype dtype = Dtype::kUnknown;
  Phase phase = Phase::kUnknown;
  std::uint8_t micro_batch = kNoMicroBatch;
  std::uint16_t layer = kNoLayer;
  std::uint16_t flags = 0;

  [[nodiscard]] bool has(BufferFlag flag) const { return (flags & flag) != 0; }
  friend bool operator==(const Tag&, const Tag&) = default;
};

struct OpTag {
  OpKind kind = OpKind::kUnknown;
  std::uint8_t reserved = 0;
  Phase phase = Phase::kUnknown;
  std::uint8_t micro_batch = kNoMicroBatch;
  std::uint16_t layer = kNoLayer;
  std::uint16_t flags = 0;

  [[nodiscard]] bool has(OpFlag flag) const { return (flags & flag) != 0; }
  friend bool operator==(const OpTag&, const OpTag&) = default;
};

static_assert(sizeof(Tag) == 8 && sizeof(OpTag) == 8);

/// Little-endian by construction: kind, dtype, phase, micro_batch, layer, flags from the lowest
/// byte up.
std::uint64_t pack(const Tag& tag);
std::uint64_t pack(const OpTag& tag);
/// Values outside the enums become kUnknown, so that hostile bits cannot make an invalid enum.
Tag unpack_tag(std::uint64_t bits);
OpTag unpack_op_tag(std::uint64_t bits);

std::string_view name_of(BufferKind kind);
std::string_view name_of(Phase phase);
std::string_view name_of(Dtype dtype);
std::string_view name_of(OpKind kind);

/// Inverse of name_of; kUnknown for any other text.
BufferKind parse_buffer_kind(std::string_view text);
Phase parse_phase(std::string_view text);
Dtype parse_dtype(std::string_view text);
OpKind parse_op_kind(std::string_view text);

/// Bytes of one element; 0 when unknown.
std::uint32_t dtype_bytes(Dtype dtype);

}  // namespace spillway
