// SPDX-License-Identifier: Apache-2.0
// The built-in models as one table of numbers, and the checks that every source of numbers goes
// through.
#include "integration/generator/model_config.hpp"

#include "core/printable.hpp"

#include <cctype>

namespace spillway {
namespace {

StackConfig stack_of(std::uint64_t layers,
                     std::uint64_t hidden,
                     std::uint64_t heads,
                     std::uint64_t ffn,
                     std::uint64_t kv_heads = 0,
                     std::uint64_t head_dim = 0) {
  return {layers,
          hidden,
          heads,
          kv_heads == 0 ? heads : kv_heads,
          head_dim == 0 ? hidden / heads : head_dim,
          ffn};
}

ModelConfig gpt(std::string name,
                std::uint64_t layers,
                std::uint64_t hidden,
                std::uint64_t heads,
                std::uint64_t seq,
                std::uint64_t batch) {
  ModelConfig m;
  m.name = std::move(name);
  m.stack = stack_of(layers, hidden, heads, 4 * hidden);
  m.vocab = 50257;
  m.max_positions = seq;
  m.default_batch = batch;
  m.default_seq = seq;
  return m;
}

ModelConfig llama(std::string name, StackConfig stack, std::uint64_t seq) {
  ModelConfig m;
  m.name = std::move(name);
  m.stack = stack;
  m.norm = NormKind::kRmsNorm;
  m.mlp = MlpKind::kSwiglu;
  m.positions = Positions::kRotary;
  m.bias = false;
  m.tied_head = false;
  m.dropout = false;
  m.vocab = 32000;
  m.max_positions = seq;
  m.default_seq = seq;
  return m;
}

ModelConfig bert(std::string name, StackConfig stack, std::uint64_t batch) {
  ModelConfig m;
  m.name = std::move(name);
  m.architecture = Architecture::kEncoder;
  m.stack = stack;
  m.vocab = 30522;
  m.max_positions = 512;
  m.token_types = 2;
  m.default_batch = batch;
  m.default_seq = 512;
  return m;
}

ModelConfig t5(std::string name, StackConfig stack, std::uint64_t batch) {
  ModelConfig m;
  m.name = std::move(name);
  m.architecture = Architecture::kEncoderDecoder;
  m.stack = stack;
  m.second = stack;
  m.norm = NormKind::kRmsNorm;
  m.mlp = MlpKind::kRelu;
  m.positions = Positions::kRelative;
  m.bias = false;
  m.vocab = 32128;
  m.default_batch = batch;
  m.default_seq = 512;
  return m;
}

ModelConfig vit_h() {
  ModelConfig m;
  m.name = "vit-h";
  m.architecture = Architecture::kVision;
  m.stack = stack_of(32, 1280, 16, 5120);
  m.dropout = false;
  m.image = 224;
  m.patch = 14;
  m.classes = 1000;
  m.default_batch = 32;
  return m;
}

ModelConfig clip_vit_l() {
  ModelConfig m;
  m.name = "clip-vit-l";
  m.architecture = Architecture::kDual;
  m.stack = stack_of(24, 1024, 16, 4096);
  m.second = stack_of(12, 768, 12, 3072);
  m.dropout = false;
  m.image = 224;
  m.patch = 14;
  m.projection = 768;
  m.vocab = 49408;
  m.max_positions = 77;
  m.default_batch = 64;
  m.default_seq = 77;
  return m;
}

ModelConfig conv(std::string name,
                 Architecture architecture,
                 std::vector<std::uint64_t> blocks,
                 std::uint64_t width,
                 std::uint64_t image,
                 std::uint64_t classes,
                 std::uint64_t batch) {
  ModelConfig m;
  m.name = std::move(name);
  m.architecture = architecture;
  m.stage_blocks = std::move(blocks);
  m.base_width = width;
  m.image = image;
  m.classes = classes;
  m.default_batch = batch;
  m.default_dtype = "fp32";
  return m;
}

ModelConfig lstm() {
  ModelConfig m;
  m.name = "lstm";
  m.architecture = Architecture::kLstm;
  m.stack.layers = 2;
  m.stack.hidden = 1500;
  m.tied_head = false;
  m.vocab = 10000;
  m.default_batch = 20;
  m.default_seq = 35;
  m.default_dtype = "fp32";
  return m;
}

// Sizes: GPT-2 and GPT-3 papers, Llama and Llama 2 papers, Mixtral paper, BERT, T5 1.0, ViT, CLIP,
// ResNet and U-Net papers; LSTM: the large model of Zaremba et al. 2014.
std::vector<ModelConfig> all_models() {
  std::vector<ModelConfig> models;
  models.push_back(gpt("gpt2", 12, 768, 12, 1024, 8));
  models.push_back(gpt("gpt2-medium", 24, 1024, 16, 1024, 8));
  models.push_back(gpt("gpt2-large", 36, 1280, 20, 1024, 4));
  models.push_back(gpt("gpt2-xl", 48, 1600, 25, 1024, 4));
  models.push_back(gpt("gpt3-175b", 96, 12288, 96, 2048, 1));
  models.push_back(llama("llama-7b", stack_of(32, 4096, 32, 11008), 2048));
  models.push_back(llama("llama-13b", stack_of(40, 5120, 40, 13824), 2048));
  models.push_back(llama("llama-70b", stack_of(80, 8192, 64, 28672, 8), 4096));
  models.push_back(llama("mixtral-8x7b", stack_of(32, 4096, 32, 14336, 8), 4096));
  models.back().experts = 8;
  models.back().top_k = 2;
  models.push_back(bert("bert-base", stack_of(12, 768, 12, 3072), 32));
  models.push_back(bert("bert-large", stack_of(24, 1024, 16, 4096), 16));
  models.push_back(t5("t5-base", stack_of(12, 768, 12, 3072, 0, 64), 8));
  models.push_back(t5("t5-large", stack_of(24, 1024, 16, 4096, 0, 64), 4));
  models.push_back(vit_h());
  models.push_back(clip_vit_l());
  models.push_back(conv("resnet-50", Architecture::kResNet, {3, 4, 6, 3}, 64, 224, 1000, 64));
  models.push_back(
      conv("resnet-1001", Architecture::kResNetPreAct, {111, 111, 111}, 16, 32, 10, 64));
  models.push_back(conv("unet", Architecture::kUnet, {1, 1, 1, 1}, 64, 512, 2, 4));
  models.push_back(conv("vgg-16", Architecture::kVgg, {2, 2, 3, 3, 3}, 64, 224, 1000, 64));
  models.push_back(lstm());
  return models;
}

// Letters and digits only, lower case, so that "Llama-2-70B" and "llama 2 70b" are one.
std::string squeezed(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 128)) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0) out.push_back(static_cast<char>(std::tolower(byte)));
  }
  return out;
}

