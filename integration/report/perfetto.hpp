// SPDX-License-Identifier: Apache-2.0
// A plan's predicted step as a Perfetto trace (`.pftrace`, protobuf TracePackets): counters,
// compute stream, copy engines, phases and layers, stalls, and one flow per offloaded tensor.
// Source of the field numbers: perfetto.dev, synthetic track events.
#pragma once

#include "integration/report/policy_result.hpp"

#include <string>

namespace spillway {

/// The bytes of the file. Timestamps are ns from the start of the step. Without result.sim.timeline
/// it shows the step under keep-all. REQUIRES: context.profile and context.device are set.
std::string render_perfetto(const RunContext& context, const PolicyResult& result);

}  // namespace spillway
