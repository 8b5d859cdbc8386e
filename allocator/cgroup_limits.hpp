// SPDX-License-Identifier: Apache-2.0
// Memory limits of the cgroups that a process is in, versions 1 and 2, from its own group up to the
// mount point: each ancestor's limit holds as well.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace spillway {

struct CgroupLimit {
  std::string path;  // the file that holds the limit
  std::uint64_t limit_bytes = 0;
  /// Usage of the whole group less its inactive file cache, which the kernel drops first.
  std::uint64_t used_bytes = 0;
};

struct CgroupLimits {
  std::vector<CgroupLimit> limits;  // own group first; those without a limit are left out
  std::vector<std::string> notes;   // what could not be read
};

/// Reads proc/self/cgroup, proc/self/mountinfo and the groups' files below `root` ("": the real
/// ones). Never fails: no cgroup is no limit.
CgroupLimits find_cgroup_limits(const std::string& root);

}  // namespace spillway
