// SPDX-License-Identifier: Apache-2.0
// Streams. `StreamRef` names one without owning it; the driver recycles handles, so streams are
// compared by the id that it never gives twice. `Stream` owns one.
#pragma once

#include "core/status.hpp"
#include "device/driver.hpp"
#include "device/owned_handle.hpp"

#include <cstddef>
#include <cstdint>

namespace spillway {

class StreamRef {
 public:
  /// Asks the driver for the id (once; keep the ref). A null handle is the default stream of the
  /// table, and so are its two special handles.
  static Result<StreamRef> of(const Driver& driver, cu::Stream handle);
  static Result<StreamRef> of(const Driver& driver, int handle) = delete;
  static Result<StreamRef> of(const Driver& driver, std::nullptr_t handle) = delete;

  /// For a handle whose id is known already.
  StreamRef(cu::Stream handle, std::uint64_t id) : handle_(handle), id_(id) {}
  StreamRef(int handle, std::uint64_t id) = delete;
  StreamRef(std::nullptr_t handle, std::uint64_t id) = delete;

  [[nodiscard]] cu::Stream handle() const { return handle_; }
  [[nodiscard]] std::uint64_t id() const { return id_; }

  friend bool operator==(StreamRef a, StreamRef b) { return a.id_ == b.id_; }
  friend bool operator!=(StreamRef a, StreamRef b) { return a.id_ != b.id_; }
  friend bool operator<(StreamRef a, StreamRef b) { return a.id_ < b.id_; }

 private:
  cu::Stream handle_;
  std::uint64_t id_;
};

/// The default stream of the table: legacy or per-thread, as it was loaded.
Result<StreamRef> default_stream(const Driver& driver);

struct StreamOptions {
  bool joins_legacy_stream = false;  // false: non-blocking, no order with the legacy stream
  int priority = 0;                  // lower is more urgent; clamped by the driver
};

class Stream {
 public:
  /// In the current context.
  static Result<Stream> create(const Driver& driver, const StreamOptions& options = {});
  /// Takes a stream that somebody else created; it is destroyed with this object.
  static Result<Stream> adopt(const Driver& driver, cu::Stream handle);
  static Result<Stream> adopt(const Driver& driver, int handle) = delete;
  static Result<Stream> adopt(const Driver& driver, std::nullptr_t handle) = delete;

  [[nodiscard]] bool empty() const { return owned_.empty(); }
  [[nodiscard]] cu::Stream handle() const { return owned_.get(); }
  [[nodiscard]] std::uint64_t id() const { return id_; }
  /// REQUIRES: !empty().
  [[nodiscard]] StreamRef ref() const { return {owned_.get(), id_}; }
  /// Gives the stream up; the caller destroys it.
  [[nodiscard]] cu::Stream release() { return owned_.release(); }

 private:
  struct End {
    using Handle = cu::Stream;
    static constexpr const char* kCall = "cuStreamDestroy(stream)";
    // Returns at once; work that is queued still runs.
    static cu::Result end(const Driver& driver, Handle handle) {
      return driver.cuStreamDestroy(handle);
    }
  };

  Stream(OwnedHandle<End> owned, std::uint64_t id) : owned_(std::move(owned)), id_(id) {}

  OwnedHandle<End> owned_;
  std::uint64_t id_ = 0;  // of the handle that this object was made with
};

/// The host waits until all work of the stream is done.
Status synchronize(const Driver& driver, StreamRef stream);

/// Whether all work of the stream is done.
Result<bool> is_done(const Driver& driver, StreamRef stream);

}  // namespace spillway
