// SPDX-License-Identifier: Apache-2.0
// Host threads of a simulated run: real OS threads of which one runs at a time, whoever holds the
// baton. This class keeps who waits for what, and the clocks of locks and atomics; the engine, as
// HostEnvironment, decides who goes next, so that device steps and threads are candidates of one
// seeded choice.
#pragma once

#include "core/host_scheduler.hpp"
#include "device/sim/address_table.hpp"
#include "device/sim/vector_clock.hpp"

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

namespace spillway::sim {

/// What HostThreads asks of the engine. All calls come from the thread that holds the baton. `what`
/// is a static string.
class HostEnvironment {
 public:
  HostEnvironment() = default;
  HostEnvironment(const HostEnvironment&) = delete;
  HostEnvironment& operator=(const HostEnvironment&) = delete;
  HostEnvironment(HostEnvironment&&) = delete;
  HostEnvironment& operator=(HostEnvironment&&) = delete;
  virtual ~HostEnvironment() = default;

  /// A point where the current thread could be overtaken: may run device steps, may switch_to.
  virtual void point(const char* what) = 0;

  /// The current thread has nothing to do until others go on: it polls. Whatever the schedule, each
  /// of the others must get its turn when this is called often enough.
  virtual void yielded() { point("yield"); }

  /// Lets others go on until ready(argument), which is also what makes the current thread
  /// runnable() meanwhile; returns early only when abandoned(), to be tested after every switch_to.
  /// With nobody runnable, time moves to earliest_deadline_ns(); without a deadline that is a
  /// deadlock: report describe_waits(), call abandon() and return.
  virtual void wait_until(bool (*ready)(void*), void* argument, const char* what) = 0;

  virtual std::int64_t now_ns() = 0;

  /// Happens-before: `thread` comes after `from`. And: `into` (joined) comes after what `thread`
  /// has done so far, not after what it does next.
  virtual void acquire(std::uint32_t thread, const VectorClock& from) = 0;
  virtual void release(std::uint32_t thread, VectorClock& into) = 0;

  /// `parent` made `thread`, which has not run yet. Its order after the parent follows as acquire.
  virtual void thread_born(std::uint32_t thread, std::uint32_t parent) {
    static_cast<void>(thread);
    static_cast<void>(parent);
  }
  /// First thing on the OS thread that `thread` runs on, before its entry.
  virtual void thread_entered(std::uint32_t thread) { static_cast<void>(thread); }
  /// The current thread has ended: whom to hand the baton to, a runnable() one. As in wait_until it
  /// may run device steps, move time, or abandon() (then the answer does not matter). It must not
  /// switch_to.
  virtual std::uint32_t thread_ended(std::uint32_t thread) = 0;

  /// A rule of the locks was broken; `name` is that of the lock or thread. The default is
  /// SPW_CHECK's way.
  virtual void misuse(const char* what, const char* name);
};

class HostThreads final : public HostScheduler {
 public:
  static constexpr std::uint32_t kNone = 0xffffffffu;

  /// The calling OS thread becomes thread 0, "main". It also needs a HostSchedulerScope, which is
  /// its owner's affair.
  explicit HostThreads(HostEnvironment& environment);
  HostThreads(const HostThreads&) = delete;
  HostThreads& operator=(const HostThreads&) = delete;
  HostThreads(HostThreads&&) = delete;
  HostThreads& operator=(HostThreads&&) = delete;
  /// As reset(), and ends the pool of OS threads.
  ~HostThreads() override;

  /// A new run with the calling OS thread as thread 0. Threads that have not ended are abandoned
  /// and unwound first. Keeps OS threads and memory: a thread_local of the program keeps its value
  /// from one thread to the next that gets the same OS thread. REQUIRES: called by thread 0, or by
  /// another OS thread when thread 0 is the only one.
  void reset();

  // -- for the engine -----------------------------------------------------------------------------
  [[nodiscard]] std::uint32_t current() const { return current_; }
  /// Threads of this run, ended ones included; numbers are not reused within a run.
  [[nodiscard]] std::uint32_t count() const { return count_; }
  [[nodiscard]] const char* name(std::uint32_t thread) const { return at(thread).name; }
  [[nodiscard]] bool ended(std::uint32_t thread) const { return at(thread).ended; }
  /// Not ended, and what it waits for has come. The current thread counts as running.
  [[nodiscard]] bool runnable(std::uint32_t thread) const;
  /// The first moment at which a waiting thread becomes runnable without anybody's doing.
  [[nodiscard]] std::int64_t earliest_deadline_ns() const;

  /// Hands over the baton and returns when it comes back. REQUIRES: not ended, not current.
  void switch_to(std::uint32_t thread);

  /// The engine's own way to block the current thread, with the rules of wait_until: true when
  /// ready(argument), false when the deadline passed or the run was abandoned.
  bool wait(bool (*ready)(void*),
            void* argument,
            const char* what,
            std::int64_t deadline_ns = kNoDeadlineNs);

  /// A thread of the simulator's own (the one for host callbacks): ordered after nothing, no leak
  /// when it is still there at the end.
  Result<std::uint32_t> create_service(const char* name, void (*entry)(void*), void* argument);

  /// Gives the run up. From now on a hook that would block throws ThreadsAbandoned, so that every
  /// thread unwinds to its entry, and thread 0 to whoever catches there; where a throw is not
  /// possible it lets the others unwind first and then goes on without what it waited for. The
  /// caller returns to its hook, which does the same.
  void abandon() { abandoned_ = true; }
  [[nodiscard]] bool abandoned() const { return abandoned_; }

