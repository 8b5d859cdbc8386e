// SPDX-License-Identifier: Apache-2.0
// Birth, death and waiting of simulated host threads, the baton between them, and the unwinding of
// an abandoned run.
#include "device/sim/host_threads.hpp"

#include "core/check.hpp"
#include "device/sim/baton.hpp"

#include <algorithm>
#include <exception>
#include <system_error>
#include <thread>

namespace spillway::sim {
namespace {

// Hooks that a thread of an abandoned run passes without blocking before it counts as spinning.
constexpr std::uint32_t kSpinningHooks = 10'000;
constexpr std::uint32_t kHopelessHooks = 10 * kSpinningHooks;

bool may_throw() {
  return t_host_thread_state.no_abandon_scopes == 0 && std::uncaught_exceptions() == 0;
}

}  // namespace

struct HostThreads::OsThread {
  Baton baton;
  std::uint32_t number = 0;  // of the host thread that it runs or will run
  bool quit = false;
  std::thread native;
};

/// The current thread waits from construction to destruction.
struct HostThreads::Waiting {
  const HostThreads& threads;
  HostThread& thread;

  Waiting(const HostThreads& all, HostThread& one) : threads(all), thread(one) {}
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;
  Waiting(Waiting&&) = delete;
  Waiting& operator=(Waiting&&) = delete;
  ~Waiting() {
    thread.ready = nullptr;
    thread.deadline_ns = kNoDeadlineNs;
    thread.waits_for = nullptr;
    thread.waits_for_thread = kNone;
  }
};

void HostEnvironment::misuse(const char* what, const char* name) {
  check_failed(__FILE__, __LINE__, std::string(what) + ": " + name);
}

HostThreads::HostThreads(HostEnvironment& environment)
    : environment_(environment), main_(std::make_unique<OsThread>()) {
  reset();
}

HostThreads::~HostThreads() {
  end_all();
  for (OsThread* os : idle_) {
    os->quit = true;
    os->baton.give();
    os->native.join();
  }
}

void HostThreads::reset() {
  end_all();
  abandoned_ = false;
  progress_ = 1;
  table_.clear();
  free_objects_.clear();
  for (std::size_t i = objects_.size(); i-- > 0;) {
    objects_[i].address = nullptr;
    free_objects_.push_back(static_cast<std::uint32_t>(i));
  }
  count_ = 0;
  current_ = 0;
  add_thread("main").os = main_.get();
  alive_ = 1;
}

void HostThreads::end_all() {
  if (alive_ <= 1) return;
  SPW_CHECK_EQ(current_, 0u);
  abandoned_ = true;
  while (alive_ > 1) {
    self().stuck_at = progress_;  // nobody is to wait for thread 0
    std::uint32_t next = next_abandoned();
    for (std::uint32_t i = 1; next == kNone; ++i) {
      if (!at(i).ended) next = i;
    }
    switch_to(next);
  }
}

HostThreads::HostThread& HostThreads::add_thread(const char* name) {
  if (count_ == threads_.size()) threads_.push_back(std::make_unique<HostThread>());
  HostThread& thread = *threads_[count_++];
  thread = HostThread();
  thread.name = name;
  return thread;
}

Result<std::uint32_t> HostThreads::create(const char* name,
                                          void (*entry)(void*),
                                          void* argument,
                                          bool is_service) {
  OsThread* os = nullptr;
  if (idle_.empty()) {
    auto fresh = std::make_unique<OsThread>();
    try {
      fresh->native = std::thread(&HostThreads::serve, this, std::ref(*fresh));
    } catch (const std::system_error& error) {
      return Status(Code::kOutOfMemory,
                    std::string("cannot start thread ") + name + ": " + error.what());
    }
    os = fresh.get();
    os_threads_.push_back(std::move(fresh));
  } else {
    os = idle_.back();
    idle_.pop_back();
  }
  const std::uint32_t number = count_;
  HostThread& thread = add_thread(name);
  thread.entry = entry;
  thread.argument = argument;
  thread.is_service = is_service;
  thread.os = os;
  os->number = number;
  ++alive_;
  environment_.thread_born(number, current_);
  if (!is_service) {
    environment_.release(current_, thread.clock);
    thread.has_start = true;
  }
  return number;
}

Result<std::uint32_t> HostThreads::thread_create(const char* name,
                                                 void (*entry)(void*),
                                                 void* argument) {
  point("thread start");
  return create(name, entry, argument, false);
}

Result<std::uint32_t> HostThreads::create_service(const char* name,
                                                  void (*entry)(void*),
                                                  void* argument) {
  return create(name, entry, argument, true);
}

void HostThreads::serve(OsThread& os) {
  const HostSchedulerScope scope(this);
  for (;;) {
    os.baton.take();
    if (os.quit) return;
    run_thread(os.number);
  }
}

void HostThreads::run_thread(std::uint32_t number) {
  HostThread& me = at(number);
  environment_.thread_entered(number);
  if (me.has_start) environment_.acquire(number, me.clock);
  try {
    if (!abandoned_) me.entry(me.argument);
  } catch (const ThreadsAbandoned&) {
    me.what = "";  // its stack is gone, as is what it waited for
  }
  if (t_host_thread_state.held_locks != 0 && !abandoned_)
    environment_.misuse("a thread ended while it held a lock", me.name);
  t_host_thread_state.held_locks = 0;
  t_host_thread_state.no_abandon_scopes = 0;
  me.clock.clear();
  environment_.release(number, me.clock);
  me.ended = true;
  --alive_;
  ++progress_;
  // Before the baton goes: who gets it may start a thread that runs here next.
  idle_.push_back(me.os);
  std::uint32_t next = kNone;
  if (!abandoned_) next = environment_.thread_ended(number);
  if (abandoned_) next = next_abandoned();
  hand_to(next);
}

void HostThreads::hand_to(std::uint32_t thread) {
  SPW_CHECK_LT(thread, count_);
  SPW_CHECK(!at(thread).ended);
  OsThread& os = *at(thread).os;
  current_ = thread;
  os.baton.give();
}

void HostThreads::switch_to(std::uint32_t thread) {
  SPW_CHECK(thread != current_);
  OsThread& mine = *self().os;
  hand_to(thread);
  mine.baton.take();
}

bool HostThreads::due(const HostThread& thread) const {
  if (thread.ready == nullptr || thread.ready(thread.ready_argument)) return true;
  return thread.deadline_ns != kNoDeadlineNs && environment_.now_ns() >= thread.deadline_ns;
}

bool HostThreads::is_due(void* waiting) {
  const auto& one = *static_cast<const Waiting*>(waiting);
  return one.threads.due(one.thread);
}

bool HostThreads::runnable(std::uint32_t thread) const {
  return !at(thread).ended && due(at(thread));
}

std::int64_t HostThreads::earliest_deadline_ns() const {
  std::int64_t earliest = kNoDeadlineNs;
  for (std::uint32_t i = 0; i < count_; ++i) {
    if (!at(i).ended) earliest = std::min(earliest, at(i).deadline_ns);
  }
  return earliest;
}

void HostThreads::point(const char* what) {
  if (!abandoned_) {
    environment_.point(what);
    return;
  }
  const std::uint32_t hooks = ++self().hooks;
  if (hooks > kSpinningHooks && may_throw()) throw ThreadsAbandoned{};
  SPW_CHECK_LT(hooks, kHopelessHooks);  // spins where nothing can stop it
}

bool HostThreads::block(bool (*ready)(void*),
                        void* argument,
                        const char* what,
                        std::int64_t deadline_ns,
                        const Object* waits_for,
                        std::uint32_t waits_for_thread) {
  Waiting waiting(*this, self());
  waiting.thread.ready_argument = argument;
  waiting.thread.what = what;
  waiting.thread.deadline_ns = deadline_ns;
  waiting.thread.waits_for = waits_for;
  waiting.thread.waits_for_thread = waits_for_thread;
  waiting.thread.ready = ready;
  if (!abandoned_) environment_.wait_until(&is_due, &waiting, what);
  if (!abandoned_) return ready(argument);
  return wait_abandoned(ready, argument);
}

bool HostThreads::wait(bool (*ready)(void*),
                       void* argument,
                       const char* what,
                       std::int64_t deadline_ns) {
  return block(ready, argument, what, deadline_ns, nullptr, kNone);
}

bool HostThreads::wait_abandoned(bool (*ready)(void*), void* argument) {
  for (;;) {
    if (ready(argument)) return true;
    if (may_throw()) throw ThreadsAbandoned{};
    SPW_CHECK_LT(++self().hooks, kHopelessHooks);
    self().stuck_at = progress_;
    const std::uint32_t next = next_abandoned();
    if (next == kNone) return false;
    switch_to(next);
  }
}

// The youngest first: its elders may own what it uses.
std::uint32_t HostThreads::next_abandoned() const {
  for (std::uint32_t i = count_; i-- > 0;) {
    if (i != current_ && !at(i).ended && at(i).stuck_at != progress_) return i;
  }
  return kNone;
}

bool HostThreads::is_ended(void* thread) { return static_cast<const HostThread*>(thread)->ended; }

void HostThreads::thread_join(std::uint32_t thread) {
  SPW_CHECK_LT(thread, count_);
  HostThread& other = at(thread);
  if (!other.ended) block(&is_ended, &other, "thread end", kNoDeadlineNs, nullptr, thread);
  // Nobody may free what a thread still uses, so this wait is never given up.
  while (!other.ended) {
    SPW_CHECK_LT(++self().hooks, kHopelessHooks);  // threads that join each other
    self().stuck_at = progress_;
    switch_to(thread);
  }
  environment_.acquire(current_, other.clock);
}

void HostThreads::yield() {
  if (abandoned_)
    point("yield");
  else
    environment_.yielded();
}

void HostThreads::sleep_until(std::int64_t deadline_ns) {
  static_cast<void>(wait(&is_never, nullptr, "time to pass", deadline_ns));
}

std::int64_t HostThreads::now_ns() { return environment_.now_ns(); }

}  // namespace spillway::sim
