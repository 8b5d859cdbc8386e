// SPDX-License-Identifier: Apache-2.0
// The futex calls.
#include "device/sim/baton.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace spillway::sim {
namespace {

void futex(std::atomic<std::uint32_t>& word, int operation, std::uint32_t value) {
  static_assert(sizeof(std::atomic<std::uint32_t>) == sizeof(std::uint32_t));
  static_cast<void>(
      syscall(SYS_futex, &word, operation | FUTEX_PRIVATE_FLAG, value, nullptr, nullptr, 0));
}

}  // namespace

void Baton::give() {
  given_.store(1, std::memory_order_release);
  futex(given_, FUTEX_WAKE, 1);
}

void Baton::take() {
  // A wait that returns early (a signal, a late wake-up) finds the word unchanged and repeats.
  while (given_.exchange(0, std::memory_order_acquire) == 0) futex(given_, FUTEX_WAIT, 0);
}

}  // namespace spillway::sim
