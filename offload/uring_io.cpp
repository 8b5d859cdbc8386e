// SPDX-License-Identifier: Apache-2.0
// DiskIo by liburing: requests and results pass through memory that the kernel shares.
#include "offload/disk_io.hpp"

#ifdef SPILLWAY_HAVE_URING
#include <cerrno>
#include <cstring>
#include <liburing.h>
#include <string>
#endif

namespace spillway {

#ifdef SPILLWAY_HAVE_URING
namespace {

constexpr std::uint32_t kDepth = 32;

class UringIo final : public DiskIo {
 public:
  explicit UringIo(int file) : file_(file) {}
  UringIo(const UringIo&) = delete;
  UringIo& operator=(const UringIo&) = delete;
  UringIo(UringIo&&) = delete;
  UringIo& operator=(UringIo&&) = delete;
  ~UringIo() override {
    if (open_) io_uring_queue_exit(&ring_);
  }

  Status open() {
    const int error = io_uring_queue_init(kDepth, &ring_, 0);
    if (error < 0) return {Code::kUnsupported, std::string("io_uring: ") + std::strerror(-error)};
    open_ = true;
    return {};
  }

  [[nodiscard]] std::uint32_t depth() const override { return kDepth; }
  [[nodiscard]] const char* name() const override { return "io_uring"; }

  Status submit(const Request& request) override {
    io_uring_sqe* entry = is_broken_ ? nullptr : io_uring_get_sqe(&ring_);
    if (entry == nullptr) return {Code::kIo, "io_uring: takes no more"};
    const auto bytes = static_cast<unsigned int>(request.bytes);
    if (request.kind == Kind::kRead)
      io_uring_prep_read(entry, file_, request.data, bytes, request.offset);
    else
      io_uring_prep_write(entry, file_, request.data, bytes, request.offset);
    io_uring_sqe_set_data64(entry, request.token);
    int error = 0;
    do error = io_uring_submit(&ring_);
    while (error == -EINTR);
    // An entry that the kernel did not take is still in the ring: it goes with the next submit,
    // and reap() asks again.
    if (error < 0 && error != -EAGAIN && error != -EBUSY) {
      is_broken_ = true;  // the entry must never be taken: its memory is the caller's again
      return {Code::kIo, std::string("io_uring: ") + std::strerror(-error)};
    }
    return {};
  }

  Status reap(bool wait, std::vector<Done>* done) override {
    if (!is_broken_ && io_uring_sq_ready(&ring_) != 0) static_cast<void>(io_uring_submit(&ring_));
    io_uring_cqe* entry = nullptr;
    if (wait) {
      int error = 0;
      do error = io_uring_wait_cqe(&ring_, &entry);
      while (error == -EINTR);
      if (error < 0) return {Code::kIo, std::string("io_uring: ") + std::strerror(-error)};
    }
    while (io_uring_peek_cqe(&ring_, &entry) == 0) {
      done->push_back({io_uring_cqe_get_data64(entry), entry->res});
      io_uring_cqe_seen(&ring_, entry);
    }
    return {};
  }

 private:
  int file_;
  io_uring ring_{};
  bool open_ = false;
  bool is_broken_ = false;
};

}  // namespace

Result<std::unique_ptr<DiskIo>> make_uring_io(int file) {
  auto io = std::make_unique<UringIo>(file);
  SPW_RETURN_IF_ERROR(io->open());
  return std::unique_ptr<DiskIo>(std::move(io));
}
#else
Result<std::unique_ptr<DiskIo>> make_uring_io(int) {
  return Status(Code::kUnsupported, "io_uring: built without liburing");
}
#endif

}  // namespace spillway
