// SPDX-License-Identifier: Apache-2.0
// The forms that other profilers' users know.
#include "integration/cli/output_name.hpp"

#include <array>
#include <cstdlib>
#include <unistd.h>

namespace spillway::cli {

Result<std::string> expand_output_name(std::string_view pattern) {
  std::string name;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '%') {
      name += pattern[i];
      continue;
    }
    const char form = i + 1 < pattern.size() ? pattern[i + 1] : '\0';
    if (form == '%') {
      name += '%';
      ++i;
    } else if (form == 'p') {
      name += std::to_string(::getpid());
      ++i;
    } else if (form == 'h') {
      std::array<char, 256> host{};
      if (::gethostname(host.data(), host.size() - 1) != 0)
        return Status(Code::kIo, "cannot read the host name for %h");
      name += host.data();
      ++i;
    } else if (form == 'q' && i + 2 < pattern.size() && pattern[i + 2] == '{') {
      const std::size_t end = pattern.find('}', i);
      if (end == std::string_view::npos)
        return Status(Code::kInvalidArgument,
                      "expected %q{VAR}, found '" + std::string(pattern) + "'");
      const std::string variable(pattern.substr(i + 3, end - i - 3));
      const char* value = std::getenv(variable.c_str());
      if (value == nullptr)
        return Status(Code::kInvalidArgument, "%q{" + variable + "}: the variable is not set");
      name += value;
      i = end;
    } else {
      return Status(Code::kInvalidArgument,
                    "expected %p, %h, %q{VAR} or %% in '" + std::string(pattern) + "'");
    }
  }
  return name;
}

}  // namespace spillway::cli
