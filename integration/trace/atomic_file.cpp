// SPDX-License-Identifier: Apache-2.0
// Temporary file, fsync, rename; and the direct way for what cannot be replaced.
#include "integration/trace/atomic_file.hpp"

#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <fcntl.h>
#include <memory>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace spillway {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{256} * 1024;
constexpr mode_t kPermissionBits = 07777;

Status io_error(const std::string& path, std::string_view doing, int error) {
  return {Code::kIo,
          path + ": cannot " + std::string(doing) + ": " + std::generic_category().message(error)};
}

/// The descriptor that a path like /dev/stdout or /dev/fd/3 names, else -1. Opening such a path
/// anew would write a redirected file from its beginning again, over what was written before.
int named_descriptor(std::string_view path) {
  if (path == "/dev/stdout") return STDOUT_FILENO;
  if (path == "/dev/stderr") return STDERR_FILENO;
  for (const std::string_view prefix : {"/dev/fd/", "/proc/self/fd/"}) {
    if (path.substr(0, prefix.size()) != prefix) continue;
    int number = -1;
    const char* end = path.data() + path.size();
    const auto parsed = std::from_chars(path.data() + prefix.size(), end, number);
    if (parsed.ec == std::errc() && parsed.ptr == end && number >= 0) return number;
  }
  return -1;
}

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string follow_links(const std::string& path) {
  const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr),
                                                         &std::free);
  return real ? std::string(real.get()) : path;
}

/// Opens a fresh file in the folder of `target`; returns its descriptor, or -1 with errno set.
int open_temporary(const std::string& target, std::string* name) {
  static std::atomic<unsigned> counter{0};
  constexpr int kTries = 100;
  for (int i = 0; i < kTries; ++i) {
    *name = folder_of(target) + "/.spillway-" + std::to_string(::getpid()) + "-" +
            std::to_string(counter.fetch_add(1)) + ".tmp";
    const int descriptor = ::open(name->c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor >= 0 || errno != EEXIST) return descriptor;
  }
  return -1;
}

}  // namespace

Result<AtomicFile> AtomicFile::create(const std::string& path) {
  AtomicFile file;
  file.path_ = path;
  if (path.empty()) return Status(Code::kIo, "cannot write a file with an empty name");
  if (const int number = named_descriptor(path); number >= 0) {
    file.descriptor_ = ::fcntl(number, F_DUPFD_CLOEXEC, 0);
    if (file.descriptor_ < 0) return io_error(path, "open", errno);
    return file;
  }
  file.target_ = follow_links(path);
  struct stat info {};
  const bool exists = ::stat(file.target_.c_str(), &info) == 0;
  if (exists && S_ISDIR(info.st_mode)) return io_error(path, "write", EISDIR);
  if (exists && !S_ISREG(info.st_mode)) {
    file.descriptor_ = ::open(file.target_.c_str(), O_WRONLY | O_CLOEXEC);
    if (file.descriptor_ < 0) return io_error(path, "open", errno);
    return file;
  }
  // Replacing needs no permission on the file itself; a file that was made read-only is left alone.
  if (exists && ::access(file.target_.c_str(), W_OK) != 0) return io_error(path, "write", errno);
  file.descriptor_ = open_temporary(file.target_, &file.temporary_);
  if (file.descriptor_ < 0) {
    const int error = errno;
    file.temporary_.clear();
    return io_error(path, "create a file in its folder", error);
  }
  if (exists && ::fchmod(file.descriptor_, info.st_mode & kPermissionBits) != 0)
    return file.fail("set its permissions", errno);
  return file;
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept { *this = std::move(other); }

AtomicFile& AtomicFile::operator=(AtomicFile&& other) noexcept {
  if (this == &other) return *this;
  discard();
  path_ = std::move(other.path_);
  target_ = std::move(other.target_);
  temporary_ = std::exchange(other.temporary_, {});
  descriptor_ = std::exchange(other.descriptor_, -1);
  buffer_ = std::move(other.buffer_);
  written_bytes_ = other.written_bytes_;
  failed_ = std::move(other.failed_);
  return *this;
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::discard() {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  temporary_.clear();
}

Status AtomicFile::fail(std::string_view doing, int error) {
  failed_ = io_error(path_, doing, error);
  discard();
  return failed_;
}

Status AtomicFile::write(std::string_view bytes) {
  if (!failed_.ok()) return failed_;
  if (descriptor_ < 0) return {Code::kInternal, path_ + ": written to after commit"};
  if (buffer_.size() + bytes.size() > kBufferBytes) SPW_RETURN_IF_ERROR(flush());
  buffer_.append(bytes);
  if (buffer_.size() >= kBufferBytes) return flush();
  return {};
}

Status AtomicFile::flush() {
  std::string_view rest = buffer_;
  while (!rest.empty()) {
    const ssize_t done = ::write(descriptor_, rest.data(), rest.size());
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return fail("write", done < 0 ? errno : EIO);
    rest.remove_prefix(static_cast<std::size_t>(done));
    written_bytes_ += static_cast<std::uint64_t>(done);
  }
  buffer_.clear();
  return {};
}

Status AtomicFile::commit() {
  if (!failed_.ok()) return failed_;
  if (descriptor_ < 0) return {Code::kInternal, path_ + ": committed twice"};
  SPW_RETURN_IF_ERROR(flush());
  const bool direct = temporary_.empty();
  if (!direct && ::fsync(descriptor_) != 0) return fail("write", errno);
  // Some file systems report a full disk only here.
  if (::close(std::exchange(descriptor_, -1)) != 0) return fail("write", errno);
  if (direct) return {};
  if (::rename(temporary_.c_str(), target_.c_str()) != 0)
    return fail("put the new file in place", errno);
  temporary_.clear();
  // Makes the rename itself last through a power loss. The file is complete and in place either
  // way, so a file system that cannot do it is no error.
  const int folder = ::open(folder_of(target_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) {
    static_cast<void>(::fsync(folder));
    ::close(folder);
  }
  return {};
}

Status write_file(const std::string& path, std::string_view bytes) {
  SPW_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(path));
  SPW_RETURN_IF_ERROR(file.write(bytes));
  return file.commit();
}

}  // namespace spillway
