// SPDX-License-Identifier: Apache-2.0
// One table, searched from the top: a more telling part of a name stands before one that also
// occurs in other names.
#include "integration/trace/op_names.hpp"

#include <array>
#include <string>

namespace spillway {
namespace {

struct Rule {
  std::string_view part;
  OpKind kind;
  bool whole = false;  // the name must be just that
};

constexpr std::array<Rule, 97> kRules = {{
    {"all_reduce", OpKind::kCollective},
    {"allreduce", OpKind::kCollective},
    {"all_gather", OpKind::kCollective},
    {"allgather", OpKind::kCollective},
    {"reduce_scatter", OpKind::kCollective},
    {"all_to_all", OpKind::kCollective},
    {"broadcast_", OpKind::kCollective, true},
    {"nccl", OpKind::kCollective},
    {"flash_attention", OpKind::kAttention},
    {"scaled_dot_product", OpKind::kAttention},
    {"efficient_attention", OpKind::kAttention},
    {"attention", OpKind::kAttention},
    {"embedding", OpKind::kEmbedding},
    {"nll_loss", OpKind::kLoss},
    {"cross_entropy", OpKind::kLoss},
    {"mse_loss", OpKind::kLoss},
    {"l1_loss", OpKind::kLoss},
    {"loss", OpKind::kLoss},
    {"softmax", OpKind::kSoftmax},
    {"dropout", OpKind::kDropout},
    {"droupout", OpKind::kDropout},  // sic, in logs of PyTorch 1.5
    {"masked_scale", OpKind::kDropout},
    {"bernoulli", OpKind::kDropout},
    {"batch_norm", OpKind::kNorm},
    {"batchnorm", OpKind::kNorm},
    {"layer_norm", OpKind::kNorm},
    {"layernorm", OpKind::kNorm},
    {"group_norm", OpKind::kNorm},
    {"groupnorm", OpKind::kNorm},
    {"instance_norm", OpKind::kNorm},
    {"rms_norm", OpKind::kNorm},
    {"rmsnorm", OpKind::kNorm},
    {"norm", OpKind::kNorm, true},
    {"pool", OpKind::kPool},
    {"conv", OpKind::kConv},
    {"thnn_conv", OpKind::kConv},
    {"baddbmm", OpKind::kMatmul},
    {"addmm", OpKind::kMatmul},
    {"addbmm", OpKind::kMatmul},
    {"addmv", OpKind::kMatmul},
    {"bmm", OpKind::kMatmul},
    {"matmul", OpKind::kMatmul},
    {"linear", OpKind::kMatmul, true},
    {"einsum", OpKind::kMatmul},
    {"gemm", OpKind::kMatmul},
    {"dense", OpKind::kMatmul, true},
    {"mm", OpKind::kMatmul, true},
    {"mv", OpKind::kMatmul, true},
    {"lstm", OpKind::kMatmul},
    {"gru_cell", OpKind::kMatmul},
    {"adam", OpKind::kOptimizer},
    {"sgd", OpKind::kOptimizer},
    {"addcdiv", OpKind::kOptimizer},
    {"addcmul", OpKind::kOptimizer},
    {"view", OpKind::kView},
    {"as_strided", OpKind::kView, true},
    {"expand", OpKind::kView, true},
    {"permute", OpKind::kView, true},
    {"transpose", OpKind::kView, true},
    {"t", OpKind::kView, true},
    {"reshape", OpKind::kView, true},
    {"squeeze", OpKind::kView},
    {"slice", OpKind::kView, true},
    {"split", OpKind::kView, true},
    {"chunk", OpKind::kView, true},
    {"select", OpKind::kView, true},
    {"narrow", OpKind::kView, true},
    {"unbind", OpKind::kView, true},
    {"detach", OpKind::kView, true},
    {"alias", OpKind::kView, true},
    {"threshold", OpKind::kElementwise},
    {"relu", OpKind::kElementwise},
    {"gelu", OpKind::kElementwise},
    {"silu", OpKind::kElementwise},
    {"swish", OpKind::kElementwise},
    {"elu", OpKind::kElementwise, true},
    {"tanh", OpKind::kElementwise},
    {"sigmoid", OpKind::kElementwise},
    {"hardtanh", OpKind::kElementwise},
    {"add", OpKind::kElementwise, true},
    {"sub", OpKind::kElementwise, true},
    {"mul", OpKind::kElementwise, true},
    {"div", OpKind::kElementwise, true},
    {"neg", OpKind::kElementwise, true},
    {"exp", OpKind::kElementwise, true},
    {"sqrt", OpKind::kElementwise},
    {"pow", OpKind::kElementwise, true},
    {"masked_fill", OpKind::kElementwise},
    {"clone", OpKind::kElementwise, true},
    {"copy", OpKind::kElementwise, true},
    {"ones_like", OpKind::kElementwise},
    {"zeros_like", OpKind::kElementwise},
    {"upsample", OpKind::kOther},
    {"cat", OpKind::kOther},
    {"sum", OpKind::kOther},
    {"pad", OpKind::kOther},
    {"flatten", OpKind::kOther},
}};

bool draws_random_numbers(std::string_view name) {
  for (std::string_view part :
       {"dropout", "droupout", "bernoulli", "rand", "normal_", "uniform_", "multinomial"})
    if (name.find(part) != std::string_view::npos) return true;
  return false;
}

/// The bare operator: without namespace, overload, trailing digits and underscores.
std::string_view strip(std::string_view name) {
  if (const std::size_t at = name.rfind("::"); at != std::string_view::npos)
    name.remove_prefix(at + 2);
  if (const std::size_t at = name.find('.'); at != std::string_view::npos)
    name = name.substr(0, at);
  while (!name.empty() && name.back() >= '0' && name.back() <= '9') name.remove_suffix(1);
  while (!name.empty() && name.back() == '_') name.remove_suffix(1);
  while (!name.empty() && name.front() == '_') name.remove_prefix(1);
  return name;
}

}  // namespace

OpNameInfo describe_op_name(std::string_view name) {
  std::string lower;
  for (char c : strip(name.substr(0, 256)))
    lower += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  OpNameInfo info;
  std::string_view text = lower;
  if (const std::size_t at = text.find("backward"); at != std::string_view::npos) {
    info.backward = true;
    text = text.substr(0, at);
    while (!text.empty() && text.back() == '_') text.remove_suffix(1);
  } else {
    info.rng = draws_random_numbers(text);
  }
  for (const Rule& rule : kRules) {
    if (rule.whole ? text != rule.part : text.find(rule.part) == std::string_view::npos) continue;
    info.kind = rule.kind;
    break;
  }
  // The gradient of a view is a copy into zeros: it has bytes of its own.
  if (info.backward && info.kind == OpKind::kView) info.kind = OpKind::kOther;
  return info;
}

}  // namespace spillway
