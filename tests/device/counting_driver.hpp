// SPDX-License-Identifier: Apache-2.0
// A driver table that keeps a journal of the calls it gets and a list of the objects that are
// alive, and answers as told. For tests of the owning handles: what they call, in which order, and
// that they call nothing else - no hidden synchronisation. It simulates nothing.
#pragma once

#include "device/driver.hpp"

#include <map>
#include <string>
#include <vector>

namespace spillway::test {

/// Process-wide state, because table members are plain functions: one CountingDriver at a time.
class CountingDriver {
 public:
  CountingDriver();
  ~CountingDriver();
  CountingDriver(const CountingDriver&) = delete;
  CountingDriver& operator=(const CountingDriver&) = delete;
  CountingDriver(CountingDriver&&) = delete;
  CountingDriver& operator=(CountingDriver&&) = delete;

  Driver table;

  /// Names of the calls so far, in order; cleared by reading.
  std::vector<std::string> take_journal();
  /// Objects created and not ended.
  [[nodiscard]] int live_count() const;

  /// The next calls of this name answer so, until told otherwise.
  void answer(const std::string& name, cu::Result result);
  /// What cuStreamGetCaptureInfo says.
  void set_capture(cu::StreamCaptureStatus status, unsigned long long id);
  /// What cuCtxGetCurrent says.
  void set_current(cu::Context context);
  /// The bytes of the first argument of the last launch, as a number.
  [[nodiscard]] unsigned long long last_argument() const;
};

}  // namespace spillway::test
