// SPDX-License-Identifier: Apache-2.0
// Threads, natively and under a scheduler.
#include "core/thread.hpp"

#include "core/check.hpp"
#include "core/clock.hpp"
#include "core/host_scheduler.hpp"

#include <array>
#include <chrono>
#include <cstdio>
#include <system_error>
#include <thread>

namespace spillway {

/// At a fixed address, because the started thread reads it.
struct Thread::Running {
  const char* name = "";
  Task body;
  HostScheduler* scheduler = nullptr;  // then `number` is the thread, else `native`
  std::uint32_t number = 0;
  std::thread native;

  static void enter(void* running) { static_cast<Running*>(running)->body(); }

  static void enter_native(Running* running) {
#if defined(__linux__)
    std::array<char, 16> short_name{};  // the kernel's limit
    static_cast<void>(std::snprintf(short_name.data(), short_name.size(), "%s", running->name));
    static_cast<void>(pthread_setname_np(pthread_self(), short_name.data()));
#endif
    running->body();
  }
};

Thread::Thread() noexcept = default;
Thread::Thread(std::unique_ptr<Running> running) noexcept : running_(std::move(running)) {}
Thread::Thread(Thread&& other) noexcept = default;

Thread& Thread::operator=(Thread&& other) noexcept {
  if (this != &other) {
    const NoAbandonScope no_abandon;
    if (joinable()) join();
    running_ = std::move(other.running_);
  }
  return *this;
}

Thread::~Thread() {
  const NoAbandonScope no_abandon;
  if (joinable()) join();
}

Result<Thread> Thread::start(const char* name, Task body) {
  auto running = std::make_unique<Running>();
  running->name = name;
  running->body = std::move(body);
  running->scheduler = host_scheduler();
  if (running->scheduler != nullptr) {
    SPW_ASSIGN_OR_RETURN(running->number,
                         running->scheduler->thread_create(name, &Running::enter, running.get()));
  } else {
    try {
      running->native = std::thread(&Running::enter_native, running.get());
    } catch (const std::system_error& error) {
      return Status(Code::kOutOfMemory,
                    std::string("cannot start thread ") + name + ": " + error.what());
    }
  }
  return Thread(std::move(running));
}

void Thread::join() {
  SPW_CHECK(running_ != nullptr);
  if (running_->scheduler != nullptr)
    running_->scheduler->thread_join(running_->number);
  else
    running_->native.join();
  running_.reset();
}

void host_yield() {
  if (HostScheduler* scheduler = host_scheduler())
    scheduler->yield();
  else
    std::this_thread::yield();
}

std::int64_t host_now_ns() {
  if (HostScheduler* scheduler = host_scheduler()) return scheduler->now_ns();
  return SystemClock().now_ns();
}

void host_sleep_until(std::int64_t deadline_ns) {
  if (HostScheduler* scheduler = host_scheduler()) {
    scheduler->sleep_until(deadline_ns);
    return;
  }
  const std::chrono::steady_clock::time_point deadline{std::chrono::nanoseconds(deadline_ns)};
  std::this_thread::sleep_until(deadline);
}

}  // namespace spillway
