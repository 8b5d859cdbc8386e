// SPDX-License-Identifier: Apache-2.0
// A DTR log as the list of events that the DTR engine replays (policy/dtr/dtr_log.hpp).
#pragma once

#include "core/status.hpp"
#include "integration/trace/byte_source.hpp"
#include "policy/dtr/dtr_log.hpp"

#include <string>

namespace spillway {

/// Reads a DTR log. Constants are ops without cost whose results are pinned; what still has a name
/// at the end is a result, in the order in which the names appeared. Fails with kBadInput as the
/// trace reader does, also for any other format.
Result<DtrLog> read_dtr_events(ByteSource& source);
Result<DtrLog> read_dtr_events(const std::string& path);

}  // namespace spillway
