// SPDX-License-Identifier: Apache-2.0
// A small byte-level transformer with its own forward and backward pass in fp32, whose backward
// reads nothing of the forward but what a Stash has kept: the place where a codec works.
#pragma once

#include "core/codec.hpp"
#include "core/random.hpp"
#include "core/tag.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace spillway::bench {

using Floats = std::vector<float>;

struct TransformerShape {
  int layers = 2;  // even ones with GELU, odd ones with ReLU
  int width = 64;
  int heads = 4;
  int ffn = 256;
  int seq = 64;
  int batch = 4;
  double dropout = 0.1;
};
inline constexpr int kByteValues = 256;

/// What forward leaves for backward: bf16 and bytes, through one codec where the tag permits it. A
/// lossless code that does not fit keeps the source, as the runtime must.
class Stash {
 public:
  explicit Stash(Codec codec) : codec_(codec) {}

  /// Forgets all; what int4 draws follows from `step` and the order of saves.
  void begin_step(std::uint64_t step);
  /// Rounds to bf16 (nearest even) and keeps that; the handle is for load().
  std::size_t save(const Floats& values, std::uint16_t flags = 0);
  std::size_t save_mask(const std::vector<std::uint8_t>& mask);
  [[nodiscard]] Floats load(std::size_t handle) const;
  [[nodiscard]] std::vector<std::uint8_t> load_mask(std::size_t handle) const;

  /// Of the step so far: bytes before and after the codec, and tensors that did not fit.
  [[nodiscard]] std::uint64_t source_bytes() const { return source_bytes_; }
  [[nodiscard]] std::uint64_t kept_bytes() const { return kept_bytes_; }
  [[nodiscard]] std::uint64_t misfits() const { return misfits_; }
  [[nodiscard]] std::uint64_t coded() const { return coded_; }

 private:
  struct Kept {
    std::vector<std::byte> bytes;  // the values, or the payload
    bool is_coded = false;
    std::size_t source_bytes = 0;
  };
  std::size_t keep(std::vector<std::byte> bytes, const Tag& tag);
  [[nodiscard]] std::vector<std::byte> source_of(std::size_t handle) const;

  Codec codec_;
  std::uint64_t step_ = 0;
  std::vector<Kept> kept_;
  std::uint64_t source_bytes_ = 0;
  std::uint64_t kept_bytes_ = 0;
  std::uint64_t misfits_ = 0;
  std::uint64_t coded_ = 0;
};

/// A parameter with its gradient and AdamW's moments.
struct Parameter {
  Floats value;
  Floats grad;
  Floats first;
  Floats second;
  bool decays = false;  // matrices do, vectors do not
};

class TinyTransformer {
 public:
  TinyTransformer(const TransformerShape& shape, std::uint64_t seed);

  /// Mean cross entropy in nats a byte; sets every gradient. `bytes`: batch rows of seq + 1.
  double train_step(std::span<const std::uint8_t> bytes, Random* dropout, Stash* stash);
  /// AdamW with betas 0.9 and 0.99, decay 0.01. `step` counts from 0.
  void update(double learning_rate, std::uint64_t step);

 private:
  struct Norm {
    std::size_t gain, bias;
  };
  struct Linear {
    std::size_t weight, bias;
    int in, out;
  };
  struct Layer {
    Norm norm1, norm2;
    Linear qkv, proj, fc1, fc2;
    bool relu;
  };
  struct NormTape {
    std::size_t input;
    Floats mean, inverse;  // fp32: never through a codec
  };
  struct LayerTape {
    NormTape norm1, norm2;
    std::size_t qkv_in, q, k, v, context, fc1_in, gelu_in, fc2_in, mask1, mask2;
    Floats log_sum;  // fp32, per row and head
  };

  std::size_t parameter(std::size_t count, double deviation, double fill, Random* random);
  Norm norm(Random* random);
  Linear linear(int in, int out, Random* random);

  Floats norm_forward(const Norm& norm, const Floats& x, NormTape* tape, Stash* stash) const;
  Floats norm_backward(const Norm& norm,
                       const NormTape& tape,
                       const Floats& gradient,
                       const Stash& stash);
  [[nodiscard]] Floats linear_forward(const Linear& linear, const Floats& x) const;
  Floats linear_backward(const Linear& linear, const Floats& x, const Floats& gradient);
  Floats attention_forward(const Floats& qkv, LayerTape* tape, Stash* stash) const;
  [[nodiscard]] Floats attention_backward(const LayerTape& tape,
                                          const Floats& gradient,
                                          const Stash& stash) const;
  Floats dropout_forward(Floats x, Random* random, std::size_t* handle, Stash* stash) const;
  [[nodiscard]] Floats dropout_backward(Floats gradient,
                                        std::size_t handle,
                                        const Stash& stash) const;

  TransformerShape shape_;
  std::size_t rows_;  // tokens of a step
  std::vector<Parameter> parameters_;
  std::size_t tokens_, positions_;
  std::vector<Layer> layers_;
  Norm last_norm_;
  Linear head_;
};

}  // namespace spillway::bench
