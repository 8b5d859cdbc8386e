// SPDX-License-Identifier: Apache-2.0
// SPW_CHECK: programmer errors. A failed check prints the condition and both values to stderr and
// calls the handler (default: abort). The preload door installs a handler that throws to the door,
// so the host program survives.
#pragma once

#include <sstream>
#include <string>

namespace spillway {

/// Called with file, line and text when a check fails; may throw, must not return.
using CheckHandler = void (*)(const char* file, int line, const std::string& text);

/// Installs `handler` for the process and returns the one before it. Null restores the default
/// (abort).
CheckHandler set_check_handler(CheckHandler handler);

[[noreturn]] void check_failed(const char* file, int line, const std::string& text);

template <typename A, typename B>
std::string check_text(const char* condition, const A& a, const B& b) {
  std::ostringstream out;
  out << condition << " (" << a << " vs " << b << ")";
  return out.str();
}

}  // namespace spillway

#define SPW_CHECK(condition)                                                    \
  do {                                                                          \
    if (!(condition)) ::spillway::check_failed(__FILE__, __LINE__, #condition); \
  } while (false)

#define SPW_CHECK_OP(op, a, b)                                                          \
  do {                                                                                  \
    const auto& spw_a = (a);                                                            \
    const auto& spw_b = (b);                                                            \
    if (!(spw_a op spw_b))                                                              \
      ::spillway::check_failed(                                                         \
          __FILE__, __LINE__, ::spillway::check_text(#a " " #op " " #b, spw_a, spw_b)); \
  } while (false)
#define SPW_CHECK_EQ(a, b) SPW_CHECK_OP(==, a, b)
#define SPW_CHECK_LE(a, b) SPW_CHECK_OP(<=, a, b)
#define SPW_CHECK_LT(a, b) SPW_CHECK_OP(<, a, b)
