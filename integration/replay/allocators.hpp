// SPDX-License-Identifier: Apache-2.0
// The allocators that a trace can be replayed over, by name.
#pragma once

#include "core/status.hpp"
#include "integration/replay/allocator_under_test.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace spillway {

/// In the order in which `--allocator all` runs them.
const std::vector<std::string_view>& allocator_names();

/// kInvalidArgument for an unknown name. `budget_bytes` 0: none. `trace` must outlive the
/// allocator.
Result<std::unique_ptr<AllocatorUnderTest>> make_allocator(std::string_view name,
                                                           const AllocationTrace& trace,
                                                           std::uint64_t budget_bytes);

}  // namespace spillway
