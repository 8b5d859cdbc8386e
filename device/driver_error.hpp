// SPDX-License-Identifier: Apache-2.0
// A driver call that failed, as a Status with call, code name and place; and the rule for
// destructors, in which a driver that is already gone is no failure.
#pragma once

#include "core/status.hpp"
#include "device/driver.hpp"

namespace spillway {

/// "cuMemCreate(&handle, ...) failed: CUDA_ERROR_OUT_OF_MEMORY (2) at device/mapping.cpp:41".
/// Out of memory becomes kOutOfMemory, unsupported things kUnsupported, no device kNotFound, a
/// wrong argument or handle kInvalidArgument, all else kInternal. Ok for kSuccess.
Status driver_status(cu::Result result, const char* call, const char* file, int line);

/// Name of a code as cuda.h spells it; "CUDA_ERROR" for a number that is not in the table of codes.
const char* result_name(cu::Result result);

/// True when the driver answers so because it, or the context the object lived in, is gone (or this
/// is the child of a fork): then the object is gone too, and its owner has nothing left to do.
constexpr bool is_gone(cu::Result result) {
  return result == cu::Result::kDeinitialized || result == cu::Result::kContextIsDestroyed ||
         result == cu::Result::kNotInitialized;
}

/// For destructors, which can tell nobody: ends an object and passes success, "is gone" and every
/// sticky error of earlier work, after which nothing can be ended any more. Anything else is a
/// programmer error (SPW_CHECK): the handle was not ours to end.
void check_ended(cu::Result result, const char* call, const char* file, int line);

}  // namespace spillway

/// Returns from the enclosing function (which returns Status or Result) when the driver call fails.
#define SPW_CU_TRY(call)                                                          \
  do {                                                                            \
    const ::spillway::cu::Result spw_cu_result = (call);                          \
    if (spw_cu_result != ::spillway::cu::Result::kSuccess)                        \
      return ::spillway::driver_status(spw_cu_result, #call, __FILE__, __LINE__); \
  } while (false)

#define SPW_CU_END(call) ::spillway::check_ended((call), #call, __FILE__, __LINE__)
