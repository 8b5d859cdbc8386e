// SPDX-License-Identifier: Apache-2.0
// The limits of host memory, read from made-up system trees: each source alone, all together, and
// each of them broken.
#include "allocator/host_limits.hpp"

#include "allocator/cgroup_limits.hpp"
#include "tests/support/temp_dir.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

using namespace spillway;

namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

/// A root folder with the system files that a test writes.
class Tree {
 public:
  void write(const std::string& path, std::string_view text) const {
    const std::filesystem::path full = dir_.path() / path;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full, std::ios::binary) << text;
  }
  [[nodiscard]] HostLimitSources sources(std::optional<std::uint64_t> memlock = {}) const {
    return {dir_.path().string(), memlock};
  }
  [[nodiscard]] std::string root() const { return dir_.path().string(); }

 private:
  test::TempDir dir_;
};

void write_meminfo(const Tree& tree, std::uint64_t available_bytes) {
  tree.write("proc/meminfo",
             "MemTotal:  99999999 kB\nMemFree: 1 kB\nMemAvailable:   " +
                 std::to_string(available_bytes / 1024) + " kB\nBuffers: 0 kB\n");
}

void write_status(const Tree& tree, std::string_view capabilities, std::uint64_t locked_kib = 0) {
  tree.write("proc/self/status",
             "Name:\tx\nVmLck:\t" + std::to_string(locked_kib) +
                 " kB\nVmPin:\t       0 kB\nCapEff:\t" + std::string(capabilities) + "\n");
}

void write_version2(const Tree& tree, std::string_view group) {
  tree.write("proc/self/cgroup", "0::" + std::string(group) + "\n");
  tree.write("proc/self/mountinfo",
             "23 1 0:21 / /proc rw - proc proc rw\n"
             "32 23 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n");
}

void write_version1(const Tree& tree, std::string_view group, std::string_view mounted = "/") {
  tree.write("proc/self/cgroup",
             "5:cpu,cpuacct:/other\n4:memory:" + std::string(group) + "\n0::/\n");
  tree.write("proc/self/mountinfo",
             "31 23 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
             "35 31 0:32 " +
                 std::string(mounted) +
                 " /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n");
}

