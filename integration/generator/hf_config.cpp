// SPDX-License-Identifier: Apache-2.0
// Hugging Face config.json to ModelConfig. The file is outside input: every number is checked, the
// family decides the defaults.
#include "core/printable.hpp"
#include "integration/generator/model_config.hpp"

#include <nlohmann/json.hpp>

#include <array>
#include <cctype>

namespace spillway {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kTextBytesMax = std::size_t{4} << 20;
constexpr std::uint64_t kNumberMax = std::uint64_t{1} << 40;

class HfConfigReader {
 public:
  explicit HfConfigReader(std::string_view source_name) : source_name_(source_name) {}

  Result<ModelConfig> read(std::string_view text) {
    if (text.size() > kTextBytesMax)
      return bad("expected at most 4 MiB of JSON, found " + std::to_string(text.size()) + " bytes");
    try {
      root_ = Json::parse(text.begin(), text.end());
    } catch (const Json::parse_error& error) {
      return Status(Code::kBadInput,
                    source_name_ + ": offset " + std::to_string(error.byte) +
                        ": expected JSON, found a syntax error");
    } catch (const Json::exception&) {
      return bad("expected JSON, found a number out of range");
    }
    if (!root_.is_object())
      return bad("expected a JSON object, found " + std::string(root_.type_name()));
    const std::string family = find_family();
    ModelConfig model;
    if (family == "gpt2") {
      SPW_ASSIGN_OR_RETURN(model, gpt2());
    } else if (family == "llama" || family == "mistral" || family == "mixtral" ||
               family == "qwen2") {
      SPW_ASSIGN_OR_RETURN(model, llama(family));
    } else if (family == "bert") {
      SPW_ASSIGN_OR_RETURN(model, bert());
    } else if (family == "t5") {
      SPW_ASSIGN_OR_RETURN(model, t5());
    } else if (family == "vit") {
      SPW_ASSIGN_OR_RETURN(model, vit());
    } else {
      return bad(
          "model_type or architectures: expected gpt2, llama, mistral, mixtral, qwen2, bert, t5 or "
          "vit, found \"" +
          printable(family) + "\"");
    }
    model.name = family + "-config";
    const Status valid = validate(model);
    if (!valid.ok()) return bad(valid.message());
    return model;
  }

 private:
  [[nodiscard]] Status bad(const std::string& what) const {
    return Status(Code::kBadInput, source_name_ + ": " + what);
  }

  // model_type, else the lower-case start of the first architecture ("LlamaForCausalLM").
  [[nodiscard]] std::string find_family() const {
    const auto type = root_.find("model_type");
    if (type != root_.end() && type->is_string()) return type->get<std::string>();
    const auto list = root_.find("architectures");
    if (list == root_.end() || !list->is_array() || list->empty() || !list->front().is_string())
      return "";
    std::string lower;
    for (const char c : list->front().get_ref<const std::string&>()) {
      lower.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
    }
    for (const char* family :
         {"gpt2", "llama", "mistral", "mixtral", "qwen2", "bert", "t5", "vit"}) {
      if (lower.rfind(family, 0) == 0) return family;
    }
    return lower;
  }

  // A whole number from 1 to 2^40; `fallback` stands in for an absent or null one, 0 means it must
  // be there.
  [[nodiscard]] Status number(const char* key, std::uint64_t fallback, std::uint64_t* value) const {
    const auto found = root_.find(key);
    if (found == root_.end() || found->is_null()) {
      if (fallback == 0) return bad(std::string(key) + ": expected a whole number, found none");
      *value = fallback;
      return Status();
    }
    if (!found->is_number_unsigned() || found->get<std::uint64_t>() == 0 ||
        found->get<std::uint64_t>() > kNumberMax) {
      return bad(std::string(key) + ": expected a whole number from 1 to 2^40, found " +
                 printable(found->dump(-1, ' ', true, Json::error_handler_t::replace)));
    }
    *value = found->get<std::uint64_t>();
    return Status();
  }

  [[nodiscard]] Status flag(const char* key, bool fallback, bool* value) const {
    const auto found = root_.find(key);
    *value = fallback;
    if (found == root_.end() || found->is_null()) return Status();
    if (!found->is_boolean()) return bad(std::string(key) + ": expected true or false");
    *value = found->get<bool>();
    return Status();
  }

  // Whether any of the probabilities is above zero; `fallback` when none is given.
  [[nodiscard]] Result<bool> drops_out(std::initializer_list<const char*> keys,
                                       bool fallback) const {
    bool given = false;
    bool active = false;
    for (const char* key : keys) {
      const auto found = root_.find(key);
      if (found == root_.end() || found->is_null()) continue;
      if (!found->is_number() || !(found->get<double>() >= 0) || !(found->get<double>() <= 1)) {
        return bad(std::string(key) + ": expected a probability");
      }
      given = true;
      active = active || found->get<double>() > 0;
    }
    return given ? active : fallback;
  }

