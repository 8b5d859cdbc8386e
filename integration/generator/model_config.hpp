// SPDX-License-Identifier: Apache-2.0
// What a model is made of, as numbers: by name, from a Hugging Face config.json, or with single
// numbers overridden.
#pragma once

#include "core/status.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace spillway {

enum class Architecture : std::uint8_t {
  kDecoder,         // GPT, Llama, Mixtral: pre-norm, causal
  kEncoder,         // BERT: post-norm, masked-token and next-sentence heads
  kEncoderDecoder,  // T5
  kVision,          // ViT
  kDual,            // CLIP: a vision and a text tower
  kResNet,          // ImageNet bottleneck network
  kResNetPreAct,    // CIFAR-like pre-activation bottleneck network
  kUnet,
  kVgg,
  kLstm,
};

enum class NormKind : std::uint8_t { kLayerNorm, kRmsNorm };
enum class MlpKind : std::uint8_t { kGelu, kRelu, kSwiglu };
enum class Positions : std::uint8_t { kLearned, kRotary, kRelative };

/// One stack of transformer layers.
struct StackConfig {
  std::uint64_t layers = 0;
  std::uint64_t hidden = 0;
  std::uint64_t heads = 0;
  std::uint64_t kv_heads = 0;
  std::uint64_t head_dim = 0;
  std::uint64_t ffn = 0;
};

struct ModelConfig {
  std::string name;
  Architecture architecture = Architecture::kDecoder;

  StackConfig stack;   // text decoder or encoder; the encoder of two; the vision tower
  StackConfig second;  // decoder of an encoder-decoder; text tower of a dual model
  NormKind norm = NormKind::kLayerNorm;
  MlpKind mlp = MlpKind::kGelu;
  Positions positions = Positions::kLearned;
  bool bias = true;       // of linear layers
  bool tied_head = true;  // output layer shares the token table
  bool dropout = true;    // after attention weights, attention output, MLP and embeddings
  std::uint64_t vocab = 0;
  std::uint64_t max_positions = 0;
  std::uint64_t token_types = 0;
  std::uint64_t experts = 0;  // 0: dense
  std::uint64_t top_k = 0;

  std::uint64_t image = 0;  // pixels a side
  std::uint64_t patch = 0;
  std::uint64_t channels = 3;
  std::uint64_t classes = 0;
  std::uint64_t projection = 0;  // width of the shared space of a dual model
  std::vector<std::uint64_t>
      stage_blocks;               // residual blocks by stage; convolutions by stage for VGG
  std::uint64_t base_width = 64;  // channels of the first stage

  std::uint64_t default_batch = 1;
  std::uint64_t default_seq = 0;  // 0: the model has no sequence length to choose
  std::string default_dtype = "bf16";
};

/// Single numbers that replace a model's own.
struct ModelOverrides {
  std::optional<std::uint64_t> layers;
  std::optional<std::uint64_t> hidden;
  std::optional<std::uint64_t> heads;
  std::optional<std::uint64_t> kv_heads;
  std::optional<std::uint64_t> ffn;
  std::optional<std::uint64_t> experts;
  std::optional<std::uint64_t> top_k;
  std::optional<std::uint64_t> vocab;
};

/// Names of the built-in models, in the order of the documentation.
std::vector<std::string> model_names();

/// The model called `name`; case, separators and version numbers of common spellings are free
/// ("Llama-2-70B", "ViT-H/14").
Result<ModelConfig> model_by_name(std::string_view name);

/// A Hugging Face config.json: gpt2, llama, mistral, mixtral, bert, t5 and vit families.
/// `source_name` opens error texts (kBadInput).
Result<ModelConfig> model_from_hf_config(std::string_view json_text, std::string_view source_name);

/// Replaces numbers. Without `ffn`, a new hidden size keeps the ratio of ffn to hidden when it is
/// whole; without `kv_heads`, new heads are all their own; the head size is hidden / heads. Fails
/// when the model has no such number.
Status apply_overrides(const ModelOverrides& overrides, ModelConfig* model);

/// Whether the numbers describe a model that can be built: above zero, in range, dividing where
/// they must.
Status validate(const ModelConfig& model);

}  // namespace spillway
