// SPDX-License-Identifier: Apache-2.0
// The page of replay --allocator: how much each allocator held over the calls of the trace, and the
// arena map, addresses against calls. One self-contained HTML file. Its size is bounded: maps are
// grids, curves are samples, and of the blocks only the largest are named.
#pragma once

#include "integration/replay/allocation_trace.hpp"
#include "integration/replay/allocator_run.hpp"

#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace spillway {

struct ArenaPageLimits {
  std::uint32_t map_columns = 640;
  std::uint32_t map_rows = 320;
  std::size_t named_blocks = 1500;  // per allocator, largest area of bytes x calls first
  std::size_t phase_bands = 300;
};

/// What the page's scripts read. REQUIRES: the runs were made with samples and `pictures`.
nlohmann::ordered_json arena_page_data(const std::string& trace_name,
                                       const std::string& command,
                                       const AllocationTrace& trace,
                                       const std::vector<AllocatorRun>& runs,
                                       const ArenaPageLimits& limits = {});

/// The whole page.
std::string render_arena_page(const std::string& trace_name,
                              const std::string& command,
                              const AllocationTrace& trace,
                              const std::vector<AllocatorRun>& runs);

}  // namespace spillway
