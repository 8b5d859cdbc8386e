// SPDX-License-Identifier: Apache-2.0
#include "device/driver_error.hpp"

#include "core/check.hpp"

#include <string>
#include <string_view>

namespace spillway {
namespace {

Code code_of(cu::Result result) {
  switch (result) {
    case cu::Result::kSuccess:
      return Code::kOk;
    case cu::Result::kOutOfMemory:
      return Code::kOutOfMemory;
    case cu::Result::kNotSupported:
    case cu::Result::kPeerAccessUnsupported:
    case cu::Result::kNoBinaryForGpu:
    case cu::Result::kInvalidPtx:
      return Code::kUnsupported;
    case cu::Result::kNoDevice:
    case cu::Result::kNotFound:
      return Code::kNotFound;
    case cu::Result::kInvalidValue:
    case cu::Result::kInvalidHandle:
    case cu::Result::kInvalidDevice:
      return Code::kInvalidArgument;
    default:
      return Code::kInternal;
  }
}

/// The call as the reader knows it: "driver_->cuMemMap(...)" without what stands before "cu".
std::string_view call_text(std::string_view call) {
  const std::size_t paren = call.find('(');
  const std::size_t dot = call.find_last_of(".>", paren);
  if (dot == std::string_view::npos || paren == std::string_view::npos) return call;
  return call.substr(dot + 1);
}

/// From the repository's root on, whatever folder the build ran in.
std::string_view file_text(std::string_view file) {
  for (const std::string_view folder :
       {"/tests/", "/device/", "/allocator/", "/kernels/", "/offload/", "/integration/"}) {
    const std::size_t at = file.rfind(folder);
    if (at != std::string_view::npos) return file.substr(at + 1);
  }
  return file;
}

std::string failure_text(cu::Result result, const char* call, const char* file, int line) {
  std::string text(call_text(call));
  text += " failed: ";
  text += result_name(result);
  text += " (" + std::to_string(static_cast<int>(result)) + ") at ";
  text += file_text(file);
  text += ":" + std::to_string(line);
  return text;
}

}  // namespace

const char* result_name(cu::Result result) {
  switch (result) {
#define SPW_RESULT_NAME(constant, number, name) \
  case cu::Result::constant:                    \
    return #name;
    SPW_CU_RESULTS(SPW_RESULT_NAME)
#undef SPW_RESULT_NAME
  }
  return "CUDA_ERROR";
}

Status driver_status(cu::Result result, const char* call, const char* file, int line) {
  if (result == cu::Result::kSuccess) return {};
  return {code_of(result), failure_text(result, call, file, line)};
}

void check_ended(cu::Result result, const char* call, const char* file, int line) {
  if (result == cu::Result::kSuccess || is_gone(result) || cu::is_sticky(result)) return;
  check_failed(file, line, failure_text(result, call, file, line));
}

}  // namespace spillway