  // The activation named by `key`: any gelu or silu counts as one, since they save and cost the
  // same.
  [[nodiscard]] Result<MlpKind> activation(const char* key, const char* fallback) const {
    const auto found = root_.find(key);
    std::string name = fallback;
    if (found != root_.end() && !found->is_null()) {
      if (!found->is_string()) return bad(std::string(key) + ": expected a text");
      name = found->get<std::string>();
    }
    if (name == "relu") return MlpKind::kRelu;
    if (name.find("gelu") != std::string::npos || name == "silu" || name == "swish")
      return MlpKind::kGelu;
    return bad(std::string(key) + ": expected relu, a gelu or silu, found \"" + printable(name) +
               "\"");
  }

  [[nodiscard]] Status divide_heads(StackConfig* stack) const {
    if (stack->heads == 0 || stack->hidden % stack->heads != 0) {
      return bad("heads: expected a divisor of the hidden size " + std::to_string(stack->hidden) +
                 ", found " + std::to_string(stack->heads));
    }
    stack->head_dim = stack->hidden / stack->heads;
    return Status();
  }

  [[nodiscard]] Result<ModelConfig> gpt2() const {
    ModelConfig m;
    SPW_RETURN_IF_ERROR(number("n_embd", 768, &m.stack.hidden));
    SPW_RETURN_IF_ERROR(number("n_layer", 12, &m.stack.layers));
    SPW_RETURN_IF_ERROR(number("n_head", 12, &m.stack.heads));
    SPW_RETURN_IF_ERROR(number("n_inner", 4 * m.stack.hidden, &m.stack.ffn));
    SPW_RETURN_IF_ERROR(number("vocab_size", 50257, &m.vocab));
    SPW_RETURN_IF_ERROR(number("n_positions", 1024, &m.max_positions));
    SPW_RETURN_IF_ERROR(divide_heads(&m.stack));
    m.stack.kv_heads = m.stack.heads;
    SPW_ASSIGN_OR_RETURN(m.mlp, activation("activation_function", "gelu_new"));
    SPW_ASSIGN_OR_RETURN(m.dropout, drops_out({"resid_pdrop", "embd_pdrop", "attn_pdrop"}, true));
    SPW_RETURN_IF_ERROR(flag("tie_word_embeddings", true, &m.tied_head));
    m.default_seq = m.max_positions;
    return m;
  }

  [[nodiscard]] Result<ModelConfig> llama(const std::string& family) const {
    ModelConfig m;
    m.norm = NormKind::kRmsNorm;
    m.mlp = MlpKind::kSwiglu;
    m.positions = Positions::kRotary;
    SPW_RETURN_IF_ERROR(number("hidden_size", 0, &m.stack.hidden));
    SPW_RETURN_IF_ERROR(number("num_hidden_layers", 0, &m.stack.layers));
    SPW_RETURN_IF_ERROR(number("num_attention_heads", 0, &m.stack.heads));
    SPW_RETURN_IF_ERROR(number("num_key_value_heads", m.stack.heads, &m.stack.kv_heads));
    SPW_RETURN_IF_ERROR(number("intermediate_size", 0, &m.stack.ffn));
    SPW_RETURN_IF_ERROR(number("vocab_size", 32000, &m.vocab));
    if (root_.contains("head_dim") && !root_["head_dim"].is_null()) {
      SPW_RETURN_IF_ERROR(number("head_dim", 0, &m.stack.head_dim));
    } else {
      SPW_RETURN_IF_ERROR(divide_heads(&m.stack));
    }
    SPW_ASSIGN_OR_RETURN(const MlpKind gate, activation("hidden_act", "silu"));
    if (gate == MlpKind::kRelu)
      return bad("hidden_act: expected silu or a gelu in a gated MLP, found \"relu\"");
    SPW_RETURN_IF_ERROR(flag("tie_word_embeddings", false, &m.tied_head));
    SPW_RETURN_IF_ERROR(flag("attention_bias", false, &m.bias));
    if (m.bias || family == "qwen2")
      return bad(
          "attention_bias: expected none; biases on some linear layers only are not modelled");
    SPW_ASSIGN_OR_RETURN(m.dropout, drops_out({"attention_dropout"}, false));
    if (m.dropout)
      return bad(
          "attention_dropout: expected 0; dropout of attention weights alone is not modelled");
    if (family == "mixtral") {
      SPW_RETURN_IF_ERROR(number("num_local_experts", 8, &m.experts));
      SPW_RETURN_IF_ERROR(number("num_experts_per_tok", 2, &m.top_k));
    }
    std::uint64_t positions = 0;
    SPW_RETURN_IF_ERROR(number("max_position_embeddings", 2048, &positions));
    m.default_seq = std::min<std::uint64_t>(positions, 4096);
    return m;
  }