constexpr std::string_view kNoCapability = "0000000000000000";
constexpr std::string_view kIpcLock = "0000000000004000";

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("the default cap is half of the available memory where nothing else limits") {
    const Tree tree;
    write_meminfo(tree, 64 * kGiB);
    write_status(tree, kNoCapability);
    const HostLimits limits = find_host_limits(tree.sources());
    CHECK(default_pinned_cap_bytes(limits, 1).value() == 32 * kGiB);
    CHECK(default_pinned_cap_bytes(limits, 8).value() == 4 * kGiB);
    REQUIRE(limits.least() != nullptr);
    CHECK(limits.least()->kind == HostLimitKind::kAvailable);
    CHECK(explain(limits, 8) ==
          "4.00 GiB by default: half of available memory, shared by 8 local processes; "
          "available memory 64.0 GiB from /proc/meminfo; cgroup: no limit; memlock: no limit");
  }

  TEST_CASE("a memlock limit holds, less what is locked, unless the process may lock") {
    const Tree tree;
    write_meminfo(tree, 64 * kGiB);
    write_status(tree, kNoCapability, 1024);
    tree.write("proc/self/uid_map", "         0          0 4294967295\n");
    HostLimits limits = find_host_limits(tree.sources(8 * kMiB));
    CHECK(default_pinned_cap_bytes(limits, 1).value() == 7 * kMiB / 2);
    REQUIRE(limits.least() != nullptr);
    CHECK(limits.least()->kind == HostLimitKind::kMemlock);
    CHECK_FALSE(limits.memlock_unlimited);
    CHECK(explain(limits, 1).find("memlock 7.00 MiB (8.00 MiB less 1.00 MiB in use)") !=
          std::string::npos);

    write_status(tree, kIpcLock, 1024);
    limits = find_host_limits(tree.sources(8 * kMiB));
    CHECK(limits.memlock_unlimited);
    CHECK(limits.may_lock);
    CHECK(default_pinned_cap_bytes(limits, 1).value() == 32 * kGiB);
    CHECK(explain(limits, 1).find("memlock: no limit (CAP_IPC_LOCK)") != std::string::npos);

    // The same capability inside a user namespace is not that of the machine.
    tree.write("proc/self/uid_map", "0 1000 1\n");
    limits = find_host_limits(tree.sources(8 * kMiB));
    CHECK_FALSE(limits.may_lock);
    CHECK(default_pinned_cap_bytes(limits, 1).value() == 7 * kMiB / 2);
  }

  TEST_CASE("every ancestor of a version 2 group counts, less its use without dropped caches") {
    const Tree tree;
    write_meminfo(tree, 64 * kGiB);
    write_version2(tree, "/job/step/task");
    tree.write("sys/fs/cgroup/job/memory.max", std::to_string(16 * kGiB) + "\n");
    tree.write("sys/fs/cgroup/job/memory.current", std::to_string(10 * kGiB) + "\n");
    tree.write("sys/fs/cgroup/job/memory.stat",
               "anon 1\nfile 2\ninactive_file " + std::to_string(4 * kGiB) + "\nactive_file 1\n");
    tree.write("sys/fs/cgroup/job/step/memory.max", "max\n");
    tree.write("sys/fs/cgroup/job/step/task/memory.max", std::to_string(20 * kGiB) + "\n");
    tree.write("sys/fs/cgroup/job/step/task/memory.current", std::to_string(kGiB) + "\n");
    const HostLimits limits = find_host_limits(tree.sources());
    REQUIRE(limits.least() != nullptr);
    CHECK(limits.least()->source == "/sys/fs/cgroup/job/memory.max");
    CHECK(limits.least()->available_bytes == 10 * kGiB);
    CHECK(default_pinned_cap_bytes(limits, 1).value() == 5 * kGiB);
    const CgroupLimits groups = find_cgroup_limits(tree.root());
    REQUIRE(groups.limits.size() == 2);
    CHECK(groups.limits[0].path == "/sys/fs/cgroup/job/step/task/memory.max");
    CHECK(groups.limits[0].used_bytes == kGiB);
    CHECK(groups.notes.empty());
  }

  TEST_CASE("the limit above which version 2 slows a group down counts like the hard one") {
    const Tree tree;
    write_meminfo(tree, 64 * kGiB);
    write_version2(tree, "/job");
    tree.write("sys/fs/cgroup/job/memory.max", std::to_string(16 * kGiB));
    tree.write("sys/fs/cgroup/job/memory.high", std::to_string(6 * kGiB));
    tree.write("sys/fs/cgroup/job/memory.current", "0\n");
    CHECK(default_pinned_cap_bytes(find_host_limits(tree.sources()), 1).value() == 3 * kGiB);
  }

  TEST_CASE("version 1 groups are found beside version 2, below a mount of a part of the tree") {
    for (const char* mounted : {"/", "/docker/abc"}) {
      CAPTURE(mounted);
      const Tree tree;
      write_meminfo(tree, 64 * kGiB);
      write_version1(tree, "/docker/abc", mounted);
      const std::string group = mounted == std::string("/") ? "/docker/abc" : "";
      const std::string folder = "sys/fs/cgroup/memory" + group;
      tree.write(folder + "/memory.limit_in_bytes", std::to_string(8 * kGiB) + "\n");
      tree.write(folder + "/memory.usage_in_bytes", std::to_string(3 * kGiB) + "\n");
      tree.write(folder + "/memory.stat", "total_inactive_file " + std::to_string(kGiB) + "\n");
      if (!group.empty())
        tree.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
      const HostLimits limits = find_host_limits(tree.sources());
      REQUIRE(limits.least() != nullptr);
      CHECK(limits.least()->kind == HostLimitKind::kCgroup);
      CHECK(limits.least()->available_bytes == 6 * kGiB);
      CHECK(limits.limits.size() == 2);
      CHECK(explain(limits, 1).find("3.00 GiB by default: half of cgroup; ") == 0);
    }
  }

  TEST_CASE("a group that lies outside of what is mounted leaves the mount point's own limit") {
    for (const char* group : {"/../elsewhere", "/foreign/group"}) {
      CAPTURE(group);
      const Tree tree;
      write_version1(tree, group, "/docker/abc");
      tree.write("sys/fs/cgroup/memory/memory.limit_in_bytes", std::to_string(2 * kGiB));
      tree.write("sys/fs/cgroup/memory/memory.usage_in_bytes", "0");
      const CgroupLimits groups = find_cgroup_limits(tree.root());
      REQUIRE(groups.limits.size() == 1);
      CHECK(groups.limits[0].limit_bytes == 2 * kGiB);
    }
  }

  TEST_CASE("blanks in a mount point are unescaped") {
    const Tree tree;
    tree.write("proc/self/cgroup", "0::/\n");
    tree.write("proc/self/mountinfo", "1 2 0:1 / /my\\040groups rw - cgroup2 none rw\n");
    tree.write("my groups/memory.max", "4096\n");
    tree.write("my groups/memory.current", "96\n");
    const CgroupLimits groups = find_cgroup_limits(tree.root());
    REQUIRE(groups.limits.size() == 1);
    CHECK(groups.limits[0].path == "/my groups/memory.max");
    CHECK(groups.limits[0].used_bytes == 96);
  }

  TEST_CASE("more in use than allowed leaves nothing, not a wrapped number") {
    const Tree tree;
    write_meminfo(tree, 64 * kGiB);
    write_status(tree, kNoCapability, 18014398509481983u);  // in KiB, nearly 2^64 bytes
    const HostLimits limits = find_host_limits(tree.sources(8 * kMiB));
    CHECK(default_pinned_cap_bytes(limits, 1).value() == 0);
  }
}

