// SPDX-License-Identifier: Apache-2.0
// The process-wide handler of SIGSEGV and SIGBUS. A touch of simulated memory that hardware or the
// rules forbid does not kill the program: the handler writes a record, makes the page accessible
// (with garbage where there is nothing) and returns. Foreign addresses go to the handler before.
// It is installed while a HostGuard lives; several simulators in several threads may have one each.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace spillway::sim {

enum class HostFaultKind : std::uint8_t {
  kDeviceAddress,  // the host touched device memory
  kGuarded,        // the host touched a pinned page that an operation in flight uses
  kNotAllocated,   // the host touched pinned or managed memory that is not allocated (any more)
  kKernel,         // a kernel body touched a page that is unmapped or that it did not declare
};

struct HostFault {
  std::uint64_t address = 0;      // as the program knows it, also for kKernel
  std::uint64_t instruction = 0;  // program counter
  std::int32_t thread = 0;        // kernel's thread id
  bool write = false;
  HostFaultKind kind = HostFaultKind::kDeviceAddress;
};

/// Guards in force on one page of pinned memory.
struct PageGuard {
  std::uint32_t no_access = 0;
  std::uint32_t read_only = 0;
};

/// The ranges of one simulator and what the handler found in them. Everything that the handler
/// reads is here, plain, and fixed while `arm` is in force.
class HostGuard {
 public:
  static constexpr std::size_t kRecordsMax = 256;

  struct Ranges {
    std::uint64_t base = 0;  // [base, base + span): addresses as the program knows them
    std::uint64_t span_bytes = 0;
    std::uint64_t mirror = 0;      // [mirror, mirror + span): the kernel bodies' view
    std::uint64_t host_begin = 0;  // of base + [host_begin, host_end) the host has a view
    std::uint64_t host_end = 0;
    const PageGuard* guards = nullptr;  // one per page of [host_begin, host_end)
  };

  HostGuard() = default;
  ~HostGuard() { disarm(); }
  HostGuard(const HostGuard&) = delete;
  HostGuard& operator=(const HostGuard&) = delete;
  HostGuard(HostGuard&&) = delete;
  HostGuard& operator=(HostGuard&&) = delete;

  /// Publishes the ranges and installs the handler if it is the first. False when there are
  /// already kArmedMax guards.
  bool arm(const Ranges& ranges);
  /// Puts the handler in front again, should somebody have installed another since.
  void rearm();
  void disarm();

  static constexpr std::size_t kArmedMax = 256;

  [[nodiscard]] bool any() const { return count_.load(std::memory_order_relaxed) != 0; }

  /// visit(fault) for each record since the last take, in order, and empties the list. True when
  /// there were more than fit: then any page of the ranges may have been opened.
  template <typename Visit>
  bool take(Visit&& visit) {
    const std::size_t count = count_.exchange(0, std::memory_order_acq_rel);
    for (std::size_t i = 0; i < count && i < kRecordsMax; ++i) visit(records_[i]);
    return count > kRecordsMax;
  }

  /// Called by the handler: true when the address was ours and is accessible now.
  bool handle(std::uint64_t address, std::uint64_t instruction, bool write);

 private:
  Ranges ranges_;
  std::atomic<std::size_t> count_{0};
  std::array<HostFault, kRecordsMax> records_;
  std::size_t slot_ = kArmedMax;
};

}  // namespace spillway::sim
