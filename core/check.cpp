// SPDX-License-Identifier: Apache-2.0
// The one place where a failed check ends the process, unless a handler was installed.
#include "core/check.hpp"

#include <atomic>
#include <cstdio>
#include <cstdlib>

namespace spillway {
namespace {
std::atomic<CheckHandler> g_handler{nullptr};
}  // namespace

CheckHandler set_check_handler(CheckHandler handler) { return g_handler.exchange(handler); }

void check_failed(const char* file, int line, const std::string& text) {
  if (CheckHandler handler = g_handler.load()) handler(file, line, text);
  std::fprintf(stderr, "spillway: check failed at %s:%d: %s\n", file, line, text.c_str());
  std::abort();
}

}  // namespace spillway
