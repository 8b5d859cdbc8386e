// SPDX-License-Identifier: Apache-2.0
// The pool's critical section, for its own source files: the lock, and the odd version that tells
// readers without it to look again.
#pragma once

#include "allocator/device_pool.hpp"

namespace spillway {

class SPW_SCOPED_CAPABILITY DevicePool::Section {
 public:
  explicit Section(const DevicePool& pool) SPW_ACQUIRE(pool.mutex_) : pool_(pool) {
    pool_.mutex_.lock();
    pool_.changes_.begin_write();
  }
  Section(const Section&) = delete;
  Section& operator=(const Section&) = delete;
  Section(Section&&) = delete;
  Section& operator=(Section&&) = delete;
  ~Section() SPW_RELEASE() {
    pool_.changes_.end_write();
    pool_.mutex_.unlock();
  }

 private:
  const DevicePool& pool_;
};

}  // namespace spillway
