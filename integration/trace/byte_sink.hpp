// SPDX-License-Identifier: Apache-2.0
// Where a writer's bytes go: a file that appears whole or not at all (atomic_file.hpp), or memory.
#pragma once

#include "core/status.hpp"

#include <string>
#include <string_view>

namespace spillway {

class ByteSink {
 public:
  virtual ~ByteSink() = default;
  /// Takes all of `bytes`, in order. After a failure every further call fails.
  virtual Status write(std::string_view bytes) = 0;
};

/// Appends to a string.
class StringSink final : public ByteSink {
 public:
  Status write(std::string_view bytes) override {
    bytes_.append(bytes);
    return {};
  }
  [[nodiscard]] const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

}  // namespace spillway
