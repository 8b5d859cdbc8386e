// SPDX-License-Identifier: Apache-2.0
#include "allocator/host_limits.hpp"

#include "allocator/cgroup_limits.hpp"
#include "allocator/system_file.hpp"
#include "core/printable.hpp"
#include "core/units.hpp"

#include <algorithm>
#include <string_view>
#include <sys/resource.h>
#include <utility>

namespace spillway {
namespace {

constexpr int kCapIpcLock = 14;  // linux/capability.h
constexpr std::size_t kSourceLengthMax = 200;

/// The number behind "MemAvailable:   123 kB"; nothing when the line is not there or no such thing.
std::optional<std::uint64_t> kib_line(std::string_view text, std::string_view key) {
  const std::optional<std::string_view> value = value_of_key(text, key);
  if (!value) return std::nullopt;
  const std::optional<std::uint64_t> kib = leading_number(*value);
  if (!kib || *kib > ~std::uint64_t{0} / 1024) return std::nullopt;
  return *kib * 1024;
}

HostLimit make_limit(HostLimitKind kind,
                     std::string source,
                     std::uint64_t limit_bytes,
                     std::uint64_t used_bytes) {
  return {kind,
          std::move(source),
          limit_bytes,
          used_bytes,
          limit_bytes > used_bytes ? limit_bytes - used_bytes : 0};
}

void find_available(const std::string& root, HostLimits* found) {
  const std::string path = "/proc/meminfo";
  const std::optional<std::string> text = read_system_file(root + path);
  const auto bytes = text ? kib_line(*text, "MemAvailable:") : std::nullopt;
  if (bytes)
    found->limits.push_back(make_limit(HostLimitKind::kAvailable, path, *bytes, 0));
  else
    found->notes.push_back(path + (text ? ": no line MemAvailable with a number" : ": unreadable"));
}

/// Only in the first user namespace does the capability lift the limit of the kernel.
bool is_first_user_namespace(const std::string& root) {
  const std::optional<std::string> text = read_system_file(root + "/proc/self/uid_map");
  if (!text) return false;
  std::string_view rest = *text;
  std::uint64_t numbers[3] = {};
  for (std::uint64_t& number : numbers) {
    rest.remove_prefix(std::min(rest.find_first_not_of(" \t"), rest.size()));
    const std::optional<std::uint64_t> value = leading_number(rest);
    if (!value) return false;
    number = *value;
    rest.remove_prefix(std::min(rest.find_first_of(" \t\n"), rest.size()));
  }
  return numbers[0] == 0 && numbers[1] == 0 && numbers[2] == 4294967295u;
}

bool has_capability(std::string_view status, int bit) {
  const std::optional<std::string_view> value = value_of_key(status, "CapEff:");
  if (!value) return false;
  const std::optional<std::uint64_t> bits = leading_number(*value, 16);
  return bits && ((*bits >> bit) & 1u) != 0;
}

void find_memlock(const HostLimitSources& sources, HostLimits* found) {
  const std::string path = "/proc/self/status";
  const std::optional<std::string> status = read_system_file(sources.root + path);
  if (!status) found->notes.push_back(path + ": unreadable");
  found->may_lock =
      status && has_capability(*status, kCapIpcLock) && is_first_user_namespace(sources.root);
  found->memlock_unlimited = found->may_lock || !sources.memlock_bytes;
  if (found->memlock_unlimited) return;
  std::uint64_t used = 0;
  if (status) {
    for (const char* key : {"VmLck:", "VmPin:"}) {
      const std::uint64_t bytes = kib_line(*status, key).value_or(0);
      used = bytes > ~used ? ~std::uint64_t{0} : used + bytes;
    }
  }
  found->limits.push_back(
      make_limit(HostLimitKind::kMemlock, "RLIMIT_MEMLOCK", *sources.memlock_bytes, used));
}

const char* name_of(HostLimitKind kind) {
  switch (kind) {
    case HostLimitKind::kAvailable:
      return "available memory";
    case HostLimitKind::kCgroup:
      return "cgroup";
    case HostLimitKind::kMemlock:
      return "memlock";
  }
  return "?";
}

std::string text_of(const HostLimits& limits, HostLimitKind kind) {
  const HostLimit* limit = limits.least(kind);
  if (limit == nullptr) {
    if (kind == HostLimitKind::kCgroup) return "cgroup: no limit";
    if (kind == HostLimitKind::kAvailable) return "available memory: unknown";
    return limits.may_lock ? "memlock: no limit (CAP_IPC_LOCK)" : "memlock: no limit";
  }
  std::string text = std::string(name_of(kind)) + " " + format_bytes(limit->available_bytes);
  if (limit->used_bytes != 0)
    text += " (" + format_bytes(limit->limit_bytes) + " less " + format_bytes(limit->used_bytes) +
            " in use)";
  return text + " from " + printable(limit->source, kSourceLengthMax);
}

}  // namespace

HostLimitSources this_process() {
  HostLimitSources sources;
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
    sources.memlock_bytes = limit.rlim_cur;
  return sources;
}

const HostLimit* HostLimits::least() const {
  const HostLimit* found = nullptr;
  for (const HostLimit& limit : limits)
    if (found == nullptr || limit.available_bytes < found->available_bytes) found = &limit;
  return found;
}

const HostLimit* HostLimits::least(HostLimitKind kind) const {
  const HostLimit* found = nullptr;
  for (const HostLimit& limit : limits) {
    if (limit.kind != kind) continue;
    if (found == nullptr || limit.available_bytes < found->available_bytes) found = &limit;
  }
  return found;
}

HostLimits find_host_limits(const HostLimitSources& sources) {
  HostLimits found;
  find_available(sources.root, &found);
  CgroupLimits cgroups = find_cgroup_limits(sources.root);
  for (CgroupLimit& limit : cgroups.limits)
    found.limits.push_back(make_limit(
        HostLimitKind::kCgroup, std::move(limit.path), limit.limit_bytes, limit.used_bytes));
  for (std::string& note : cgroups.notes) found.notes.push_back(std::move(note));
  find_memlock(sources, &found);
  return found;
}

Result<std::uint64_t> default_pinned_cap_bytes(const HostLimits& limits,
                                               std::uint32_t local_world_size) {
  if (local_world_size == 0)
    return Status(Code::kInvalidArgument, "the local world size is 0: it counts this process too");
  const HostLimit* least = limits.least();
  if (least == nullptr)
    return Status(Code::kNotFound, "no limit of host memory could be read: give a pinned cap");
  return least->available_bytes / 2 / local_world_size;
}

std::string describe(const HostLimits& limits) {
  return text_of(limits, HostLimitKind::kAvailable) + "; " +
         text_of(limits, HostLimitKind::kCgroup) + "; " + text_of(limits, HostLimitKind::kMemlock);
}

std::string explain(const HostLimits& limits, std::uint32_t local_world_size) {
  const Result<std::uint64_t> cap = default_pinned_cap_bytes(limits, local_world_size);
  if (!cap.ok()) return cap.status().message();
  const HostLimit* least = limits.least();
  std::string text = format_bytes(cap.value()) + " by default: half of " + name_of(least->kind);
  if (local_world_size != 1)
    text += ", shared by " + std::to_string(local_world_size) + " local processes";
  return text + "; " + describe(limits);
}

}  // namespace spillway