TEST_SUITE("fault") {
  TEST_CASE("without any readable source there is no default and a text that says what to do") {
    const Tree tree;
    const HostLimits limits = find_host_limits(tree.sources());
    CHECK(limits.least() == nullptr);
    CHECK(limits.notes.size() == 4);
    CHECK(default_pinned_cap_bytes(limits, 1).status().code() == Code::kNotFound);
    CHECK(explain(limits, 1) == "no limit of host memory could be read: give a pinned cap");
  }

  TEST_CASE("a local world of no process is refused") {
    const Tree tree;
    write_meminfo(tree, kGiB);
    const HostLimits limits = find_host_limits(tree.sources());
    CHECK(default_pinned_cap_bytes(limits, 0).status().code() == Code::kInvalidArgument);
    CHECK(explain(limits, 0).find("local world size is 0") != std::string::npos);
  }

  TEST_CASE("broken system files are notes, and what is sound still counts") {
    const Tree tree;
    write_meminfo(tree, kGiB);
    tree.write("proc/self/status", "CapEff:\tnot hex\nVmLck:\t-3 kB\n");
    tree.write("proc/self/uid_map", "0\n");
    write_version2(tree, "/a/b");
    tree.write("sys/fs/cgroup/a/b/memory.max", "12345678901234567890123\n");
    tree.write("sys/fs/cgroup/a/memory.max", std::to_string(512 * kMiB));
    tree.write("sys/fs/cgroup/a/memory.current", "lots\n");
    tree.write("sys/fs/cgroup/memory.max", "");
    const HostLimits limits = find_host_limits(tree.sources(256 * kMiB));
    REQUIRE(limits.least() != nullptr);
    CHECK(limits.least()->kind == HostLimitKind::kMemlock);
    REQUIRE(limits.least(HostLimitKind::kCgroup) != nullptr);
    CHECK(limits.least(HostLimitKind::kCgroup)->available_bytes == 512 * kMiB);
    CHECK(limits.notes.size() == 3);  // two limits that are no numbers, one usage
    CHECK(default_pinned_cap_bytes(limits, 1).value() == 128 * kMiB);
  }

  TEST_CASE("a group path of a thousand levels ends, and says that it was cut") {
    const Tree tree;
    std::string group;
    for (int i = 0; i < 1000; ++i) group += "/g";
    write_version2(tree, group);
    const CgroupLimits groups = find_cgroup_limits(tree.root());
    CHECK(groups.limits.empty());
    REQUIRE(groups.notes.size() == 1);
    CHECK(groups.notes[0].find("nested too deep") != std::string::npos);
  }

  TEST_CASE("lines without fields, colons or ends are passed over") {
    const Tree tree;
    tree.write("proc/self/cgroup", "\n:\n::\n4:memory\n4:memory:relative\n0::");
    tree.write("proc/self/mountinfo", "\n - \n1 2 3 - cgroup2\n1 2 3 / rel rw - cgroup2 c rw");
    const CgroupLimits groups = find_cgroup_limits(tree.root());
    CHECK(groups.limits.empty());
    CHECK(groups.notes.empty());
  }

  TEST_CASE("this machine has limits that make sense") {
    const HostLimits limits = find_host_limits(this_process());
    const Result<std::uint64_t> cap = default_pinned_cap_bytes(limits, 1);
    REQUIRE(cap.ok());  // every Linux has /proc/meminfo
    for (const HostLimit& limit : limits.limits) CHECK(cap.value() <= limit.available_bytes / 2);
    CHECK(explain(limits, 1).find(" by default: half of ") != std::string::npos);
  }
}
