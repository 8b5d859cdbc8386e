// SPDX-License-Identifier: Apache-2.0
// TaskQueue: a first-in first-out queue of tasks and the threads that run them, for work that must
// not stop its caller: registering pinned slabs, disk reads and writes.
#pragma once

#include "core/condition.hpp"
#include "core/mutex.hpp"
#include "core/status.hpp"
#include "core/task.hpp"
#include "core/thread.hpp"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

namespace spillway {

struct TaskQueueOptions {
  const char* name = "tasks";  // of the threads; static
  std::uint32_t threads = 1;
  std::size_t capacity = 0;  // tasks waiting; 0: no bound

  /// Told of an exception that left a task, on the worker's thread, under no lock; must not throw.
  /// Null: such a task counts in failed_count() only.
  void (*on_error)(void* user, const Status& status) = nullptr;
  void* user = nullptr;
};

/// Invariant: posted == waiting + running + done. Any thread may call any function.
class TaskQueue {
 public:
  /// Starts the threads. Fails when there are none to be had, or none are asked for.
  static Result<std::unique_ptr<TaskQueue>> start(const TaskQueueOptions& options);
  TaskQueue(const TaskQueue&) = delete;
  TaskQueue& operator=(const TaskQueue&) = delete;
  TaskQueue(TaskQueue&&) = delete;
  TaskQueue& operator=(TaskQueue&&) = delete;
  /// stop().
  ~TaskQueue();

  /// Appends; while the queue is full it blocks. A task may post to its own queue past the bound,
  /// since waiting there could never end. Fails with kInvalidArgument once stopped; `task` is then
  /// destroyed without having run.
  Status post(Task task);
  /// As post, but false instead of blocking or failing; `task` is then unchanged.
  bool try_post(Task& task);

  /// Waits until nothing waits or runs. Fails with kInvalidArgument inside one of its own tasks.
  Status drain();

  /// Takes no more, runs what waits, ends the threads. Again is fine. Fails as drain does.
  Status stop();

  [[nodiscard]] std::size_t waiting_count();
  /// Tasks that ended with an exception.
  [[nodiscard]] std::uint64_t failed_count();

 private:
  explicit TaskQueue(const TaskQueueOptions& options);
  Status start_threads();
  void work();
  void run(Task& task);
  [[nodiscard]] bool full() const SPW_REQUIRES(mutex_);

  const TaskQueueOptions options_;
  Mutex mutex_;
  Condition has_work_;  // or the end
  Condition has_room_;  // or the end
  Condition is_idle_;   // or ended_; apart from has_room_, whose notify_one must not reach it
  std::deque<Task> waiting_ SPW_GUARDED_BY(mutex_);
  std::uint32_t running_count_ SPW_GUARDED_BY(mutex_) = 0;
  std::uint64_t failed_count_ SPW_GUARDED_BY(mutex_) = 0;
  bool stopping_ SPW_GUARDED_BY(mutex_) = false;
  bool ended_ SPW_GUARDED_BY(mutex_) = false;
  std::vector<Thread> threads_;  // only start and the first stop touch it
};

}  // namespace spillway
