// SPDX-License-Identifier: Apache-2.0
// What the name of an operator of a deep-learning framework says about it.
#pragma once

#include "core/tag.hpp"

#include <string_view>

namespace spillway {

struct OpNameInfo {
  OpKind kind = OpKind::kUnknown;
  bool rng = false;       // draws random numbers
  bool backward = false;  // computes a gradient
};

/// For names as PyTorch writes them: "aten::_softmax", "cudnn_convolution_backward", "relu_",
/// "AddmmBackward0". Case and a leading namespace do not matter. kUnknown when nothing fits.
OpNameInfo describe_op_name(std::string_view name);

}  // namespace spillway
