// SPDX-License-Identifier: Apache-2.0
// Only raw system calls and lock-free atomics below handle(): it runs inside a signal handler.
#include "device/sim/host_guard.hpp"

#include "device/sim/memory_layout.hpp"

#include <csignal>
#include <mutex>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

namespace spillway::sim {
namespace {

constexpr unsigned char kGarbage = 0xA5;

// One armed guard. The ranges stand beside the pointer, because the guard of another thread's
// simulator may be going away: only that of the faulting address is looked into.
struct Armed {
  std::atomic<HostGuard*> guard{nullptr};  // set last, cleared first
  std::atomic<std::uint64_t> base{0};
  std::atomic<std::uint64_t> mirror{0};
  std::atomic<std::uint64_t> span_bytes{0};

  [[nodiscard]] HostGuard* of(std::uint64_t address) const {
    HostGuard* found = guard.load(std::memory_order_acquire);
    if (found == nullptr) return nullptr;
    const std::uint64_t span = span_bytes.load(std::memory_order_relaxed);
    const bool inside = address - base.load(std::memory_order_relaxed) < span ||
                        address - mirror.load(std::memory_order_relaxed) < span;
    return inside ? found : nullptr;
  }
};
std::array<Armed, HostGuard::kArmedMax> armed_guards;
std::mutex install_mutex;
std::size_t armed_count = 0;  // under install_mutex

// Handlers that ours stands in front of, for one signal: first the one before ours, then those that
// came later and were displaced (a test framework or a crash reporter that installs its own).
// Entries are written before `count` says so and never changed while ours is installed.
struct Others {
  static constexpr int kMax = 16;
  std::array<struct sigaction, kMax> actions{};
  std::atomic<int> count{0};
};
Others segv_others;
Others bus_others;
Others& others_of(int signal_number) { return signal_number == SIGBUS ? bus_others : segv_others; }

// A displaced handler may pass on to ours, which it found when it came: then it is the first one's
// turn. Initial-exec, because a signal handler cannot wait for lazy thread-local storage.
__attribute__((tls_model("initial-exec"))) thread_local bool chaining = false;

void chain(int signal_number, siginfo_t* info, void* context) {
  const Others& others = others_of(signal_number);
  const int count = others.count.load(std::memory_order_acquire);
  const bool again = chaining;
  const struct sigaction& next = others.actions[static_cast<std::size_t>(again ? 0 : count - 1)];
  chaining = true;
  if ((next.sa_flags & SA_SIGINFO) != 0) {
    next.sa_sigaction(signal_number, info, context);
  } else if (next.sa_handler != SIG_DFL && next.sa_handler != SIG_IGN) {
    next.sa_handler(signal_number);
  } else {
    // The kernel kills on an ignored synchronous fault too: give it back and fault once more.
    struct sigaction fallback {};
    fallback.sa_handler = SIG_DFL;
    sigaction(signal_number, &fallback, nullptr);
    // Nothing faults once more after a signal that somebody sent.
    if (info->si_code <= 0) syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), signal_number);
  }
  chaining = again;
}

void on_fault(int signal_number, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  // A fault by an instruction has a positive code; kill(2) does not.
  if (info->si_code > 0) {
    const auto* machine = static_cast<const ucontext_t*>(context);
    const auto address = reinterpret_cast<std::uint64_t>(info->si_addr);
    const auto instruction = static_cast<std::uint64_t>(machine->uc_mcontext.gregs[REG_RIP]);
    const bool write = (machine->uc_mcontext.gregs[REG_ERR] & 2) != 0;
    for (const Armed& entry : armed_guards) {
      HostGuard* guard = entry.of(address);
      if (guard != nullptr && guard->handle(address, instruction, write)) {
        errno = saved_errno;
        return;
      }
    }
  }
  errno = saved_errno;
  chain(signal_number, info, context);
}

bool ours(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction == on_fault;
}

bool same(const struct sigaction& a, const struct sigaction& b) {
  if ((a.sa_flags & SA_SIGINFO) != (b.sa_flags & SA_SIGINFO)) return false;
  return (a.sa_flags & SA_SIGINFO) != 0 ? a.sa_sigaction == b.sa_sigaction
                                        : a.sa_handler == b.sa_handler;
}

