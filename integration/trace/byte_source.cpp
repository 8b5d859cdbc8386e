// SPDX-License-Identifier: Apache-2.0
// Files, memory and gzip as byte sources, and the window that readers look through. Nothing is
// buffered beyond the window: a gzip stream that unpacks to far more than its size costs time, not
// memory. Several gzip members in a row read as one.
#include "integration/trace/byte_source.hpp"

#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>
#include <vector>

namespace spillway {
namespace {

constexpr std::size_t kPackedWindowBytes = 64 * 1024;
constexpr std::size_t kPeekMaxBytes = 64 * 1024 * 1024;

std::string os_error(int number) { return std::generic_category().message(number); }

class MemorySource final : public ByteSource {
 public:
  MemorySource(std::string_view bytes, std::string name) : bytes_(bytes), name_(std::move(name)) {}

  Result<std::size_t> read(char* data, std::size_t bytes) override {
    const std::size_t count = std::min(bytes, bytes_.size() - consumed_);
    if (count != 0) std::memcpy(data, bytes_.data() + consumed_, count);
    consumed_ += count;
    return count;
  }
  const std::string& name() const override { return name_; }
  std::uint64_t consumed_bytes() const override { return consumed_; }
  std::uint64_t total_bytes() const override { return bytes_.size(); }

 private:
  std::string_view bytes_;
  std::string name_;
  std::size_t consumed_ = 0;  // consumed_ <= bytes_.size()
};

class FileSource final : public ByteSource {
 public:
  FileSource(int fd, std::string name, std::uint64_t total_bytes)
      : fd_(fd), name_(std::move(name)), total_bytes_(total_bytes) {}
  FileSource(const FileSource&) = delete;
  FileSource& operator=(const FileSource&) = delete;
  FileSource(FileSource&&) = delete;
  FileSource& operator=(FileSource&&) = delete;
  ~FileSource() override { ::close(fd_); }

  Result<std::size_t> read(char* data, std::size_t bytes) override {
    for (;;) {
      const ssize_t count = ::read(fd_, data, bytes);
      if (count >= 0) {
        consumed_ += static_cast<std::uint64_t>(count);
        return static_cast<std::size_t>(count);
      }
      const int error = errno;
      if (error == EINTR) continue;
      return Status(Code::kIo,
                    name_ + ": offset " + std::to_string(consumed_) + ": expected to read, found " +
                        os_error(error));
    }
  }
  const std::string& name() const override { return name_; }
  std::uint64_t consumed_bytes() const override { return consumed_; }
  std::uint64_t total_bytes() const override { return total_bytes_; }

 private:
  int fd_;
  std::string name_;
  std::uint64_t total_bytes_;
  std::uint64_t consumed_ = 0;
};

/// Unpacks when the first bytes say gzip, and passes everything through otherwise.
class UnpackingSource final : public ByteSource {
 public:
  explicit UnpackingSource(std::unique_ptr<ByteSource> inner)
      : inner_(std::move(inner)), packed_(kPackedWindowBytes) {}
  UnpackingSource(const UnpackingSource&) = delete;
  UnpackingSource& operator=(const UnpackingSource&) = delete;
  UnpackingSource(UnpackingSource&&) = delete;
  UnpackingSource& operator=(UnpackingSource&&) = delete;
  ~UnpackingSource() override {
    if (state_ == State::kGzip) inflateEnd(&stream_);
  }

  Result<std::size_t> read(char* data, std::size_t bytes) override {
    if (bytes == 0) return std::size_t{0};
    if (state_ == State::kUnknown) SPW_RETURN_IF_ERROR(detect());
    return state_ == State::kPlain ? read_plain(data, bytes) : read_gzip(data, bytes);
  }
  const std::string& name() const override { return inner_->name(); }
  std::uint64_t consumed_bytes() const override { return inner_->consumed_bytes(); }
  std::uint64_t total_bytes() const override { return inner_->total_bytes(); }

 private:
  enum class State : std::uint8_t { kUnknown, kPlain, kGzip };

