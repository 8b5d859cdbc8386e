// SPDX-License-Identifier: Apache-2.0
// DiskIo by one thread and plain calls, for kernels and containers that refuse io_uring.
#include "core/task_queue.hpp"
#include "offload/disk_io.hpp"

#include <cerrno>
#include <unistd.h>
#include <utility>

namespace spillway {
namespace {

constexpr std::uint32_t kDepth = 32;

class ThreadIo final : public DiskIo {
 public:
  explicit ThreadIo(int file) : file_(file), mutex_("disk results") {}

  Status open() {
    TaskQueueOptions options;
    options.name = "spillway-disk";
    SPW_ASSIGN_OR_RETURN(queue_, TaskQueue::start(options));
    return {};
  }

  [[nodiscard]] std::uint32_t depth() const override { return kDepth; }
  [[nodiscard]] const char* name() const override { return "thread"; }

  Status submit(const Request& request) override {
    return queue_->post([this, request] {
      const Done done{request.token, transfer(request)};
      {
        const LockGuard lock(mutex_);
        done_.push_back(done);
      }
      has_done_.notify_all();
    });
  }

  Status reap(bool wait, std::vector<Done>* done) override {
    UniqueLock lock(mutex_);
    if (wait) has_done_.wait(lock, [&]() SPW_NO_THREAD_SAFETY { return !done_.empty(); });
    done->insert(done->end(), done_.begin(), done_.end());
    done_.clear();
    return {};
  }

 private:
  [[nodiscard]] std::int64_t transfer(const Request& request) const {
    for (;;) {
      const auto offset = static_cast<off_t>(request.offset);
      const ssize_t bytes = request.kind == Kind::kRead
                                ? ::pread(file_, request.data, request.bytes, offset)
                                : ::pwrite(file_, request.data, request.bytes, offset);
      if (bytes >= 0) return bytes;
      if (errno != EINTR) return -errno;
    }
  }

  const int file_;
  Mutex mutex_;
  Condition has_done_;
  std::vector<Done> done_ SPW_GUARDED_BY(mutex_);
  std::unique_ptr<TaskQueue> queue_;  // ends first: its tasks use the rest
};

}  // namespace

Result<std::unique_ptr<DiskIo>> make_thread_io(int file) {
  auto io = std::make_unique<ThreadIo>(file);
  SPW_RETURN_IF_ERROR(io->open());
  return std::unique_ptr<DiskIo>(std::move(io));
}

}  // namespace spillway