// Under install_mutex. `first`: no guard was armed.
void install(int signal_number, bool first) {
  Others& others = others_of(signal_number);
  struct sigaction now {};
  sigaction(signal_number, nullptr, &now);
  // Left in place by an uninstall() that found somebody in front: the list is still right.
  if (ours(now)) return;
  if (first) others.count.store(0, std::memory_order_relaxed);
  const int count = others.count.load(std::memory_order_relaxed);
  if (count == Others::kMax) return;  // somebody insists more than we do
  if (count == 0 || !same(others.actions[static_cast<std::size_t>(count) - 1], now)) {
    others.actions[static_cast<std::size_t>(count)] = now;
    others.count.store(count + 1, std::memory_order_release);
  }
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaction(signal_number, &action, nullptr);
}

void uninstall(int signal_number) {
  struct sigaction now {};
  sigaction(signal_number, nullptr, &now);
  // Somebody who came later may pass on to ours: then ours stays and only passes on itself.
  if (!ours(now)) return;
  const Others& others = others_of(signal_number);
  const auto last = static_cast<std::size_t>(others.count.load(std::memory_order_relaxed)) - 1;
  sigaction(signal_number, &others.actions[last], nullptr);
}

bool open_page(std::uint64_t page, int protection) {
  return syscall(SYS_mprotect, page, kPageBytes, protection) == 0;
}

// An anonymous page of garbage over whatever was there.
bool garbage_page(std::uint64_t page) {
  const long at = syscall(SYS_mmap,
                          page,
                          kPageBytes,
                          PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE,
                          -1,
                          0);
  if (static_cast<std::uint64_t>(at) != page) return false;
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the address of a fault is a number
  auto* bytes = reinterpret_cast<volatile unsigned char*>(page);
  for (std::size_t i = 0; i < kPageBytes; ++i) bytes[i] = kGarbage;
  return true;
}

}  // namespace

bool HostGuard::arm(const Ranges& ranges) {
  const std::lock_guard<std::mutex> lock(install_mutex);
  ranges_ = ranges;
  for (std::size_t i = 0; i < kArmedMax; ++i) {
    Armed& entry = armed_guards[i];
    if (entry.guard.load(std::memory_order_relaxed) != nullptr) continue;
    const bool first = armed_count++ == 0;
    install(SIGSEGV, first);
    install(SIGBUS, first);
    slot_ = i;
    entry.base.store(ranges.base, std::memory_order_relaxed);
    entry.mirror.store(ranges.mirror, std::memory_order_relaxed);
    entry.span_bytes.store(ranges.span_bytes, std::memory_order_relaxed);
    entry.guard.store(this, std::memory_order_release);
    return true;
  }
  return false;
}

void HostGuard::disarm() {
  const std::lock_guard<std::mutex> lock(install_mutex);
  if (slot_ == kArmedMax) return;
  armed_guards[slot_].guard.store(nullptr, std::memory_order_release);
  slot_ = kArmedMax;
  if (--armed_count == 0) {
    uninstall(SIGSEGV);
    uninstall(SIGBUS);
  }
}

void HostGuard::rearm() {
  const std::lock_guard<std::mutex> lock(install_mutex);
  if (slot_ == kArmedMax) return;
  install(SIGSEGV, false);
  install(SIGBUS, false);
}

bool HostGuard::handle(std::uint64_t address, std::uint64_t instruction, bool write) {
  const std::uint64_t page = address & ~(kPageBytes - 1);
  HostFault fault{address, instruction, 0, write, HostFaultKind::kDeviceAddress};
  if (const std::uint64_t offset = address - ranges_.base; offset < ranges_.span_bytes) {
    if (offset >= ranges_.host_begin && offset < ranges_.host_end) {
      const PageGuard guard = ranges_.guards[(offset - ranges_.host_begin) / kPageBytes];
      fault.kind = guard.no_access + guard.read_only != 0 ? HostFaultKind::kGuarded
                                                          : HostFaultKind::kNotAllocated;
      // After a read only reads are opened, so that a write behind it is seen as well.
      if (!open_page(page, write ? PROT_READ | PROT_WRITE : PROT_READ)) return false;
    } else if (!garbage_page(page)) {
      return false;
    }
  } else if (const std::uint64_t seen = address - ranges_.mirror; seen < ranges_.span_bytes) {
    fault.kind = HostFaultKind::kKernel;
    fault.address = ranges_.base + seen;
    if (!garbage_page(page)) return false;
  } else {
    return false;
  }
  fault.thread = static_cast<std::int32_t>(syscall(SYS_gettid));
  const std::size_t at = count_.fetch_add(1, std::memory_order_acq_rel);
  if (at < kRecordsMax) records_[at] = fault;
  return true;
}

}  // namespace spillway::sim