  /// One line per thread that has not ended: what it waits for, who holds that, what it holds.
  [[nodiscard]] std::string describe_waits() const;
  /// One line per thread that has not ended (thread 0 and services apart) and per mutex still
  /// locked; empty when there are none.
  [[nodiscard]] std::string describe_leaks() const;

  /// What is known of locks and atomics by address.
  [[nodiscard]] std::size_t tracked_object_count() const {
    return objects_.size() - free_objects_.size();
  }
  /// OS threads made so far.
  [[nodiscard]] std::size_t os_thread_count() const { return os_threads_.size(); }

  // -- HostScheduler ------------------------------------------------------------------------------
  Result<std::uint32_t> thread_create(const char* name,
                                      void (*entry)(void*),
                                      void* argument) override;
  void thread_join(std::uint32_t thread) override;
  void yield() override;
  void sleep_until(std::int64_t deadline_ns) override;
  std::int64_t now_ns() override;
  bool mutex_lock(const void* mutex, const char* name) override;
  bool mutex_try_lock(const void* mutex, const char* name) override;
  bool mutex_unlock(const void* mutex) override;
  bool mutex_is_held(const void* mutex) override;
  bool condition_wait(const void* condition, const void* mutex, std::int64_t deadline_ns) override;
  void condition_notify(const void* condition, bool all) override;
  void atomic_before(const void* location, AtomicAccess access) override;
  void atomic_after(const void* location, AtomicAccess access, std::memory_order order) override;
  void forget(const void* object) override;

 private:
  struct OsThread;

  enum class ObjectKind : std::uint8_t { kMutex, kCondition, kAtomic };

  /// A mutex, condition or atomic, at a fixed address for waiting predicates.
  struct Object {
    const void* address = nullptr;  // null: free
    const char* name = "";
    ObjectKind kind = ObjectKind::kMutex;
    VectorClock clock;
    // mutex
    std::uint32_t owner = kNone;
    bool is_tried = false;  // try_lock shows whether it is held, so unlock is a point as well
    // condition; INVARIANT: tokens.size() <= waiting
    std::uint64_t arrivals = 0;  // of waiters, ever
    std::uint32_t waiting = 0;
    std::vector<std::uint64_t>
        tokens;  // per notification, ascending: newest arrival that may take it
  };

  struct HostThread {
    const char* name = "";
    void (*entry)(void*) = nullptr;
    void* argument = nullptr;
    OsThread* os = nullptr;
    bool ended = false;
    bool is_service = false;
    bool has_start = false;  // clock is to be acquired at the start
    VectorClock clock;       // of the parent at birth; of the thread at its end

    // While waiting; ready == null: not waiting.
    bool (*ready)(void*) = nullptr;
    void* ready_argument = nullptr;
    const char* what = "";
    std::int64_t deadline_ns = kNoDeadlineNs;
    const Object* waits_for = nullptr;       // mutex or condition
    std::uint32_t waits_for_thread = kNone;  // to end
    std::uint64_t arrival = 0;               // at the condition

    // In an abandoned run.
    std::uint64_t stuck_at = 0;  // progress_ when it found nothing to do
    std::uint32_t hooks = 0;
  };

  struct Waiting;
  struct ConditionWait;

  [[nodiscard]] HostThread& at(std::uint32_t thread) const { return *threads_[thread]; }
  [[nodiscard]] HostThread& self() const { return at(current_); }
  HostThread& add_thread(const char* name);
  Result<std::uint32_t> create(const char* name,
                               void (*entry)(void*),
                               void* argument,
                               bool is_service);
  Object& object(const void* address, ObjectKind kind, const char* name);
  Object* find(const void* address);

  [[nodiscard]] bool due(const HostThread& thread) const;
  static bool is_due(void* waiting);
  static bool is_free(void* mutex);
  static bool is_ended(void* thread);
  static bool is_notified(void* condition_wait);
  static bool is_never(void*) { return false; }

  void point(const char* what);
  bool block(bool (*ready)(void*),
             void* argument,
             const char* what,
             std::int64_t deadline_ns,
             const Object* waits_for,
             std::uint32_t waits_for_thread);
  bool wait_abandoned(bool (*ready)(void*), void* argument);
  [[nodiscard]] std::uint32_t next_abandoned() const;
  bool lock(Object& mutex);
  void hand_to(std::uint32_t thread);
  void serve(OsThread& os);
  void run_thread(std::uint32_t number);
  void end_all();

  HostEnvironment& environment_;
  std::vector<std::unique_ptr<HostThread>> threads_;  // [0, count_) are of this run
  std::uint32_t count_ = 0;
  std::uint32_t current_ = 0;
  std::uint32_t alive_ = 0;
  bool abandoned_ = false;
  std::uint64_t progress_ = 1;  // locks released, threads ended

  AddressTable table_;          // address -> index in objects_
  std::deque<Object> objects_;  // in order of first use; free ones are reused
  std::vector<std::uint32_t> free_objects_;

  std::unique_ptr<OsThread> main_;  // no thread of its own: whoever called reset()
  std::vector<std::unique_ptr<OsThread>> os_threads_;
  std::vector<OsThread*> idle_;
};

}  // namespace spillway::sim