  [[nodiscard]] Result<ModelConfig> bert() const {
    ModelConfig m;
    m.architecture = Architecture::kEncoder;
    SPW_RETURN_IF_ERROR(number("hidden_size", 768, &m.stack.hidden));
    SPW_RETURN_IF_ERROR(number("num_hidden_layers", 12, &m.stack.layers));
    SPW_RETURN_IF_ERROR(number("num_attention_heads", 12, &m.stack.heads));
    SPW_RETURN_IF_ERROR(number("intermediate_size", 3072, &m.stack.ffn));
    SPW_RETURN_IF_ERROR(number("vocab_size", 30522, &m.vocab));
    SPW_RETURN_IF_ERROR(number("max_position_embeddings", 512, &m.max_positions));
    SPW_RETURN_IF_ERROR(number("type_vocab_size", 2, &m.token_types));
    SPW_RETURN_IF_ERROR(divide_heads(&m.stack));
    m.stack.kv_heads = m.stack.heads;
    SPW_ASSIGN_OR_RETURN(m.mlp, activation("hidden_act", "gelu"));
    SPW_ASSIGN_OR_RETURN(m.dropout,
                         drops_out({"hidden_dropout_prob", "attention_probs_dropout_prob"}, true));
    m.default_seq = m.max_positions;
    return m;
  }

  [[nodiscard]] Result<ModelConfig> t5() const {
    ModelConfig m;
    m.architecture = Architecture::kEncoderDecoder;
    m.norm = NormKind::kRmsNorm;
    m.positions = Positions::kRelative;
    m.bias = false;
    SPW_RETURN_IF_ERROR(number("d_model", 512, &m.stack.hidden));
    SPW_RETURN_IF_ERROR(number("num_layers", 6, &m.stack.layers));
    SPW_RETURN_IF_ERROR(number("num_heads", 8, &m.stack.heads));
    SPW_RETURN_IF_ERROR(number("d_kv", 64, &m.stack.head_dim));
    SPW_RETURN_IF_ERROR(number("d_ff", 2048, &m.stack.ffn));
    SPW_RETURN_IF_ERROR(number("vocab_size", 32128, &m.vocab));
    m.stack.kv_heads = m.stack.heads;
    m.second = m.stack;
    SPW_RETURN_IF_ERROR(number("num_decoder_layers", m.stack.layers, &m.second.layers));
    SPW_ASSIGN_OR_RETURN(m.mlp, activation("feed_forward_proj", "relu"));
    if (m.mlp != MlpKind::kRelu)
      return bad("feed_forward_proj: expected relu; gated T5 variants are not modelled");
    SPW_ASSIGN_OR_RETURN(m.dropout, drops_out({"dropout_rate"}, true));
    SPW_RETURN_IF_ERROR(flag("tie_word_embeddings", true, &m.tied_head));
    m.default_seq = 512;
    return m;
  }

  [[nodiscard]] Result<ModelConfig> vit() const {
    ModelConfig m;
    m.architecture = Architecture::kVision;
    SPW_RETURN_IF_ERROR(number("hidden_size", 768, &m.stack.hidden));
    SPW_RETURN_IF_ERROR(number("num_hidden_layers", 12, &m.stack.layers));
    SPW_RETURN_IF_ERROR(number("num_attention_heads", 12, &m.stack.heads));
    SPW_RETURN_IF_ERROR(number("intermediate_size", 3072, &m.stack.ffn));
    SPW_RETURN_IF_ERROR(number("image_size", 224, &m.image));
    SPW_RETURN_IF_ERROR(number("patch_size", 16, &m.patch));
    SPW_RETURN_IF_ERROR(number("num_channels", 3, &m.channels));
    SPW_RETURN_IF_ERROR(number("num_labels", 1000, &m.classes));
    SPW_RETURN_IF_ERROR(divide_heads(&m.stack));
    m.stack.kv_heads = m.stack.heads;
    SPW_ASSIGN_OR_RETURN(m.mlp, activation("hidden_act", "gelu"));
    SPW_ASSIGN_OR_RETURN(m.dropout,
                         drops_out({"hidden_dropout_prob", "attention_probs_dropout_prob"}, false));
    m.default_batch = 32;
    return m;
  }

  std::string source_name_;
  Json root_;
};

}  // namespace

Result<ModelConfig> model_from_hf_config(std::string_view json_text, std::string_view source_name) {
  return HfConfigReader(source_name).read(json_text);
}

}  // namespace spillway
