// SPDX-License-Identifier: Apache-2.0
// How every function of the simulated driver begins.
#pragma once

#include "device/sim/engine.hpp"

#include <cstdint>
#include <mutex>

namespace spillway::sim {

/// Finds the engine, takes its lock where foreign threads call, and runs what every call is subject
/// to (Engine::enter). While it is not ok(), return result().
class Call {
 public:
  explicit Call(Api api, std::uint64_t bytes = 0) : engine_(current_engine()) {
    if (engine_ == nullptr) {
      result_ = cu::Result::kNotInitialized;
      return;
    }
    if (engine_->foreign_threads()) {
      // Of a parent's other threads one may have held the lock when it forked.
      if (in_forked_child()) {
        result_ = cu::Result::kNotInitialized;
        return;
      }
      lock_ = std::unique_lock(engine_->foreign_mutex);
    }
    result_ = engine_->enter(api, bytes);
  }
  ~Call() {
    if (lock_.owns_lock()) engine_->leave();
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  Call(Call&&) = delete;
  Call& operator=(Call&&) = delete;

  [[nodiscard]] bool ok() const { return result_ == cu::Result::kSuccess; }
  [[nodiscard]] cu::Result result() const { return result_; }
  [[nodiscard]] Engine& engine() const { return *engine_; }

 private:
  Engine* engine_;
  cu::Result result_ = cu::Result::kSuccess;
  std::unique_lock<std::mutex> lock_;
};

}  // namespace spillway::sim
