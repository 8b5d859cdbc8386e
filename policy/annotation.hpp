// SPDX-License-Identifier: Apache-2.0
// What the text of an NVTX range says about phase and layer.
#pragma once

#include "core/tag.hpp"

#include <cstdint>
#include <string_view>

namespace spillway {

struct Annotation {
  Phase phase = Phase::kUnknown;   // kUnknown: the text does not say
  std::uint16_t layer = kNoLayer;  // kNoLayer: the text does not say
};

/// Case does not matter. Phases: backward|bwd|backprop, forward|fwd, optimizer|zero_grad. Layers:
/// "layer", "layers", "block", "blocks" or "h" followed by at most one of ". _ -" or a space and a
/// number below 65535: "layer 3", "transformer.h.11.attn".
Annotation read_annotation(std::string_view text);

}  // namespace spillway
