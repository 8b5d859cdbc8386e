// SPDX-License-Identifier: Apache-2.0
// The queue's monitor and its workers.
#include "core/task_queue.hpp"

#include "core/check.hpp"

#include <exception>
#include <new>
#include <string>
#include <utility>

namespace spillway {
namespace {

// The queue whose task the calling thread is running: waiting for that queue could never end.
constinit thread_local TaskQueue* t_own_queue = nullptr;

class OwnQueueScope {
 public:
  explicit OwnQueueScope(TaskQueue* queue) : before_(t_own_queue) { t_own_queue = queue; }
  OwnQueueScope(const OwnQueueScope&) = delete;
  OwnQueueScope& operator=(const OwnQueueScope&) = delete;
  OwnQueueScope(OwnQueueScope&&) = delete;
  OwnQueueScope& operator=(OwnQueueScope&&) = delete;
  ~OwnQueueScope() { t_own_queue = before_; }

 private:
  TaskQueue* before_;
};

Status inside_own_task(const char* call) {
  return {Code::kInvalidArgument, std::string(call) + " inside a task of the same queue"};
}

}  // namespace

TaskQueue::TaskQueue(const TaskQueueOptions& options) : options_(options), mutex_(options.name) {}

Result<std::unique_ptr<TaskQueue>> TaskQueue::start(const TaskQueueOptions& options) {
  if (options.threads == 0)
    return Status(Code::kInvalidArgument, "a task queue needs at least one thread");
  std::unique_ptr<TaskQueue> queue(new TaskQueue(options));
  SPW_RETURN_IF_ERROR(queue->start_threads());
  return queue;
}

Status TaskQueue::start_threads() {
  threads_.reserve(options_.threads);
  for (std::uint32_t i = 0; i < options_.threads; ++i) {
    SPW_ASSIGN_OR_RETURN(Thread thread, Thread::start(options_.name, [this] { work(); }));
    threads_.push_back(std::move(thread));
  }
  return {};
}

TaskQueue::~TaskQueue() {
  const NoAbandonScope no_abandon;
  const Status status = stop();
  SPW_CHECK(status.ok());  // destroyed by one of its own tasks
}

bool TaskQueue::full() const {
  return options_.capacity != 0 && waiting_.size() >= options_.capacity && t_own_queue != this;
}

Status TaskQueue::post(Task task) {
  {
    UniqueLock lock(mutex_);
    has_room_.wait(lock, [this]() SPW_NO_THREAD_SAFETY { return stopping_ || !full(); });
    if (stopping_) return {Code::kInvalidArgument, "the task queue is stopped"};
    waiting_.push_back(std::move(task));
  }
  has_work_.notify_one();
  return {};
}

bool TaskQueue::try_post(Task& task) {
  {
    const LockGuard lock(mutex_);
    if (stopping_ || full()) return false;
    waiting_.push_back(std::move(task));
  }
  has_work_.notify_one();
  return true;
}

Status TaskQueue::drain() {
  if (t_own_queue == this) return inside_own_task("drain");
  UniqueLock lock(mutex_);
  is_idle_.wait(lock,
                [this]() SPW_NO_THREAD_SAFETY { return waiting_.empty() && running_count_ == 0; });
  return {};
}

Status TaskQueue::stop() {
  if (t_own_queue == this) return inside_own_task("stop");
  {
    UniqueLock lock(mutex_);
    if (stopping_) {
      is_idle_.wait(lock, [this]() SPW_NO_THREAD_SAFETY { return ended_; });
      return {};
    }
    stopping_ = true;
  }
  has_work_.notify_all();
  has_room_.notify_all();
  for (Thread& thread : threads_) thread.join();
  threads_.clear();
  const LockGuard lock(mutex_);
  ended_ = true;
  is_idle_.notify_all();  // under the lock: who wakes up may destroy the queue
  return {};
}

std::size_t TaskQueue::waiting_count() {
  const LockGuard lock(mutex_);
  return waiting_.size();
}

std::uint64_t TaskQueue::failed_count() {
  const LockGuard lock(mutex_);
  return failed_count_;
}

void TaskQueue::work() {
  for (;;) {
    Task task;
    {
      UniqueLock lock(mutex_);
      has_work_.wait(lock,
                     [this]() SPW_NO_THREAD_SAFETY { return stopping_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      task = std::move(waiting_.front());
      waiting_.pop_front();
      ++running_count_;
    }
    if (options_.capacity != 0) has_room_.notify_one();
    run(task);
    bool idle = false;
    {
      const LockGuard lock(mutex_);
      --running_count_;
      idle = waiting_.empty() && running_count_ == 0;
    }
    if (idle) is_idle_.notify_all();
  }
}

void TaskQueue::run(Task& task) {
  const OwnQueueScope own(this);
  Status status;
  try {
    task();
    task.reset();  // what it owns ends before it counts as done
    return;
  } catch (const ThreadsAbandoned&) {
    throw;
  } catch (const std::bad_alloc&) {
    status = Status(Code::kOutOfMemory, "a task ran out of memory");
  } catch (const std::exception& error) {
    status = Status(Code::kInternal, std::string("a task failed: ") + error.what());
  } catch (...) {
    status = Status(Code::kInternal, "a task failed with an unknown exception");
  }
  {
    const LockGuard lock(mutex_);
    ++failed_count_;
  }
  if (options_.on_error != nullptr) options_.on_error(options_.user, status);
}

}  // namespace spillway
