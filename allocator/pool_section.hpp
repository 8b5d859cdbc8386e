// SPDX-License-Identifier: Apache-2.0
// The pool's critical sections, for its own source files.
#pragma once

#include "allocator/device_pool.hpp"

#include <utility>

namespace spillway {

/// Finds free memory as it is: blocks that are kept whole stay so. For who looks for none.
class SPW_SCOPED_CAPABILITY DevicePool::QuickSection {
 public:
  explicit QuickSection(const DevicePool& pool) SPW_ACQUIRE(pool.mutex_) : pool_(pool) {
    pool_.mutex_.lock();
  }
  QuickSection(const QuickSection&) = delete;
  QuickSection& operator=(const QuickSection&) = delete;
  QuickSection(QuickSection&&) = delete;
  QuickSection& operator=(QuickSection&&) = delete;
  ~QuickSection() SPW_RELEASE() { pool_.mutex_.unlock(); }

 private:
  const DevicePool& pool_;
};

/// In a pool that may be changed, all free memory is merged on entry, so that nobody but the hot
/// path knows of kept blocks. Observers of a const pool see them and count them as free.
class SPW_SCOPED_CAPABILITY DevicePool::Section {
 public:
  explicit Section(DevicePool& pool) SPW_ACQUIRE(pool.mutex_) : Section(std::as_const(pool)) {
    pool.merge_kept();
  }
  explicit Section(const DevicePool& pool) SPW_ACQUIRE(pool.mutex_) : pool_(pool) {
    pool_.mutex_.lock();
  }
  Section(const Section&) = delete;
  Section& operator=(const Section&) = delete;
  Section(Section&&) = delete;
  Section& operator=(Section&&) = delete;
  ~Section() SPW_RELEASE() { pool_.mutex_.unlock(); }

 private:
  const DevicePool& pool_;
};

}  // namespace spillway