struct Spelling {
  std::string_view text;  // squeezed
  std::string_view name;
};
constexpr Spelling kSpellings[] = {
    {"gpt2small", "gpt2"},
    {"gpt2124m", "gpt2"},
    {"gpt2m", "gpt2-medium"},
    {"gpt2l", "gpt2-large"},
    {"gpt215b", "gpt2-xl"},
    {"gpt3", "gpt3-175b"},
    {"llama17b", "llama-7b"},
    {"llama27b", "llama-7b"},
    {"llama27bhf", "llama-7b"},
    {"llama113b", "llama-13b"},
    {"llama213b", "llama-13b"},
    {"llama270b", "llama-70b"},
    {"llama270bhf", "llama-70b"},
    {"mixtral", "mixtral-8x7b"},
    {"mixtral8x7bv01", "mixtral-8x7b"},
    {"bert", "bert-base"},
    {"bertbaseuncased", "bert-base"},
    {"bertlargeuncased", "bert-large"},
    {"t5", "t5-base"},
    {"vith14", "vit-h"},
    {"vithuge", "vit-h"},
    {"vit", "vit-h"},
    {"clip", "clip-vit-l"},
    {"clipvitl14", "clip-vit-l"},
    {"clipvitlarge", "clip-vit-l"},
    {"clipvitlargepatch14", "clip-vit-l"},
    {"vgg", "vgg-16"},
};

Status out_of_range(const char* what, std::uint64_t value, std::uint64_t max) {
  return Status(Code::kInvalidArgument,
                std::string(what) + ": expected 1 to " + std::to_string(max) + ", found " +
                    std::to_string(value));
}

Status check_stack(const StackConfig& stack) {
  // Layers are 16 bits in a tag; the rest bounds products far below 64 bits and the number of ops.
  constexpr std::uint64_t kLayersMax = 16384;
  constexpr std::uint64_t kWidthMax = std::uint64_t{1} << 22;
  if (stack.layers == 0 || stack.layers > kLayersMax)
    return out_of_range("layers", stack.layers, kLayersMax);
  if (stack.hidden == 0 || stack.hidden > kWidthMax)
    return out_of_range("hidden", stack.hidden, kWidthMax);
  if (stack.heads == 0 || stack.heads > stack.hidden)
    return out_of_range("heads", stack.heads, stack.hidden);
  if (stack.head_dim == 0 || stack.head_dim > kWidthMax)
    return out_of_range("head size", stack.head_dim, kWidthMax);
  if (stack.ffn == 0 || stack.ffn > kWidthMax) return out_of_range("ffn", stack.ffn, kWidthMax);
  if (stack.kv_heads == 0 || stack.heads % stack.kv_heads != 0) {
    return Status(Code::kInvalidArgument,
                  "kv-heads: expected a divisor of " + std::to_string(stack.heads) +
                      " heads, found " + std::to_string(stack.kv_heads));
  }
  return Status();
}

bool has_stack(Architecture a) {
  return a == Architecture::kDecoder || a == Architecture::kEncoder ||
         a == Architecture::kEncoderDecoder || a == Architecture::kVision ||
         a == Architecture::kDual;
}

}  // namespace

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const ModelConfig& model : all_models()) names.push_back(model.name);
  return names;
}

