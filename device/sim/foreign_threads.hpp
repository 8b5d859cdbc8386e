// SPDX-License-Identifier: Apache-2.0
// Host threads that a program of the emulated libraries made by itself: which number each has in
// the run, the thread that runs their host callbacks, and how one of them waits for another. They
// run as the machine likes; only their driver calls come one at a time.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>

namespace spillway::sim {

class Engine;

/// All functions: under Engine::foreign_mutex.
class ForeignThreads {
 public:
  /// Numbers begin at 0 again; threads that had one get a new one with their next call.
  void reset();

  /// The number of the calling thread of the operating system. Those of ended threads are given
  /// out again; *fresh says that this call gave it out.
  std::uint32_t current(bool* fresh);

  /// Lets other threads call for a moment, or until callback_ended().
  void let_others_call(Engine& engine);

  /// Wakes the callback thread, and starts it before its first work. False: there is no thread.
  bool wake_callbacks(Engine& engine);
  void callback_ended() { news_.notify_all(); }
  /// Returns when woken; the mutex is free meanwhile.
  void wait_for_callbacks(Engine& engine);

 private:
  struct Seats;
  struct Seat;
  /// Of the calling thread, until it ends.
  static Seat& seat();

  std::shared_ptr<Seats> seats_;
  std::condition_variable news_;
  std::condition_variable callbacks_;
  bool has_callback_thread_ = false;
};

}  // namespace spillway::sim
