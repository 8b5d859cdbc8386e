// SPDX-License-Identifier: Apache-2.0
// Names of operators as they occur in logs and graphs.
#include "integration/trace/op_names.hpp"

#include <doctest/doctest.h>

#include <utility>

namespace spillway {

TEST_SUITE_BEGIN("unit");

TEST_CASE("operator names tell their kind, with namespaces, overloads and gradients") {
  const std::pair<const char*, OpKind> names[] = {
      {"cudnn_convolution", OpKind::kConv},
      {"aten::_convolution_param_grad", OpKind::kConv},
      {"cudnn_batch_norm_backward", OpKind::kNorm},
      {"native_layer_norm", OpKind::kNorm},
      {"relu_", OpKind::kElementwise},
      {"threshold_backward", OpKind::kElementwise},
      {"add_", OpKind::kElementwise},
      {"addmm", OpKind::kMatmul},
      {"AddmmBackward0", OpKind::kMatmul},
      {"bmm", OpKind::kMatmul},
      {"mm", OpKind::kMatmul},
      {"_softmax", OpKind::kSoftmax},
      {"_log_softmax_backward_data", OpKind::kSoftmax},
      {"_fused_droupout_", OpKind::kDropout},
      {"_masked_scale", OpKind::kDropout},
      {"max_pool2d_with_indices_backward", OpKind::kPool},
      {"aten::adaptive_avg_pool2d", OpKind::kPool},
      {"embedding_dense_backward", OpKind::kEmbedding},
      {"nll_loss_forward", OpKind::kLoss},
      {"loss::loss", OpKind::kLoss},
      {"aten::scaled_dot_product_attention", OpKind::kAttention},
      {"c10d::allreduce_", OpKind::kCollective},
      {"t", OpKind::kView},
      {"view", OpKind::kView},
      {"slice", OpKind::kView},
      {"slice_backward", OpKind::kOther},
      {"_foreach_addcdiv_", OpKind::kOptimizer},
      {"mystery", OpKind::kUnknown},
      {"", OpKind::kUnknown},
      {"::", OpKind::kUnknown},
  };
  for (const auto& [name, kind] : names) {
    const auto& shown = name;  // clang 14 lets no lambda capture a structured binding
    CAPTURE(shown);
    CHECK(name_of(describe_op_name(name).kind) == name_of(kind));
  }
}

TEST_CASE("random numbers are drawn by dropout, not by its gradient") {
  CHECK(describe_op_name("native_dropout").rng);
  CHECK(describe_op_name("_fused_droupout_").rng);
  CHECK(describe_op_name("rand_like").rng);
  CHECK_FALSE(describe_op_name("native_dropout_backward").rng);
  CHECK_FALSE(describe_op_name("_masked_scale").rng);
  CHECK(describe_op_name("native_dropout_backward").backward);
}

TEST_SUITE_END();

}  // namespace spillway
