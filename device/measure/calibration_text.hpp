// SPDX-License-Identifier: Apache-2.0
// A calibration text (docs/calibration.md) from what was measured and, for what was not, from the
// published numbers of the same GPU.
#pragma once

#include "core/status.hpp"
#include "device/calibration.hpp"
#include "device/measure/measurements.hpp"

#include <string>

namespace spillway::measure {

/// JSON of schema 2, kind measured. `base`: the published file of this GPU, or null when there is
/// none; its numbers stay, with their sources, where nothing was measured. Without a base the rest
/// is `assumed` from what was measured, and says so. The text has been parsed again: kInternal when
/// it would not load.
Result<std::string> calibration_text(const DeviceCapabilities& device,
                                     const Measurements& measurements,
                                     const MeasuredOn& where,
                                     const Calibration* base);

}  // namespace spillway::measure
