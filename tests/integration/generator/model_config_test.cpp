// SPDX-License-Identifier: Apache-2.0
// Model names, overrides and Hugging Face config files, good and hostile.
#include "integration/generator/model_config.hpp"

#include "integration/generator/generator.hpp"
#include "tests/integration/generator/collected_step.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace spillway;

namespace {

std::uint64_t parameters_of(const ModelConfig& model) {
  GenerateOptions options;
  options.dtype = "fp32";
  CollectedStep step;
  REQUIRE(generate(model, options, load_calibration("h200").value(), step).ok());
  return step.bytes_of(BufferKind::kParameter) / 4;
}

std::uint64_t parameters_of_config(const std::string& json) {
  const auto model = model_from_hf_config(json, "config.json");
  CAPTURE(model.status().message());
  REQUIRE(model.ok());
  return parameters_of(model.value());
}

std::string error_of(const std::string& json) {
  const auto model = model_from_hf_config(json, "config.json");
  REQUIRE_FALSE(model.ok());
  CHECK(model.status().code() == Code::kBadInput);
  CHECK(model.status().message().rfind("config.json: ", 0) == 0);
  CHECK(model.status().message().find('\n') == std::string::npos);
  return model.status().message();
}

const char* const kLlama2_70b =
    R"({"architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "hidden_size": 8192, "intermediate_size": 28672,
        "max_position_embeddings": 4096, "num_attention_heads": 64, "num_hidden_layers": 80, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05, "tie_word_embeddings": false, "vocab_size": 32000})";

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("names are tolerant of case, separators and version numbers") {
    CHECK(model_by_name("llama-70b").value().name == "llama-70b");
    CHECK(model_by_name("Llama-2-70B").value().name == "llama-70b");
    CHECK(model_by_name("llama_2_70b_hf").value().name == "llama-70b");
    CHECK(model_by_name("GPT2").value().name == "gpt2");
    CHECK(model_by_name("gpt-2-medium").value().name == "gpt2-medium");
    CHECK(model_by_name("GPT-3").value().name == "gpt3-175b");
    CHECK(model_by_name("ViT-H/14").value().name == "vit-h");
    CHECK(model_by_name("resnet50").value().name == "resnet-50");
    CHECK(model_by_name("bert-base-uncased").value().name == "bert-base");
    CHECK(model_by_name("Mixtral-8x7B-v0.1").value().name == "mixtral-8x7b");
    const auto none = model_by_name("alexnet");
    REQUIRE_FALSE(none.ok());
    CHECK(none.status().code() == Code::kNotFound);
    CHECK(none.status().message().find("vgg-16") != std::string::npos);
    CHECK_FALSE(model_by_name("").ok());
  }

  TEST_CASE("overrides keep the MLP's ratio, the head size and the heads consistent") {
    ModelConfig model = model_by_name("gpt2").value();
    ModelOverrides o;
    o.layers = 3;
    o.hidden = 1024;
    o.heads = 16;
    o.vocab = 1000;
    REQUIRE(apply_overrides(o, &model).ok());
    CHECK(model.stack.ffn == 4096);
    CHECK(model.stack.head_dim == 64);
    CHECK(model.stack.kv_heads == 16);
    CHECK(parameters_of(model) ==
          3 * (12ull * 1024 * 1024 + 13 * 1024) + 1000 * 1024 + 1024 * 1024 + 2 * 1024);

    model = model_by_name("llama-7b").value();
    o = {};
    o.kv_heads = 8;
    o.ffn = 14336;
    o.vocab = 128256;
    REQUIRE(apply_overrides(o, &model).ok());
    CHECK(parameters_of(model) == 8030261248);  // Llama 3 8B

    model = model_by_name("llama-7b").value();
    o = {};
    o.experts = 4;
    o.top_k = 2;
    REQUIRE(apply_overrides(o, &model).ok());
    CHECK(model.experts == 4);
  }

  TEST_CASE("overrides that do not fit the model are refused") {
    const auto refused = [](const char* name, const ModelOverrides& o) {
      ModelConfig model = model_by_name(name).value();
      const Status status = apply_overrides(o, &model);
      CHECK(status.code() == Code::kInvalidArgument);
      return status.message();
    };
    ModelOverrides o;
    o.heads = 7;
    CHECK(refused("gpt2", o).find("heads") != std::string::npos);
    o = {};
    o.kv_heads = 3;
    CHECK(refused("llama-70b", o).find("kv-heads") != std::string::npos);
    o = {};
    o.layers = 0;
    CHECK(refused("gpt2", o).find("layers") != std::string::npos);
    o.layers = 100000;
    CHECK(refused("gpt2", o).find("layers") != std::string::npos);
    o = {};
    o.hidden = ~0ull;
    CHECK(refused("gpt2", o).find("hid") != std::string::npos);
    o = {};
    o.hidden = 512;
    refused("vgg-16", o);
    o = {};
    o.experts = 8;
    refused("bert-base", o);
    o.top_k = 9;
    refused("llama-7b", o);
    o = {};
    o.top_k = 2;
    refused("llama-7b", o);
    o = {};
    o.vocab = 5;
    refused("vit-h", o);
  }

  TEST_CASE("Hugging Face configs of each family give the published parameter counts") {
    CHECK(
        parameters_of_config(
            R"({"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257, "n_positions": 1024})") ==
        124439808);
    CHECK(parameters_of_config(R"({"model_type": "gpt2"})") == 124439808);
    CHECK(parameters_of_config(kLlama2_70b) == 68976648192);
    CHECK(
        parameters_of_config(
            R"({"model_type": "mixtral", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 32000, "num_local_experts": 8, "num_experts_per_tok": 2,
            "max_position_embeddings": 32768})") == 46702792704);
    CHECK(
        parameters_of_config(
            R"({"architectures": ["BertForMaskedLM"], "hidden_size": 768, "num_hidden_layers": 12})") ==
        110106428);
    CHECK(
        parameters_of_config(
            R"({"model_type": "t5", "d_model": 768, "num_layers": 12, "d_kv": 64, "d_ff": 3072, "num_heads": 12,
            "vocab_size": 32128})") == 222903552);
    CHECK(
        parameters_of_config(
            R"({"model_type": "vit", "hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16,
            "intermediate_size": 5120, "patch_size": 14})") == 632045800);
  }

  TEST_CASE("a config without dropout writes none") {
    const auto model = model_from_hf_config(
        R"({"model_type": "gpt2", "resid_pdrop": 0.0, "embd_pdrop": 0, "attn_pdrop": 0.0})",
        "c.json");
    REQUIRE(model.ok());
    CHECK_FALSE(model.value().dropout);
    CHECK(model_from_hf_config(R"({"model_type": "gpt2", "resid_pdrop": 0.1})", "c.json")
              .value()
              .dropout);
  }
}