  bool looks_like_member() const {
    const auto byte = [this](std::size_t i) {
      return static_cast<unsigned char>(packed_[begin_ + i]);
    };
    return end_ - begin_ >= 3 && byte(0) == 0x1f && byte(1) == 0x8b && byte(2) == 8;
  }

  /// Until `bytes` packed bytes are in the window, or the input ends.
  Status refill(std::size_t bytes) {
    if (begin_ != 0) {
      std::memmove(packed_.data(), packed_.data() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    while (end_ < bytes && !inner_ended_) {
      SPW_ASSIGN_OR_RETURN(const std::size_t count,
                           inner_->read(packed_.data() + end_, packed_.size() - end_));
      if (count == 0) inner_ended_ = true;
      end_ += count;
    }
    return {};
  }

  Status detect() {
    SPW_RETURN_IF_ERROR(refill(3));
    if (!looks_like_member()) {
      state_ = State::kPlain;
      return {};
    }
    // 16 + 15: a gzip header and the largest window.
    if (inflateInit2(&stream_, 16 + MAX_WBITS) != Z_OK)
      return {Code::kOutOfMemory, name() + ": cannot set up zlib"};
    state_ = State::kGzip;
    return {};
  }

  Result<std::size_t> read_plain(char* data, std::size_t bytes) {
    if (begin_ == end_) return inner_->read(data, bytes);
    const std::size_t count = std::min(bytes, end_ - begin_);
    std::memcpy(data, packed_.data() + begin_, count);
    begin_ += count;
    return count;
  }

  Status damaged(const std::string& what) const {
    return {Code::kBadInput, name() + ": offset " + std::to_string(unpacked_bytes_) + ": " + what};
  }

  Result<std::size_t> read_gzip(char* data, std::size_t bytes) {
    const std::size_t wanted = std::min<std::size_t>(bytes, 1u << 30);
    stream_.next_out = reinterpret_cast<Bytef*>(data);
    stream_.avail_out = static_cast<uInt>(wanted);
    while (!ended_ && stream_.avail_out == wanted) {
      if (begin_ == end_) SPW_RETURN_IF_ERROR(refill(1));
      if (begin_ == end_)
        return damaged("expected more of the gzip stream, found the end of the file");
      stream_.next_in = reinterpret_cast<Bytef*>(packed_.data() + begin_);
      stream_.avail_in = static_cast<uInt>(end_ - begin_);
      const int code = inflate(&stream_, Z_NO_FLUSH);
      begin_ = end_ - stream_.avail_in;
      if (code == Z_STREAM_END) {
        SPW_RETURN_IF_ERROR(next_member());
      } else if (code != Z_OK && code != Z_BUF_ERROR) {
        unpacked_bytes_ += wanted - stream_.avail_out;
        return damaged(std::string("expected an intact gzip stream, found ") +
                       (stream_.msg ? stream_.msg : "damage"));
      }
    }
    const std::size_t count = wanted - stream_.avail_out;
    unpacked_bytes_ += count;
    return count;
  }

  /// After one member: another one, padding with zeros (tapes and `dd` leave it) or the end.
  Status next_member() {
    for (;;) {
      SPW_RETURN_IF_ERROR(refill(3));
      if (begin_ == end_) {
        ended_ = true;
        return {};
      }
      if (looks_like_member()) {
        if (inflateReset(&stream_) != Z_OK)
          return {Code::kInternal, name() + ": zlib does not reset"};
        return {};
      }
      if (packed_[begin_] != '\0')
        return damaged("expected another gzip member or the end of the file, found other bytes");
      ++begin_;
      while (begin_ != end_ && packed_[begin_] == '\0') ++begin_;
    }
  }

  std::unique_ptr<ByteSource> inner_;
  std::vector<char> packed_;
  std::size_t begin_ = 0;  // begin_ <= end_ <= packed_.size()
  std::size_t end_ = 0;
  bool inner_ended_ = false;
  bool ended_ = false;
  State state_ = State::kUnknown;
  z_stream stream_{};
  std::uint64_t unpacked_bytes_ = 0;
};

}  // namespace

Result<std::unique_ptr<ByteSource>> open_file_source(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    const int error = errno;
    return Status(Code::kIo, path + ": cannot be opened: " + os_error(error));
  }
  struct stat info {};
  if (::fstat(fd, &info) != 0) {
    const int error = errno;
    ::close(fd);
    return Status(Code::kIo, path + ": cannot be opened: " + os_error(error));
  }
  // A pipe serves `spillway replay <(produce)`; it has no size.
  if (!S_ISREG(info.st_mode) && !S_ISFIFO(info.st_mode)) {
    ::close(fd);
    return Status(Code::kIo,
                  path + ": expected a file, found " +
                      (S_ISDIR(info.st_mode) ? "a directory" : "something else"));
  }
  const std::uint64_t total_bytes =
      S_ISREG(info.st_mode) ? static_cast<std::uint64_t>(info.st_size) : 0;
  std::unique_ptr<ByteSource> file = std::make_unique<FileSource>(fd, path, total_bytes);
  return std::unique_ptr<ByteSource>(std::make_unique<UnpackingSource>(std::move(file)));
}

std::unique_ptr<ByteSource> memory_source(std::string_view bytes, std::string name) {
  return std::make_unique<UnpackingSource>(std::make_unique<MemorySource>(bytes, std::move(name)));
}

BufferedInput::BufferedInput(ByteSource& source, std::size_t window_bytes) : source_(source) {
  buffer_.resize(std::max<std::size_t>(window_bytes, 16));
}

Status BufferedInput::error(const std::string& text) const {
  return {Code::kBadInput, source_.name() + ": offset " + std::to_string(offset_) + ": " + text};
}

Status BufferedInput::fill(std::size_t bytes) {
  if (!failed_.ok()) return failed_;
  if (end_ - begin_ >= bytes || source_ended_) return {};
  if (begin_ != 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  while (end_ < bytes && !source_ended_) {
    // The window doubles only once it is full, so a huge wish costs no more memory than the bytes
    // that are there.
    if (end_ == buffer_.size()) buffer_.resize(buffer_.size() * 2);
    auto count = source_.read(buffer_.data() + end_, buffer_.size() - end_);
    if (!count.ok()) return failed_ = count.status();
    if (count.value() == 0) source_ended_ = true;
    end_ += count.value();
  }
  return {};
}

Result<std::string_view> BufferedInput::peek(std::size_t bytes) {
  SPW_RETURN_IF_ERROR(fill(std::min(bytes, kPeekMaxBytes)));
  return std::string_view(buffer_.data() + begin_, end_ - begin_);
}

void BufferedInput::consume(std::size_t bytes) {
  const std::size_t count = std::min(bytes, end_ - begin_);
  begin_ += count;
  offset_ += count;
}

Result<std::string_view> BufferedInput::take(std::size_t bytes, std::string_view what) {
  if (bytes <= kPeekMaxBytes) SPW_RETURN_IF_ERROR(fill(bytes));
  if (end_ - begin_ < bytes) {
    return error("expected " + std::to_string(bytes) + " bytes of " + std::string(what) +
                 (bytes <= kPeekMaxBytes ? ", found the end of the file"
                                         : ", found more than 64 MiB in one piece"));
  }
  const std::string_view piece(buffer_.data() + begin_, bytes);
  consume(bytes);
  return piece;
}

Result<std::string_view> BufferedInput::line(std::size_t max_bytes) {
  std::size_t searched = 0;
  for (;;) {
    const std::string_view window(buffer_.data() + begin_, end_ - begin_);
    const std::size_t found = window.find('\n', searched);
    const std::size_t length = found == std::string_view::npos ? window.size() : found;
    if (length > max_bytes)
      return error("expected a line of at most " + std::to_string(max_bytes) +
                   " bytes, found more");
    if (found != std::string_view::npos || (source_ended_ && failed_.ok())) {
      consume(found == std::string_view::npos ? length : length + 1);
      const bool carriage_return = length != 0 && window[length - 1] == '\r';
      return window.substr(0, carriage_return ? length - 1 : length);
    }
    searched = window.size();
    SPW_RETURN_IF_ERROR(fill(window.size() + 1));
  }
}

Result<bool> BufferedInput::at_end() {
  SPW_RETURN_IF_ERROR(fill(1));
  return begin_ == end_;
}

}  // namespace spillway
