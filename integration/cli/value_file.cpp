// SPDX-License-Identifier: Apache-2.0
// pread in a loop; the size is taken once, and a file that shrinks below it is an error.
#include "integration/cli/value_file.hpp"

#include "integration/report/clean_text.hpp"

#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace spillway::cli {
namespace {

std::string at_offset(const std::string& path, std::uint64_t offset) {
  return clean_text(path) + ": offset " + std::to_string(offset) + ": ";
}

std::string os_error(int number) { return std::generic_category().message(number); }

}  // namespace

ValueFile::ValueFile(int fd, std::string path, std::uint64_t offset, std::uint64_t bytes)
    : fd_(fd), path_(std::move(path)), at_(offset), bytes_(bytes) {}

ValueFile::ValueFile(ValueFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      path_(std::move(other.path_)),
      at_(other.at_),
      bytes_(other.bytes_) {}

ValueFile::~ValueFile() {
  if (fd_ >= 0) ::close(fd_);
}

Result<ValueFile> ValueFile::open(const std::string& path, Dtype dtype, std::uint64_t offset) {
  // A pipe would block in open() until somebody writes.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0)
    return Status(Code::kIo, clean_text(path) + ": expected to open, found " + os_error(errno));
  ValueFile file(fd, path, offset, 0);
  struct stat info {};
  if (::fstat(fd, &info) != 0)
    return Status(Code::kIo, clean_text(path) + ": expected its size, found " + os_error(errno));
  if (!S_ISREG(info.st_mode))
    return Status(Code::kIo,
                  clean_text(path) + ": expected a regular file, found " +
                      (S_ISDIR(info.st_mode) ? "a directory" : "none"));
  const auto size = static_cast<std::uint64_t>(info.st_size);
  if (offset >= size)
    return Status(Code::kBadInput,
                  at_offset(path, offset) + "expected values, found the end of a file of " +
                      std::to_string(size) + " bytes");
  const std::uint64_t value_bytes = dtype_bytes(dtype);
  file.bytes_ = size - offset;
  if (file.bytes_ % value_bytes != 0)
    return Status(Code::kBadInput,
                  at_offset(path, size - file.bytes_ % value_bytes) + "expected a " +
                      std::string(name_of(dtype)) + " of " + std::to_string(value_bytes) +
                      " bytes, found " + std::to_string(file.bytes_ % value_bytes));
  return file;
}

Status ValueFile::read(std::span<std::byte> out) {
  while (!out.empty()) {
    const ssize_t count = ::pread(fd_, out.data(), out.size(), static_cast<off_t>(at_));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0)
      return {Code::kIo,
              at_offset(path_, at_) + "expected " + std::to_string(out.size()) +
                  " more bytes, found " + (count == 0 ? "the end of the file" : os_error(errno))};
    at_ += static_cast<std::uint64_t>(count);
    out = out.subspan(static_cast<std::size_t>(count));
  }
  return {};
}

}  // namespace spillway::cli
