// SPDX-License-Identifier: Apache-2.0
// Sources: cgroups(7), proc(5) (mountinfo), Documentation/admin-guide/cgroup-v2.rst and
// cgroup-v1/memory.rst of Linux.
#include "allocator/cgroup_limits.hpp"

#include "allocator/system_file.hpp"

#include <optional>
#include <string_view>

namespace spillway {
namespace {

// Version 1 writes "no limit" as the largest multiple of a page.
constexpr std::uint64_t kNoLimit = std::uint64_t{1} << 62;
constexpr int kDepthMax = 64;  // levels of groups; a path from a stranger may have more

/// File names of one version.
struct Names {
  const char* limits[2];
  const char* usage;
  const char* inactive_file;  // its line in memory.stat, of the group with its descendants
};
constexpr Names kVersion1 = {
    {"memory.limit_in_bytes", nullptr}, "memory.usage_in_bytes", "total_inactive_file "};
constexpr Names kVersion2 = {{"memory.max", "memory.high"}, "memory.current", "inactive_file "};

struct Mount {
  std::string root;  // which group is at the mount point
  std::string point;
};

/// Blanks and such are \040 in mountinfo.
std::string unescape(std::string_view text) {
  const auto digit = [](char c) { return c >= '0' && c <= '7'; };
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && digit(text[i + 1]) && digit(text[i + 2]) &&
        digit(text[i + 3])) {
      plain += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                                 (text[i + 3] - '0'));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

bool has_word(std::string_view list, std::string_view word) {
  while (!list.empty())
    if (next_field(&list, ',') == word) return true;
  return false;
}

/// Fields of a line: id parent device root point options [tags...] - type source super-options.
std::optional<Mount> find_mount(std::string_view mountinfo, bool version2) {
  while (const std::optional<std::string_view> line = next_line(&mountinfo)) {
    const std::size_t dash = line->find(" - ");
    if (dash == std::string_view::npos) continue;
    std::string_view front = line->substr(0, dash);
    std::string_view back = line->substr(dash + 3);
    for (int skipped = 0; skipped < 3; ++skipped) next_field(&front, ' ');
    const std::string_view root = next_field(&front, ' ');
    const std::string_view point = next_field(&front, ' ');
    const std::string_view type = next_field(&back, ' ');
    next_field(&back, ' ');
    const bool matches =
        version2 ? type == "cgroup2" : type == "cgroup" && has_word(back, "memory");
    if (matches && !point.empty() && point.front() == '/')
      return Mount{unescape(root), unescape(point)};
  }
  return std::nullopt;
}

/// The group's path in a line "4:memory:/a/b" (version 1) or "0::/a/b" (version 2).
std::optional<std::string> find_group(std::string_view cgroup, bool version2) {
  while (const std::optional<std::string_view> line = next_line(&cgroup)) {
    std::string_view rest = *line;
    const std::string_view id = next_field(&rest, ':');
    const std::string_view controllers = next_field(&rest, ':');
    const bool matches =
        version2 ? id == "0" && controllers.empty() : has_word(controllers, "memory");
    if (matches && !rest.empty() && rest.front() == '/') return std::string(rest);
  }
  return std::nullopt;
}

/// The group below the mount point; "" when it is the mount point itself, or lies outside of what
/// is mounted (a container sees its host's path then).
std::string below_mount(std::string_view group, const Mount& mount) {
  std::string_view rest = group;
  if (mount.root != "/") {
    if (rest.substr(0, mount.root.size()) != mount.root) return "";
    rest.remove_prefix(mount.root.size());
    if (!rest.empty() && rest.front() != '/') return "";
  }
  if (rest == "/" || rest.find("/..") != std::string_view::npos) return "";
  return std::string(rest);
}

std::uint64_t used_bytes(const std::string& root,
                         const std::string& group,
                         const Names& names,
                         CgroupLimits* found) {
  const auto text = read_system_file(root + group + "/" + names.usage);
  const auto usage = text ? leading_number(*text) : std::nullopt;
  if (!usage) {
    found->notes.push_back(group + "/" + names.usage + ": unreadable, counted as 0");
    return 0;
  }
  const auto stat = read_system_file(root + group + "/memory.stat");
  const auto line = stat ? value_of_key(*stat, names.inactive_file) : std::nullopt;
  const std::uint64_t cache = line ? leading_number(*line).value_or(0) : 0;
  return *usage > cache ? *usage - cache : 0;
}

void read_group(const std::string& root,
                const std::string& group,
                const Names& names,
                CgroupLimits* found) {
  for (const char* name : names.limits) {
    if (name == nullptr) continue;
    const std::string path = group + "/" + name;
    const auto text = read_system_file(root + path);
    if (!text || text->substr(0, 3) == "max") continue;  // the topmost group has no such file
    const auto limit = leading_number(*text);
    if (!limit) {
      found->notes.push_back(path + ": expected a number or max");
      continue;
    }
    if (*limit >= kNoLimit) continue;
    found->limits.push_back({path, *limit, used_bytes(root, group, names, found)});
  }
}

void walk(const std::string& root,
          std::string_view cgroup,
          std::string_view mountinfo,
          bool version2,
          CgroupLimits* found) {
  const std::optional<std::string> group = find_group(cgroup, version2);
  const std::optional<Mount> mount = find_mount(mountinfo, version2);
  if (!group || !mount) return;
  std::string point = mount->point == "/" ? "" : mount->point;
  std::string below = below_mount(*group, *mount);
  for (int depth = 0; depth < kDepthMax; ++depth) {
    read_group(root, point + below, version2 ? kVersion2 : kVersion1, found);
    if (below.empty()) return;
    below.resize(below.rfind('/'));
  }
  found->notes.push_back(point + ": groups nested too deep, the outer ones were not read");
}

}  // namespace

CgroupLimits find_cgroup_limits(const std::string& root) {
  CgroupLimits found;
  const auto cgroup = read_system_file(root + "/proc/self/cgroup");
  const auto mountinfo = read_system_file(root + "/proc/self/mountinfo");
  if (!cgroup) found.notes.emplace_back("/proc/self/cgroup: unreadable, no cgroup limit assumed");
  if (!mountinfo)
    found.notes.emplace_back("/proc/self/mountinfo: unreadable, no cgroup limit assumed");
  if (!cgroup || !mountinfo) return found;
  walk(root, *cgroup, *mountinfo, true, &found);
  walk(root, *cgroup, *mountinfo, false, &found);
  return found;
}

}  // namespace spillway