Result<ModelConfig> model_by_name(std::string_view name) {
  std::string wanted = squeezed(name);
  for (const Spelling& spelling : kSpellings) {
    if (spelling.text == wanted) wanted = squeezed(spelling.name);
  }
  std::string known;
  for (ModelConfig& model : all_models()) {
    if (squeezed(model.name) == wanted) return std::move(model);
    known += (known.empty() ? "" : ", ") + model.name;
  }
  return Status(Code::kNotFound, "no model \"" + printable(name) + "\"; known: " + known);
}

Status apply_overrides(const ModelOverrides& o, ModelConfig* model) {
  const bool any_stack = o.layers || o.hidden || o.heads || o.kv_heads || o.ffn;
  const bool lstm = model->architecture == Architecture::kLstm;
  if (!has_stack(model->architecture) && (o.heads || o.kv_heads || o.ffn || (any_stack && !lstm))) {
    return Status(Code::kInvalidArgument,
                  model->name +
                      " has no transformer layers: --layers, --hidden, --heads, --kv-heads and "
                      "--ffn do not apply");
  }
  if ((o.experts || o.top_k) && model->architecture != Architecture::kDecoder) {
    return Status(Code::kInvalidArgument,
                  "--experts and --top-k apply to decoder models, not to " + model->name);
  }
  if (o.vocab && model->vocab == 0) {
    return Status(Code::kInvalidArgument,
                  model->name + " has no vocabulary: --vocab does not apply");
  }
  for (StackConfig* stack : {&model->stack, &model->second}) {
    if (stack->layers == 0) continue;
    const std::uint64_t old_hidden = stack->hidden;
    if (o.layers) stack->layers = *o.layers;
    if (o.hidden) stack->hidden = *o.hidden;
    if (o.heads) {
      stack->heads = *o.heads;
      stack->kv_heads = *o.heads;
    }
    if (o.kv_heads) stack->kv_heads = *o.kv_heads;
    if (o.ffn) {
      stack->ffn = *o.ffn;
    } else if (o.hidden && stack->ffn % old_hidden == 0 && *o.hidden < (std::uint64_t{1} << 32)) {
      stack->ffn = stack->ffn / old_hidden * *o.hidden;
    }
    if ((o.hidden || o.heads) && !lstm) {
      if (stack->heads == 0 || stack->hidden % stack->heads != 0) {
        return Status(Code::kInvalidArgument,
                      "heads: expected a divisor of hidden " + std::to_string(stack->hidden) +
                          ", found " + std::to_string(stack->heads));
      }
      stack->head_dim = stack->hidden / stack->heads;
    }
  }
  if (o.vocab) model->vocab = *o.vocab;
  if (o.experts) {
    model->experts = *o.experts;
    if (model->top_k == 0) model->top_k = 1;
  }
  if (o.top_k) model->top_k = *o.top_k;
  if (any_stack || o.vocab || o.experts || o.top_k) model->name += "-custom";
  return validate(*model);
}

Status validate(const ModelConfig& model) {
  constexpr std::uint64_t kVocabMax = std::uint64_t{1} << 26;
  constexpr std::uint64_t kExpertsMax = 1024;
  constexpr std::uint64_t kExpertOpsMax = 65536;
  if (has_stack(model.architecture)) {
    SPW_RETURN_IF_ERROR(check_stack(model.stack));
    if (model.architecture == Architecture::kEncoderDecoder ||
        model.architecture == Architecture::kDual) {
      SPW_RETURN_IF_ERROR(check_stack(model.second));
    }
  } else if (model.architecture == Architecture::kLstm) {
    if (model.stack.layers == 0 || model.stack.layers > 64)
      return out_of_range("layers", model.stack.layers, 64);
    if (model.stack.hidden == 0 || model.stack.hidden > 65536)
      return out_of_range("hidden", model.stack.hidden, 65536);
  }
  const bool text = model.architecture != Architecture::kVision &&
                    (has_stack(model.architecture) || model.architecture == Architecture::kLstm);
  if (text && (model.vocab == 0 || model.vocab > kVocabMax))
    return out_of_range("vocab", model.vocab, kVocabMax);
  if (model.experts > kExpertsMax) return out_of_range("experts", model.experts, kExpertsMax);
  if (model.experts > 0 && (model.top_k == 0 || model.top_k > model.experts)) {
    return out_of_range("top-k", model.top_k, model.experts);
  }
  if (model.experts == 0 && model.top_k != 0) {
    return Status(Code::kInvalidArgument, "top-k: expected experts to choose from, found none");
  }
  if (model.experts * model.stack.layers > kExpertOpsMax) {
    return Status(Code::kInvalidArgument,
                  "experts x layers: expected at most " + std::to_string(kExpertOpsMax));
  }
  const bool patches =
      model.architecture == Architecture::kVision || model.architecture == Architecture::kDual;
  if (patches && (model.patch == 0 || model.image % model.patch != 0)) {
    return Status(Code::kInvalidArgument, "patch: expected a divisor of the image size");
  }
  if (model.image > 65536) return out_of_range("image", model.image, 65536);
  return Status();
}

}  // namespace spillway
