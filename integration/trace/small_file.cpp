// SPDX-License-Identifier: Apache-2.0
// Through the same byte source as traces, so directories and missing files give the same errors.
#include "integration/trace/small_file.hpp"

#include "integration/trace/byte_source.hpp"

namespace spillway {

Result<std::string> read_small_file(const std::string& path, std::size_t max_bytes) {
  SPW_ASSIGN_OR_RETURN(const auto source, open_file_source(path));
  std::string text;
  std::string part(64 * 1024, '\0');
  for (;;) {
    SPW_ASSIGN_OR_RETURN(const std::size_t got, source->read(part.data(), part.size()));
    if (got == 0) return text;
    text.append(part, 0, got);
    if (text.size() > max_bytes)
      return Status(Code::kBadInput,
                    path + ": offset " + std::to_string(max_bytes) + ": expected at most " +
                        std::to_string(max_bytes) + " bytes");
  }
}

}  // namespace spillway