TEST_SUITE("fault") {
  TEST_CASE("hostile configs are refused with the key that is wrong") {
    CHECK(error_of("").find("offset") != std::string::npos);
    CHECK(error_of("{\"model_type\": \"gpt2\"").find("offset") != std::string::npos);
    error_of("[]");
    error_of("{}");
    error_of("\xff");
    error_of("{\"x\": 1e999}");
    error_of(std::string(200000, '['));
    error_of(R"({"model_type": "mamba"})");
    error_of(R"({"model_type": 7})");
    error_of(R"({"architectures": []})");
    CHECK(error_of(R"({"model_type": "llama"})").find("hidden_size") != std::string::npos);
    CHECK(error_of(R"({"model_type": "gpt2", "n_embd": -1})").find("n_embd") != std::string::npos);
    CHECK(error_of(R"({"model_type": "gpt2", "n_embd": 1.5})").find("n_embd") != std::string::npos);
    CHECK(error_of(R"({"model_type": "gpt2", "n_embd": "768"})").find("n_embd") !=
          std::string::npos);
    CHECK(error_of(R"({"model_type": "gpt2", "n_embd": 18446744073709551615})").find("n_embd") !=
          std::string::npos);
    CHECK(error_of(R"({"model_type": "gpt2", "n_layer": 1000000})").find("layers") !=
          std::string::npos);
    CHECK(error_of(R"({"model_type": "gpt2", "n_head": 7})").find("heads") != std::string::npos);
    CHECK(error_of(R"({"model_type": "gpt2", "activation_function": "exotic"})")
              .find("activation_function") != std::string::npos);
    CHECK(error_of(R"({"model_type": "gpt2", "activation_function": [1]})")
              .find("activation_function") != std::string::npos);
    CHECK(error_of(R"({"model_type": "gpt2", "resid_pdrop": 2})").find("resid_pdrop") !=
          std::string::npos);
    CHECK(error_of(R"({"model_type": "gpt2", "tie_word_embeddings": 1})")
              .find("tie_word_embeddings") != std::string::npos);
    CHECK(error_of(R"({"model_type": "gpt2", "vocab_size": {"a": 1}})").find("vocab_size") !=
          std::string::npos);
    CHECK(error_of(R"({"model_type": "gpt2", "vocab_size": "\ud800x"})").rfind("config.json", 0) ==
          0);
    CHECK(
        error_of(
            R"({"model_type": "mixtral", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 8,
                      "intermediate_size": 64, "num_experts_per_tok": 99})")
            .find("top-k") != std::string::npos);
    CHECK(error_of(R"({"model_type": "t5", "feed_forward_proj": "gated-gelu"})")
              .find("feed_forward_proj") != std::string::npos);
    CHECK(error_of(R"({"model_type": "vit", "patch_size": 15})").find("patch") !=
          std::string::npos);
  }
}
