// SPDX-License-Identifier: Apache-2.0
// spillway generate: a training step of a named or described model, from arithmetic, as a .spwt
// trace.
#include "core/units.hpp"
#include "integration/cli/command.hpp"
#include "integration/cli/output_name.hpp"
#include "integration/generator/generator.hpp"
#include "integration/trace/atomic_file.hpp"
#include "integration/trace/small_file.hpp"
#include "integration/trace/spwt_text_writer.hpp"
#include "integration/trace/spwt_writer.hpp"

#include <fmt/core.h>

#include <memory>

namespace spillway::cli {
namespace {

struct Options {
  std::string model;
  std::string config_file;
  ModelOverrides overrides;
  GenerateOptions generate;
  std::string gpu = "h200";
  std::string calibration_file;
  std::string optimizer = "adamw";
  std::string output;
  double matmul_tflops = 0;  // 0: the calibration's
  bool flash = false;
  bool no_flash = false;
  bool list = false;
};

Result<ModelConfig> model_of(const Options& options) {
  if (!options.config_file.empty() && !options.model.empty())
    return Status(Code::kInvalidArgument, "expected --model or --config, not both");
  if (options.config_file.empty()) {
    const bool described =
        options.overrides.layers && options.overrides.hidden && options.overrides.heads;
    if (options.model.empty() && !described)
      return Status(Code::kInvalidArgument,
                    "expected --model NAME, --config FILE, or --layers, --hidden and --heads");
    // A description alone is a GPT-like decoder.
    return model_by_name(options.model.empty() ? "gpt2" : options.model);
  }
  SPW_ASSIGN_OR_RETURN(const std::string text, read_small_file(options.config_file));
  return model_from_hf_config(text, options.config_file);
}

template <typename Writer>
Status write_as(const ModelConfig& model,
                const Options& options,
                const Calibration& gpu,
                AtomicFile& file) {
  Writer writer(file);
  SPW_RETURN_IF_ERROR(generate(model, options.generate, gpu, writer));
  return writer.finish();
}

/// Sets the rate that matrix work reaches on the tensor cores, and says so where times come from.
Status limit_matmul(double tflops, Calibration* gpu) {
  if (tflops == 0) return {};
  constexpr double kMost = 1e6;
  if (!(tflops >= 1e-3 && tflops <= kMost))
    return {Code::kInvalidArgument, "--matmul-tflops: expected a number from 0.001 to 1e6"};
  for (const MathMode mode : {MathMode::kTf32, MathMode::kBf16, MathMode::kFp16})
    gpu->math_flops_per_s[static_cast<std::size_t>(mode)].achieved = tflops * 1e12;
  gpu->kind += fmt::format(", matrix work at {:g} TFLOP/s", tflops);
  return {};
}

Status run(Options& options) {
  if (options.list) {
    for (const std::string& name : model_names()) fmt::print("{}\n", name);
    return {};
  }
  SPW_ASSIGN_OR_RETURN(ModelConfig model, model_of(options));
  SPW_RETURN_IF_ERROR(apply_overrides(options.overrides, &model));
  options.generate.flash = !options.no_flash;
  if (options.optimizer == "adamw") {
    options.generate.optimizer = Optimizer::kAdamW;
  } else if (options.optimizer == "sgd") {
    options.generate.optimizer = Optimizer::kSgd;
  } else if (options.optimizer == "none") {
    options.generate.optimizer = Optimizer::kNone;
  } else {
    return Status(Code::kInvalidArgument,
                  "--optimizer: expected adamw, sgd or none, found '" + options.optimizer + "'");
  }
  SPW_ASSIGN_OR_RETURN(Calibration gpu, [&]() -> Result<Calibration> {
    if (options.calibration_file.empty()) return load_calibration(options.gpu);
    SPW_ASSIGN_OR_RETURN(const std::string text, read_small_file(options.calibration_file));
    return parse_calibration(text, options.calibration_file);
  }());
  SPW_RETURN_IF_ERROR(limit_matmul(options.matmul_tflops, &gpu));
  if (options.output.empty()) options.output = model.name + ".spwt";
  SPW_ASSIGN_OR_RETURN(
      const std::string path,
      options.output == "-" ? std::string("/dev/stdout") : expand_output_name(options.output));
  SPW_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(path));
  const bool text = path == "/dev/stdout" || path.ends_with(".txt");
  SPW_RETURN_IF_ERROR(text ? write_as<SpwtTextWriter>(model, options, gpu, file)
                           : write_as<SpwtWriter>(model, options, gpu, file));
  SPW_RETURN_IF_ERROR(file.commit());
  if (path != "/dev/stdout")
    fmt::print(
        "{}: one training step of {}, {}\n", path, model.name, format_bytes(file.written_bytes()));
  return {};
}

}  // namespace

