// SPDX-License-Identifier: Apache-2.0
// spillway doctor: what this machine has that matters for offload - memory, limits, NUMA, driver -
// and what will work.
#include "allocator/host_limits.hpp"
#include "core/units.hpp"
#include "core/version.hpp"
#include "device/calibration.hpp"
#include "device/capabilities.hpp"
#include "device/cuda/load_driver.hpp"
#include "integration/cli/command.hpp"
#include "integration/report/clean_text.hpp"
#include "integration/report/json.hpp"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <unistd.h>

namespace spillway::cli {
namespace {

/// First 4 KiB of a small system file; nothing when it cannot be read.
std::optional<std::string> read_small(const char* path) {
  std::FILE* file = std::fopen(path, "r");
  if (file == nullptr) return std::nullopt;
  std::array<char, 4096> buffer{};
  const std::size_t got = std::fread(buffer.data(), 1, buffer.size(), file);
  std::fclose(file);
  std::string text(buffer.data(), got);
  while (!text.empty() && (text.back() == '\n' || text.back() == '\0')) text.pop_back();
  return text;
}

std::optional<std::uint64_t> number_in(std::string_view text) {
  const std::size_t begin = text.find_first_of("0123456789");
  if (begin == std::string_view::npos) return std::nullopt;
  std::uint64_t value = 0;
  const auto parsed = std::from_chars(text.data() + begin, text.data() + text.size(), value);
  if (parsed.ec != std::errc{}) return std::nullopt;
  return value;
}

std::optional<std::uint64_t> meminfo_bytes(std::string_view key) {
  const auto text = read_small("/proc/meminfo");
  if (!text) return std::nullopt;
  const std::size_t at = text->find(key);
  if (at == std::string::npos) return std::nullopt;
  const auto kib = number_in(std::string_view(*text).substr(at + key.size()));
  return kib ? std::optional<std::uint64_t>(*kib * 1024) : std::nullopt;
}

std::uint64_t count_entries(const char* folder, std::string_view prefix) {
  std::uint64_t count = 0;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.size() > prefix.size() && name.compare(0, prefix.size(), prefix) == 0 &&
        name[prefix.size()] >= '0' && name[prefix.size()] <= '9')
      ++count;
  }
  return count;
}

struct Machine {
  long cores = 0;
  std::optional<std::uint64_t> memory_bytes;
  std::optional<std::uint64_t> available_bytes;
  std::optional<std::uint64_t> cgroup_bytes;
  std::optional<std::uint64_t> memlock_bytes;  // none: unlimited
  bool may_lock = false;                       // memlock does not hold this process
  std::optional<std::uint64_t> map_count;
  std::uint64_t numa_nodes = 0;
  std::uint64_t gpus = 0;
  std::optional<std::string> driver;
  std::optional<std::uint64_t> pinned_default_bytes;
  std::string pinned_text;  // which limit decides
};

Machine look() {
  Machine machine;
  machine.cores = ::sysconf(_SC_NPROCESSORS_ONLN);
  machine.memory_bytes = meminfo_bytes("MemTotal:");
  const HostLimitSources sources = this_process();
  machine.memlock_bytes = sources.memlock_bytes;
  const HostLimits limits = find_host_limits(sources);
  machine.may_lock = limits.may_lock;
  if (const HostLimit* available = limits.least(HostLimitKind::kAvailable))
    machine.available_bytes = available->limit_bytes;
  if (const HostLimit* cgroup = limits.least(HostLimitKind::kCgroup))
    machine.cgroup_bytes = cgroup->limit_bytes;
  if (const auto cap = default_pinned_cap_bytes(limits, 1); cap.ok())
    machine.pinned_default_bytes = cap.value();
  machine.pinned_text = explain(limits, 1);
  if (const auto text = read_small("/proc/sys/vm/max_map_count"))
    machine.map_count = number_in(*text);
  machine.numa_nodes = count_entries("/sys/devices/system/node", "node");
  machine.gpus = count_entries("/dev", "nvidia");
  if (auto text = read_small("/proc/driver/nvidia/version"))
    machine.driver = text->substr(0, text->find('\n'));
  return machine;
}

std::vector<std::string> advice(const Machine& machine) {
  std::vector<std::string> lines;
  if (machine.gpus == 0)
    lines.emplace_back(
        "no NVIDIA device file: replay, plan, compare, generate, convert and inspect work; nothing "
        "can run on a GPU here");
  else if (!machine.driver)
    lines.emplace_back("device files without a loaded driver: install or load the NVIDIA driver");
  if (!machine.may_lock && machine.memlock_bytes &&
      *machine.memlock_bytes < (std::uint64_t{1} << 30))
    lines.push_back("memlock limit is " + format_bytes(*machine.memlock_bytes) +
                    ": registering your own host memory is capped there (ulimit -l unlimited)");
  if (machine.map_count && *machine.map_count < 262144)
    lines.push_back("vm.max_map_count is " + std::to_string(*machine.map_count) +
                    ": many pinned blocks can run into it (sysctl vm.max_map_count=1048576)");
  if (machine.numa_nodes > 1)
    lines.push_back(std::to_string(machine.numa_nodes) +
                    " NUMA nodes: pin host memory on the node of the GPU");
  return lines;
}

