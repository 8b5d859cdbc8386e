// SPDX-License-Identifier: Apache-2.0
// How much host memory may be pinned: what is available, what cgroups still allow, what memlock
// allows. Pinned memory cannot be reclaimed, so taking more than the least of these ends in the
// out-of-memory killer and not in an error. Reads system files below a root that tests make up.
#pragma once

#include "core/status.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace spillway {

/// Where to look.
struct HostLimitSources {
  /// Put before every path: "" is this machine. Read below it: proc/meminfo, proc/self/status,
  /// proc/self/uid_map, proc/self/cgroup, proc/self/mountinfo and the cgroups' own files.
  std::string root;
  std::optional<std::uint64_t> memlock_bytes;  // RLIMIT_MEMLOCK, soft; none: unlimited
};

/// This machine and this process.
HostLimitSources this_process();

enum class HostLimitKind : std::uint8_t { kAvailable, kCgroup, kMemlock };

/// Invariant: available_bytes == max(0, limit_bytes - used_bytes).
struct HostLimit {
  HostLimitKind kind = HostLimitKind::kAvailable;
  std::string source;             // the file, or RLIMIT_MEMLOCK
  std::uint64_t limit_bytes = 0;  // of kAvailable: MemAvailable
  std::uint64_t used_bytes = 0;   // cgroup: without the file cache that can be dropped at once
  std::uint64_t available_bytes = 0;
};

struct HostLimits {
  std::vector<HostLimit> limits;   // those that are known and finite
  bool memlock_unlimited = false;  // by the limit itself, or by CAP_IPC_LOCK
  bool may_lock = false;           // CAP_IPC_LOCK in the first user namespace
  std::vector<std::string> notes;  // what could not be read, one line each

  /// The limit that decides, or null when none is known. The first of equals.
  [[nodiscard]] const HostLimit* least() const;
  /// The least of a kind, or null.
  [[nodiscard]] const HostLimit* least(HostLimitKind kind) const;
};

/// Reads all of it; what cannot be read is a note, not an error. Of cgroups, versions 1 and 2,
/// every ancestor below the mount point counts, with memory.high as well as memory.max.
HostLimits find_host_limits(const HostLimitSources& sources);

/// Half of what the least limit still allows, divided by the processes of this job on this machine.
/// kInvalidArgument for a world size of 0; kNotFound when no limit is known.
Result<std::uint64_t> default_pinned_cap_bytes(const HostLimits& limits,
                                               std::uint32_t local_world_size);

/// One line for people: what each kind of limit still allows, and where that was read.
std::string describe(const HostLimits& limits);

/// One line for people: the default cap, which limit decided, and what the others were.
std::string explain(const HostLimits& limits, std::uint32_t local_world_size);

}  // namespace spillway