void add_generate(::CLI::App& app, Session& session) {
  auto options = std::make_shared<Options>();
  ::CLI::App* command =
      app.add_subcommand("generate", "a model's training step from arithmetic, as a trace");
  command->add_option("--model", options->model, "built-in model (--list names them)")
      ->type_name("NAME");
  command->add_option("--config", options->config_file, "Hugging Face config.json")
      ->type_name("FILE");
  command->add_flag("--list", options->list, "print the built-in models");
  command
      ->add_option(
          "-o,--output", options->output, "file to write (default MODEL.spwt; .txt or - for text)")
      ->type_name("FILE");
  command->add_option(
      "--batch", options->generate.batch, "samples of a micro-batch (default: the model's)");
  command->add_option("--seq", options->generate.seq, "tokens of a sample (default: the model's)");
  command->add_option(
      "--dtype", options->generate.dtype, "bf16, fp16, fp32 or tf32 (default: the model's)");
  auto* no_flash =
      command->add_flag("--no-flash", options->no_flash, "attention that saves its score matrices");
  command->add_flag("--flash", options->flash, "fused attention (the default)")->excludes(no_flash);
  command->add_flag("--fused",
                    options->generate.fused,
                    "fused kernels' saved set: dropout keeps its seed, gated MLPs no silu");
  command
      ->add_option("--micro-batches", options->generate.micro_batches, "micro-batches of the step")
      ->default_val(1);
  command->add_option("--tp", options->generate.tensor_parallel, "tensor-parallel ranks")
      ->default_val(1);
  command->add_flag("--sequence-parallel",
                    options->generate.sequence_parallel,
                    "with --tp: split norms and dropout too");
  command->add_option("--pp", options->generate.pipeline_stages, "pipeline stages")->default_val(1);
  command->add_option("--pp-stage", options->generate.pipeline_stage, "stage whose step is written")
      ->default_val(0);
  command->add_option("--optimizer", options->optimizer, "adamw, sgd or none")
      ->default_val("adamw");
  command->add_option("--gpu", options->gpu, "GPU whose roofline gives the times")
      ->default_val("h200");
  command
      ->add_option("--calibration", options->calibration_file, "calibration JSON of your own GPU")
      ->type_name("FILE");
  command
      ->add_option("--matmul-tflops",
                   options->matmul_tflops,
                   "rate that matrix work reaches (default: the calibration's)")
      ->type_name("NUMBER");
  command->add_option("--layers", options->overrides.layers, "layers");
  command->add_option("--hidden", options->overrides.hidden, "hidden size");
  command->add_option("--heads", options->overrides.heads, "attention heads");
  command->add_option("--kv-heads", options->overrides.kv_heads, "key and value heads");
  command->add_option("--ffn", options->overrides.ffn, "width of the MLP");
  command->add_option("--experts", options->overrides.experts, "experts of a mixture");
  command->add_option("--top-k", options->overrides.top_k, "experts per token");
  command->add_option("--vocab", options->overrides.vocab, "vocabulary");
  command->callback([options, &session] { session.report(run(*options)); });
}

}  // namespace spillway::cli
