// SPDX-License-Identifier: Apache-2.0
// ThreadSanitizer does not see the hand-overs inside oneTBB's library, which is not built with it,
// and would report each as a race; under it, threads of our own take the tasks, so that the tasks
// themselves are checked.
#include "allocator/packing_threads.hpp"

#include <oneapi/tbb/info.h>

#include <algorithm>

#if defined(__SANITIZE_THREAD__)
#define SPW_PACKING_OWN_THREADS 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SPW_PACKING_OWN_THREADS 1
#endif
#endif

#ifdef SPW_PACKING_OWN_THREADS
#include "core/atomic.hpp"
#include "core/thread.hpp"

#include <utility>
#include <vector>
#else
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/partitioner.h>
#include <oneapi/tbb/task_arena.h>
#endif

namespace spillway {

#ifdef SPW_PACKING_OWN_THREADS

struct PackingThreads::Arena {
  explicit Arena(unsigned count) : thread_count(count) {}

  void run(int count, const std::function<void(int)>& body) const {
    Atomic<int> next{0};
    const auto work = [&next, &body, count] {
      for (;;) {
        const int task = next.fetch_add(1, std::memory_order_relaxed);
        if (task >= count) return;
        body(task);
      }
    };
    std::vector<Thread> threads;
    for (unsigned i = 1; i < thread_count; ++i) {
      Result<Thread> thread = Thread::start("packing", work);
      if (thread.ok()) threads.push_back(std::move(thread).value());
    }
    work();
  }

  unsigned thread_count;
};

#else

struct PackingThreads::Arena {
  explicit Arena(unsigned count) : arena(static_cast<int>(count)) {}

  void run(int count, const std::function<void(int)>& body) {
    arena.execute([&] { tbb::parallel_for(0, count, body, tbb::simple_partitioner()); });
  }

  tbb::task_arena arena;
};

#endif

PackingThreads::PackingThreads(unsigned thread_count) : thread_count_(thread_count) {
  const auto cores = static_cast<unsigned>(tbb::info::default_concurrency());
  if (thread_count_ == 0 || thread_count_ > cores) thread_count_ = cores;
  if (thread_count_ > 1) arena_ = std::make_unique<Arena>(thread_count_);
}

PackingThreads::~PackingThreads() = default;

void PackingThreads::run(int count, const std::function<void(int)>& body) {
  if (arena_) {
    arena_->run(count, body);
    return;
  }
  for (int i = 0; i < count; ++i) body(i);
}

}  // namespace spillway