/// What the loader of the CUDA driver says: its version and devices, or why there is none.
std::string cuda_text() {
  const Result<Driver> driver = load_cuda_driver();
  if (!driver.ok()) return driver.status().message();
  int version = 0;
  if (driver.value().cuDriverGetVersion(&version) != cu::Result::kSuccess) version = 0;
  std::string text = "driver for " + driver_version_text(version);
  const Result<int> count = init_driver(driver.value());
  if (!count.ok()) return text + "; " + count.status().message();
  for (int ordinal = 0; ordinal < count.value(); ++ordinal) {
    const Result<DeviceCapabilities> device = query_device(driver.value(), ordinal);
    if (!device.ok()) {
      text += "; " + device.status().message();
      continue;
    }
    const DeviceCapabilities& found = device.value();
    const Status usable = require_virtual_memory(found);
    text += usable.ok() ? fmt::format("; device {}: {} (compute {}.{}, {})",
                                      ordinal,
                                      found.name,
                                      found.compute_major,
                                      found.compute_minor,
                                      format_bytes(found.memory_bytes))
                        : "; " + usable.message();
  }
  return text;
}

nlohmann::ordered_json or_null(const std::optional<std::uint64_t>& value) {
  return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
}

void doctor(bool json) {
  const Machine machine = look();
  const std::vector<std::string> lines = advice(machine);
  if (json) {
    nlohmann::ordered_json out;
    out["schema"] = "spillway.doctor/1";
    out["version"] = version_text();
    out["cores"] = machine.cores;
    out["memory_bytes"] = or_null(machine.memory_bytes);
    out["available_bytes"] = or_null(machine.available_bytes);
    out["cgroup_limit_bytes"] = or_null(machine.cgroup_bytes);
    out["memlock_limit_bytes"] = or_null(machine.memlock_bytes);
    out["max_map_count"] = or_null(machine.map_count);
    out["numa_nodes"] = machine.numa_nodes;
    out["gpus"] = machine.gpus;
    out["driver"] =
        machine.driver ? nlohmann::ordered_json(*machine.driver) : nlohmann::ordered_json(nullptr);
    out["cuda"] = cuda_text();
    out["pinned_default_bytes"] = or_null(machine.pinned_default_bytes);
    out["pinned_limits"] = clean_text(machine.pinned_text);
    out["calibrations"] = calibration_names();
    out["advice"] = lines;
    fmt::print("{}", dump_json(out));
    return;
  }
  const auto bytes_or = [](const std::optional<std::uint64_t>& bytes, const char* none) {
    return bytes ? format_bytes(*bytes) : std::string(none);
  };
  fmt::print("spillway       {} ({})\n", version_text(), git_revision());
  fmt::print("cores          {}\n", machine.cores);
  fmt::print("host memory    {}, {} available\n",
             bytes_or(machine.memory_bytes, "unknown"),
             bytes_or(machine.available_bytes, "unknown"));
  fmt::print("cgroup limit   {}\n", bytes_or(machine.cgroup_bytes, "none"));
  fmt::print("memlock limit  {}\n", bytes_or(machine.memlock_bytes, "unlimited"));
  fmt::print("NUMA nodes     {}\n", machine.numa_nodes);
  fmt::print("GPUs           {}\n", machine.gpus);
  fmt::print("driver         {}\n", machine.driver ? clean_text(*machine.driver) : "none");
  fmt::print("CUDA           {}\n", clean_text(cuda_text()));
  fmt::print("pinned memory  {}\n", clean_text(machine.pinned_text));
  std::string names;
  for (const std::string& name : calibration_names()) names += (names.empty() ? "" : ", ") + name;
  fmt::print("calibrations   {}\n", names);
  for (const std::string& line : lines) fmt::print("- {}\n", line);
}

}  // namespace

void add_doctor(::CLI::App& app, Session& session) {
  auto json = std::make_shared<bool>(false);
  ::CLI::App* command = app.add_subcommand("doctor", "what this machine has and what will work");
  command->add_flag("--json", *json, "one JSON object on stdout");
  command->callback([json, &session] {
    (void)session;
    doctor(*json);
  });
}

}  // namespace spillway::cli
