// SPDX-License-Identifier: Apache-2.0
// Output files are whole or absent: success, abandonment, a full disk, odd targets.
#include "integration/trace/atomic_file.hpp"

#include <doctest/doctest.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

namespace spillway {
namespace {

namespace fs = std::filesystem;

/// A folder that goes away with the test.
class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "spillway-atomic-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  Folder(Folder&&) = delete;
  Folder& operator=(Folder&&) = delete;
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  [[nodiscard]] std::string file(const std::string& name) const { return (path_ / name).string(); }
  [[nodiscard]] std::size_t entry_count() const {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator(path_), fs::directory_iterator()));
  }

 private:
  fs::path path_;
};

std::string content(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

/// Limits the size of files that this process writes, as a full disk would.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &before_) == 0);
    rlimit limited = before_;
    limited.rlim_cur = bytes;
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &limited) == 0);
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  FileSizeLimit(FileSizeLimit&&) = delete;
  FileSizeLimit& operator=(FileSizeLimit&&) = delete;
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int) = SIG_DFL;
};

TEST_SUITE_BEGIN("unit");

TEST_CASE("a committed file has every byte, and no temporary is left beside it") {
  const Folder folder;
  const std::string path = folder.file("out.bin");
  std::string bytes;
  auto file = AtomicFile::create(path);
  REQUIRE(file.ok());
  for (int i = 0; i < 10000; ++i) {
    const std::string piece(static_cast<std::size_t>(i % 97), static_cast<char>('a' + i % 26));
    bytes += piece;
    REQUIRE(file.value().write(piece).ok());
  }
  CHECK_FALSE(fs::exists(path));
  REQUIRE(file.value().commit().ok());
  CHECK(content(path) == bytes);
  CHECK(file.value().written_bytes() == bytes.size());
  CHECK(folder.entry_count() == 1);
}

TEST_CASE("a file that is not committed leaves the old one as it was") {
  const Folder folder;
  const std::string path = folder.file("out.txt");
  REQUIRE(write_file(path, "old").ok());
  {
    auto file = AtomicFile::create(path);
    REQUIRE(file.ok());
    REQUIRE(file.value().write(std::string(1 << 20, 'x')).ok());
    AtomicFile moved = std::move(file).value();
    REQUIRE(moved.write("y").ok());
  }
  CHECK(content(path) == "old");
  CHECK(folder.entry_count() == 1);
}

TEST_CASE(
    "a disk that fills up while writing is an error with path and reason, and nothing is left") {
  const Folder folder;
  const std::string path = folder.file("big.bin");
  REQUIRE(write_file(path, "old").ok());
  Status status;
  {
    const FileSizeLimit limit(100 * 1024);
    status = write_file(path, std::string(1 << 20, 'x'));
  }
  CHECK(status.code() == Code::kIo);
  CHECK(status.message() == path + ": cannot write: File too large");
  CHECK(content(path) == "old");
  CHECK(folder.entry_count() == 1);

  const Status full = write_file("/dev/full", "some bytes");
  CHECK(full.code() == Code::kIo);
  CHECK(full.message() == "/dev/full: cannot write: No space left on device");
}

TEST_CASE("after a failed write the file stays failed") {
  const Folder folder;
  auto file = AtomicFile::create(folder.file("x"));
  REQUIRE(file.ok());
  {
    const FileSizeLimit limit(1024);
    CHECK_FALSE(file.value().write(std::string(1 << 20, 'x')).ok());
  }
  CHECK(file.value().write("more").code() == Code::kIo);
  CHECK(file.value().commit().code() == Code::kIo);
  CHECK(folder.entry_count() == 0);
}

TEST_CASE("a directory, a missing folder and an empty name are refused with the path in the text") {
  const Folder folder;
  const Status directory = write_file(folder.file(""), "x");
  CHECK(directory.code() == Code::kIo);
  CHECK(directory.message().find("Is a directory") != std::string::npos);
  const Status missing = write_file(folder.file("no/such/file"), "x");
  CHECK(missing.code() == Code::kIo);
  CHECK(missing.message().find(folder.file("no/such/file")) == 0);
  CHECK(missing.message().find("No such file or directory") != std::string::npos);
  CHECK(write_file("", "x").code() == Code::kIo);
  CHECK(folder.entry_count() == 0);
}

TEST_CASE(
    "an existing file keeps its permissions, a read-only one is left alone, a link stays a link") {
  const Folder folder;
  const std::string path = folder.file("kept");
  REQUIRE(write_file(path, "1").ok());
  REQUIRE(::chmod(path.c_str(), 0640) == 0);
  fs::create_symlink("kept", folder.file("link"));
  REQUIRE(write_file(folder.file("link"), "22").ok());
  CHECK(fs::is_symlink(folder.file("link")));
  CHECK(content(path) == "22");
  struct stat info {};
  REQUIRE(::stat(path.c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0640);
  if (::geteuid() == 0) return;  // root may write everything
  REQUIRE(::chmod(path.c_str(), 0440) == 0);
  CHECK(write_file(path, "333").code() == Code::kIo);
  CHECK(content(path) == "22");
}

TEST_CASE("a pipe and a named descriptor are written directly") {
  int ends[2] = {-1, -1};
  REQUIRE(::pipe(ends) == 0);
  REQUIRE(write_file("/dev/fd/" + std::to_string(ends[1]), "through the pipe").ok());
  char text[64] = {};
  CHECK(::read(ends[0], text, sizeof(text)) == 16);
  CHECK(std::string(text) == "through the pipe");
  ::close(ends[0]);
  ::close(ends[1]);
  CHECK(write_file("/dev/null", "gone").ok());
  CHECK(write_file("/dev/fd/999999", "x").code() == Code::kIo);
}

TEST_CASE("a redirected descriptor is continued, not written over") {
  const Folder folder;
  const std::string path = folder.file("log");
  std::FILE* log = std::fopen(path.c_str(), "wb");
  REQUIRE(log != nullptr);
  REQUIRE(::write(::fileno(log), "before ", 7) == 7);
  REQUIRE(write_file("/dev/fd/" + std::to_string(::fileno(log)), "after").ok());
  std::fclose(log);
  CHECK(content(path) == "before after");
}

TEST_SUITE_END();

}  // namespace
}  // namespace spillway
