// SPDX-License-Identifier: Apache-2.0
#include "device/sim/foreign_threads.hpp"

#include "core/check.hpp"
#include "device/sim/engine.hpp"

#include <chrono>
#include <mutex>
#include <pthread.h>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace spillway::sim {
namespace {

// Host memory that a stream waits for changes without a word to anybody.
constexpr std::chrono::milliseconds kLook{1};

}  // namespace

/// Shared with the threads that sit in it: they may end after the engine.
struct ForeignThreads::Seats {
  std::mutex mutex;
  std::vector<std::uint32_t> free;
  std::uint32_t next = 0;
};

struct ForeignThreads::Seat {
  std::shared_ptr<Seats> seats;
  std::uint32_t number = 0;

  Seat() = default;
  Seat(const Seat&) = delete;
  Seat& operator=(const Seat&) = delete;
  Seat(Seat&&) = delete;
  Seat& operator=(Seat&&) = delete;
  ~Seat() { leave(); }

  void leave() {
    if (seats == nullptr) return;
    {
      const std::lock_guard lock(seats->mutex);
      seats->free.push_back(number);
    }
    seats.reset();
  }

  void enter(const std::shared_ptr<Seats>& wanted) {
    leave();
    seats = wanted;
    const std::lock_guard lock(seats->mutex);
    if (seats->free.empty()) {
      number = seats->next++;
    } else {
      number = seats->free.back();
      seats->free.pop_back();
    }
  }
};

void ForeignThreads::reset() { seats_ = std::make_shared<Seats>(); }

// A pthread key and not a thread_local's destructor: at exit that of the main thread would run
// before the destructors of the program's static objects, which still call with its context.
ForeignThreads::Seat& ForeignThreads::seat() {
  static const pthread_key_t kKey = [] {
    pthread_key_t key{};
    SPW_CHECK_EQ(pthread_key_create(&key, [](void* mine) { delete static_cast<Seat*>(mine); }), 0);
    return key;
  }();
  auto* mine = static_cast<Seat*>(pthread_getspecific(kKey));
  if (mine == nullptr) {
    mine = new Seat;
    pthread_setspecific(kKey, mine);
  }
  return *mine;
}

std::uint32_t ForeignThreads::current(bool* fresh) {
  Seat& mine = seat();
  *fresh = mine.seats != seats_;
  if (*fresh) mine.enter(seats_);
  return mine.number;
}

void ForeignThreads::let_others_call(Engine& engine) {
  std::unique_lock lock(engine.foreign_mutex, std::adopt_lock);
  news_.wait_for(lock, kLook);
  lock.release();  // the caller holds it on
}

bool ForeignThreads::wake_callbacks(Engine& engine) {
  if (!has_callback_thread_) {
    try {
      // It waits for work until the process ends.
      std::thread([&engine] { engine.serve_foreign_callbacks(); }).detach();
    } catch (const std::system_error&) {
      return false;
    }
    has_callback_thread_ = true;
  }
  callbacks_.notify_one();
  return true;
}

void ForeignThreads::wait_for_callbacks(Engine& engine) {
  std::unique_lock lock(engine.foreign_mutex, std::adopt_lock);
  callbacks_.wait(lock);
  lock.release();
}

}  // namespace spillway::sim
