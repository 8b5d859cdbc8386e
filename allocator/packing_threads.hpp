// SPDX-License-Identifier: Apache-2.0
// Threads for packing: independent tasks by number, on oneTBB.
#pragma once

#include <functional>
#include <memory>

namespace spillway {

class PackingThreads {
 public:
  /// 0, or more than there are cores: as many as there are cores.
  explicit PackingThreads(unsigned thread_count);
  PackingThreads(const PackingThreads&) = delete;
  PackingThreads& operator=(const PackingThreads&) = delete;
  PackingThreads(PackingThreads&&) = delete;
  PackingThreads& operator=(PackingThreads&&) = delete;
  ~PackingThreads();

  /// Runs body(0) .. body(count - 1), perhaps at once; returns when all have returned. An exception
  /// of a task comes out of here.
  void run(int count, const std::function<void(int)>& body);

 private:
  struct Arena;
  unsigned thread_count_;
  std::unique_ptr<Arena> arena_;  // null: the caller's thread does it all
};

}  // namespace spillway
