// SPDX-License-Identifier: Apache-2.0
#include "allocator/parallel_chunks.hpp"

#include "core/condition.hpp"
#include "core/mutex.hpp"

#include <memory>
#include <utility>

namespace spillway {
namespace {

/// Outlives the call for helpers that come late; they find nothing left and touch nothing else.
struct Job {
  Mutex mutex{"parallel chunks"};
  Condition is_idle;
  const std::function<Status(std::size_t)>* work SPW_GUARDED_BY(mutex) = nullptr;
  std::size_t next SPW_GUARDED_BY(mutex) = 0;
  std::size_t count SPW_GUARDED_BY(mutex) = 0;
  std::uint32_t running SPW_GUARDED_BY(mutex) = 0;
  Status failure SPW_GUARDED_BY(mutex);
};

void work_off(Job& job) {
  for (;;) {
    const std::function<Status(std::size_t)>* work = nullptr;
    std::size_t chunk = 0;
    {
      const LockGuard lock(job.mutex);
      if (job.next >= job.count) return;
      chunk = job.next++;
      work = job.work;
      ++job.running;
    }
    Status status = (*work)(chunk);
    const LockGuard lock(job.mutex);
    if (!status.ok()) {
      if (job.failure.ok()) job.failure = std::move(status);
      job.next = job.count;
    }
    if (--job.running == 0) job.is_idle.notify_all();
  }
}

}  // namespace

Status parallel_chunks(TaskQueue* queue,
                       std::uint32_t helpers,
                       std::size_t count,
                       const std::function<Status(std::size_t)>& work) {
  auto job = std::make_shared<Job>();
  {
    const LockGuard lock(job->mutex);
    job->work = &work;
    job->count = count;
  }
  for (std::uint32_t i = 0; queue != nullptr && i < helpers && i + 1 < count; ++i) {
    Task help([job] { work_off(*job); });
    if (!queue->try_post(help)) break;
  }
  work_off(*job);
  UniqueLock lock(job->mutex);
  job->is_idle.wait(lock, [&]() SPW_NO_THREAD_SAFETY { return job->running == 0; });
  return std::move(job->failure);
}

}  // namespace spillway
