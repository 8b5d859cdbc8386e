// SPDX-License-Identifier: Apache-2.0
// Names of the status codes, and the text of an ok Status.
#include "core/status.hpp"

namespace spillway {

std::string_view code_name(Code code) {
  switch (code) {
    case Code::kOk:
      return "ok";
    case Code::kInvalidArgument:
      return "invalid argument";
    case Code::kBadInput:
      return "bad input";
    case Code::kNotFound:
      return "not found";
    case Code::kIo:
      return "i/o error";
    case Code::kInfeasible:
      return "infeasible";
    case Code::kGaveUp:
      return "gave up";
    case Code::kOutOfMemory:
      return "out of memory";
    case Code::kUnsupported:
      return "unsupported";
    case Code::kInternal:
      return "internal error";
  }
  return "unknown";
}

const std::string& Status::no_message() {
  static const std::string none;
  return none;
}

}  // namespace spillway
