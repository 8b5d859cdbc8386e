// SPDX-License-Identifier: Apache-2.0
// Saved tensors as bf16 and bytes, through a codec where codec_applies() says so.
#include "bench/support/tiny_transformer.hpp"
#include "kernels/host_codec.hpp"

#include <cstring>
#include <utility>

namespace spillway::bench {
namespace {

std::uint16_t bf16_of(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

CodecFormat format_of(Codec codec, Dtype dtype) {
  CodecFormat format;
  format.codec = codec;
  format.dtype = dtype;
  return format;
}

}  // namespace

void Stash::begin_step(std::uint64_t step) {
  step_ = step;
  kept_.clear();
  source_bytes_ = kept_bytes_ = misfits_ = coded_ = 0;
}

std::size_t Stash::keep(std::vector<std::byte> bytes, const Tag& tag) {
  Kept kept;
  kept.source_bytes = bytes.size();
  kept.bytes = std::move(bytes);
  if (codec_applies(codec_, tag, true)) {
    const CodecFormat format = format_of(codec_, tag.dtype);
    std::vector<std::byte> payload(
        format.payload_bytes_for(kept.source_bytes / dtype_bytes(tag.dtype)));
    HostCodecOptions options;
    options.threads = 1;
    options.tensor_key = kept_.size();
    options.step = step_;
    const auto encoded = encode(format, kept.bytes, payload, options);
    if (encoded.ok() && encoded.value().misfit_tiles == 0) {
      kept.bytes = std::move(payload);
      kept.is_coded = true;
      ++coded_;
    } else {
      ++misfits_;
    }
  }
  source_bytes_ += kept.source_bytes;
  kept_bytes_ += kept.bytes.size();
  kept_.push_back(std::move(kept));
  return kept_.size() - 1;
}

std::vector<std::byte> Stash::source_of(std::size_t handle) const {
  const Kept& kept = kept_[handle];
  if (!kept.is_coded) return kept.bytes;
  std::vector<std::byte> source(kept.source_bytes);
  HostCodecOptions options;
  options.threads = 1;
  // What was just encoded can be decoded (tests/kernels); without it the values are zeros.
  (void)decode(kept.bytes, source, options);
  return source;
}

std::size_t Stash::save(const Floats& values, std::uint16_t flags) {
  std::vector<std::byte> bytes(values.size() * 2);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint16_t raw = bf16_of(values[i]);
    std::memcpy(bytes.data() + 2 * i, &raw, 2);
  }
  Tag tag;
  tag.kind = BufferKind::kActivation;
  tag.dtype = Dtype::kBf16;
  tag.flags = flags;
  return keep(std::move(bytes), tag);
}

std::size_t Stash::save_mask(const std::vector<std::uint8_t>& mask) {
  std::vector<std::byte> bytes(mask.size());
  std::memcpy(bytes.data(), mask.data(), mask.size());
  Tag tag;
  tag.kind = BufferKind::kActivation;
  tag.dtype = Dtype::kBool;
  tag.flags = kBoolean;
  return keep(std::move(bytes), tag);
}

Floats Stash::load(std::size_t handle) const {
  const std::vector<std::byte> bytes = source_of(handle);
  Floats values(bytes.size() / 2);
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::uint16_t raw = 0;
    std::memcpy(&raw, bytes.data() + 2 * i, 2);
    const std::uint32_t bits = static_cast<std::uint32_t>(raw) << 16;
    std::memcpy(&values[i], &bits, 4);
  }
  return values;
}

std::vector<std::uint8_t> Stash::load_mask(std::size_t handle) const {
  const std::vector<std::byte> bytes = source_of(handle);
  std::vector<std::uint8_t> mask(bytes.size());
  std::memcpy(mask.data(), bytes.data(), bytes.size());
  return mask;
}

}  // namespace spillway::bench
