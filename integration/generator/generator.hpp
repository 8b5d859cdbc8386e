// SPDX-License-Identifier: Apache-2.0
// Writes a training step as an op-level trace from arithmetic: what each op reads, makes and saves,
// how many bytes and flops that is, and how long it takes on a named GPU by a roofline.
// docs/generator.md has the formulas.
#pragma once

#include "core/status.hpp"
#include "core/trace.hpp"
#include "device/calibration.hpp"
#include "integration/generator/model_config.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace spillway {

/// State kept per parameter beside the parameter and its gradient, both in the step's dtype. In 16
/// bits both optimizers keep an fp32 copy of the parameters: 4 bytes, plus AdamW's two moments (8)
/// or SGD's momentum (4).
enum class Optimizer : std::uint8_t { kAdamW, kSgd, kNone };

struct GenerateOptions {
  std::uint64_t batch = 0;  // samples of one micro-batch; 0: the model's default
  std::uint64_t seq = 0;    // tokens of a sample; 0: the model's default
  std::string dtype;        // bf16, fp16, fp32, tf32 (fp32 storage); "": the model's default
  bool flash = true;        // fused attention
  bool fused = false;       // dropout keeps its seed, gated MLPs one op for activation and product
  std::uint32_t micro_batches = 1;
  std::uint32_t tensor_parallel = 1;
  bool sequence_parallel = false;
  std::uint32_t pipeline_stages = 1;
  std::uint32_t pipeline_stage = 0;  // whose step is written: the first holds the most activations
  Optimizer optimizer = Optimizer::kAdamW;
};

/// Fails with kInvalidArgument when a number is out of range or does not divide, kUnsupported when
/// the model has no parallel form.
Status generate(const ModelConfig& model,
                const GenerateOptions& options,
                const Calibration& gpu,
                TraceSink& sink);

}  // namespace spillway
