// SPDX-License-Identifier: Apache-2.0
// TaskQueue with real threads: order, bounds, draining, stopping, failing tasks.
#include "core/task_queue.hpp"

#include "core/atomic.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace spillway;

namespace {

std::unique_ptr<TaskQueue> start(const TaskQueueOptions& options) {
  auto queue = TaskQueue::start(options);
  REQUIRE(queue.ok());
  return std::move(queue).value();
}

TaskQueueOptions options_of(std::uint32_t threads, std::size_t capacity) {
  TaskQueueOptions options;
  options.threads = threads;
  options.capacity = capacity;
  return options;
}

/// Holds the workers of a queue until it is opened.
struct Gate {
  Mutex mutex;
  Condition condition;
  bool open = false;
  int inside = 0;

  void pass() {
    UniqueLock lock(mutex);
    ++inside;
    condition.notify_all();
    condition.wait(lock, [this] { return open; });
  }
  void wait_inside(int count) {
    UniqueLock lock(mutex);
    condition.wait(lock, [&] { return inside >= count; });
  }
  void release() {
    const LockGuard lock(mutex);
    open = true;
    condition.notify_all();
  }
};

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("one thread runs tasks in the order of posting") {
    auto queue = start(options_of(1, 0));
    std::vector<int> order;
    for (int i = 0; i < 500; ++i) CHECK(queue->post([&order, i] { order.push_back(i); }).ok());
    CHECK(queue->drain().ok());
    REQUIRE(order.size() == 500);
    bool sorted = true;
    for (int i = 0; i < 500; ++i) sorted &= order[static_cast<std::size_t>(i)] == i;
    CHECK(sorted);
  }

  TEST_CASE("every task runs once, with many posters, many threads and a tight bound") {
    for (const std::size_t capacity : {0u, 1u, 3u}) {
      CAPTURE(capacity);
      auto queue = start(options_of(3, capacity));
      std::vector<std::unique_ptr<Atomic<int>>> runs;
      runs.reserve(2000);
      for (int i = 0; i < 2000; ++i) runs.push_back(std::make_unique<Atomic<int>>(0));
      {
        std::vector<Thread> posters;
        for (std::size_t p = 0; p < 4; ++p) {
          auto thread = Thread::start("poster", [&queue, &runs, p] {
            for (std::size_t i = p; i < runs.size(); i += 4) {
              const Status posted =
                  queue->post([&run = *runs[i]] { run.fetch_add(1, std::memory_order_relaxed); });
              if (!posted.ok()) return;
            }
          });
          REQUIRE(thread.ok());
          posters.push_back(std::move(thread).value());
        }
      }
      CHECK(queue->drain().ok());
      CHECK(queue->waiting_count() == 0);
      int wrong = 0;
      for (const auto& run : runs) wrong += run->load(std::memory_order_relaxed) == 1 ? 0 : 1;
      CHECK(wrong == 0);
    }
  }

  TEST_CASE("a full queue refuses try_post and leaves the task to the caller") {
    auto queue = start(options_of(1, 2));
    Gate gate;
    CHECK(queue->post([&] { gate.pass(); }).ok());
    gate.wait_inside(1);
    int ran = 0;
    Task one([&] { ran += 1; });
    Task two([&] { ran += 10; });
    Task three([&] { ran += 100; });
    CHECK(queue->try_post(one));
    CHECK(queue->try_post(two));
    CHECK(!queue->try_post(three));
    CHECK(static_cast<bool>(three));
    CHECK(queue->waiting_count() == 2);
    gate.release();
    CHECK(queue->drain().ok());
    CHECK(ran == 11);
    three();
    CHECK(ran == 111);
  }

  TEST_CASE("stop runs what waits, then refuses; the destructor does the same") {
    int ran = 0;
    {
      auto queue = start(options_of(1, 0));
      for (int i = 0; i < 100; ++i) CHECK(queue->post([&] { ++ran; }).ok());
      CHECK(queue->stop().ok());
      CHECK(ran == 100);
      const Status refused = queue->post([&] { ++ran; });
      CHECK(refused.code() == Code::kInvalidArgument);
      Task late([&] { ++ran; });
      CHECK(!queue->try_post(late));
      CHECK(queue->stop().ok());
      CHECK(queue->drain().ok());
    }
    CHECK(ran == 100);
    {
      auto queue = start(options_of(2, 0));
      for (int i = 0; i < 10; ++i) CHECK(queue->post([&] {}).ok());
    }
  }

  TEST_CASE("posters blocked on a full queue are let go by stop") {
    auto queue = start(options_of(1, 1));
    Gate gate;
    CHECK(queue->post([&] { gate.pass(); }).ok());
    gate.wait_inside(1);
    CHECK(queue->post([] {}).ok());  // now it is full
    Code code = Code::kOk;
    auto poster = Thread::start("poster", [&] { code = queue->post([] {}).code(); });
    REQUIRE(poster.ok());
    auto stopper = Thread::start("stopper", [&] { CHECK(queue->stop().ok()); });
    REQUIRE(stopper.ok());
    std::move(poster).value().join();  // stopped before, or while it waits
    CHECK(code == Code::kInvalidArgument);
    gate.release();
    std::move(stopper).value().join();
  }

  TEST_CASE("a task may post past the bound of its own queue, but not wait for it") {
    auto queue = start(options_of(1, 1));
    int ran = 0;
    Code drained = Code::kOk;
    Code stopped = Code::kOk;
    CHECK(queue
              ->post([&] {
                for (int i = 0; i < 5; ++i) CHECK(queue->post([&] { ++ran; }).ok());
                drained = queue->drain().code();
                stopped = queue->stop().code();
              })
              .ok());
    CHECK(queue->drain().ok());
    CHECK(ran == 5);
    CHECK(drained == Code::kInvalidArgument);
    CHECK(stopped == Code::kInvalidArgument);
  }

  TEST_CASE("an exception in a task is told as a Status, and the next task runs") {
    std::vector<std::string> told;
    TaskQueueOptions options;
    options.on_error = [](void* user, const Status& status) {
      static_cast<std::vector<std::string>*>(user)->push_back(
          std::string(code_name(status.code())) + ": " + status.message());
    };
    options.user = &told;
    auto queue = start(options);
    bool ran = false;
    CHECK(queue->post([] { throw std::runtime_error("disk on fire"); }).ok());
    CHECK(queue->post([] { throw std::bad_alloc(); }).ok());
    CHECK(queue->post([] { throw 3; }).ok());
    CHECK(queue->post([&] { ran = true; }).ok());
    CHECK(queue->drain().ok());
    CHECK(ran);
    CHECK(queue->failed_count() == 3);
    REQUIRE(told.size() == 3);
    CHECK(told[0] == "internal error: a task failed: disk on fire");
    CHECK(told[1] == "out of memory: a task ran out of memory");
    CHECK(told[2] == "internal error: a task failed with an unknown exception");
  }

  TEST_CASE("a queue without threads is refused") {
    CHECK(TaskQueue::start(options_of(0, 0)).status().code() == Code::kInvalidArgument);
  }
}
