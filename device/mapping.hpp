// SPDX-License-Identifier: Apache-2.0
// Virtual memory management in three owners: a Reservation is addresses, a PhysicalHandle is
// memory, a Mapping puts the whole of one at a place in the other. The handle is the atom: it is
// mapped and unmapped whole, and may be mapped again, elsewhere, with its bytes kept.
#pragma once

#include "core/status.hpp"
#include "device/driver.hpp"
#include "device/owned_handle.hpp"

#include <cstddef>
#include <memory>
#include <utility>

namespace spillway {

/// Where device memory comes from: pinned memory of a device, as cuMemCreate wants it.
struct PhysicalOptions {
  cu::HandleType handle_type = cu::HandleType::kNone;  // exportable only if asked for here
  bool gpu_direct_rdma = false;
};

cu::AllocationProp device_allocation_prop(cu::Device device, const PhysicalOptions& options = {});

/// Bytes that every size and address of a mapping is a multiple of.
Result<std::size_t> allocation_granularity(const Driver& driver,
                                           const cu::AllocationProp& prop,
                                           cu::Granularity which = cu::Granularity::kMinimum);

/// Address space without memory: touching it faults until something is mapped there.
class Reservation {
 public:
  /// `bytes` and `alignment_bytes` in multiples of the granularity; alignment 0: the driver's.
  static Result<Reservation> create(const Driver& driver,
                                    std::size_t bytes,
                                    std::size_t alignment_bytes = 0);

  [[nodiscard]] bool empty() const { return owned_.empty(); }
  [[nodiscard]] cu::DevicePtr pointer() const { return owned_.get().pointer; }
  [[nodiscard]] std::size_t bytes() const { return owned_.get().bytes; }
  /// Gives the addresses up; the caller frees them.
  [[nodiscard]] std::pair<cu::DevicePtr, std::size_t> release() {
    const Range range = owned_.release();
    return {range.pointer, range.bytes};
  }

 private:
  struct Range {
    cu::DevicePtr pointer = 0;
    std::size_t bytes = 0;
  };
  struct End {
    using Handle = Range;
    static constexpr const char* kCall = "cuMemAddressFree(pointer, bytes)";
    static cu::Result end(const Driver& driver, Handle range) {
      return driver.cuMemAddressFree(range.pointer, range.bytes);
    }
  };
  explicit Reservation(OwnedHandle<End> owned) : owned_(std::move(owned)) {}

  OwnedHandle<End> owned_;
};

/// Device memory without an address. Its bytes live until this owner and every mapping of it are
/// gone.
class PhysicalHandle {
 public:
  /// `bytes`: multiple of the granularity. kOutOfMemory when the device is full.
  static Result<PhysicalHandle> create(const Driver& driver,
                                       std::size_t bytes,
                                       const cu::AllocationProp& prop);
  /// Takes one reference to a handle that somebody else created, imported or retained.
  static PhysicalHandle adopt(const Driver& driver,
                              cu::AllocationHandle handle,
                              std::size_t bytes) {
    return {OwnedHandle<End>(driver, handle), bytes};
  }

  [[nodiscard]] bool empty() const { return owned_.empty(); }
  [[nodiscard]] cu::AllocationHandle handle() const { return owned_.get(); }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  /// Gives the reference up; the caller releases it.
  [[nodiscard]] cu::AllocationHandle release() { return owned_.release(); }

 private:
  struct End {
    using Handle = cu::AllocationHandle;
    static constexpr const char* kCall = "cuMemRelease(handle)";
    static cu::Result end(const Driver& driver, Handle handle) {
      return driver.cuMemRelease(handle);
    }
  };
  PhysicalHandle(OwnedHandle<End> owned, std::size_t bytes)
      : owned_(std::move(owned)), bytes_(bytes) {}

  OwnedHandle<End> owned_;
  std::size_t bytes_ = 0;  // of the handle that this object was made with
};

/// One handle at one place. Shares the handle, so that it can be mapped elsewhere afterwards
/// without a new allocation.
/// REQUIRES: the reservation outlives the mapping; when the mapping ends, no work that touches it
/// is queued or running - cuMemUnmap does not wait for the GPU.
class Mapping {
 public:
  /// Maps the whole handle at `pointer`, inside a reservation where nothing is mapped. Without
  /// access until allow_access(). Refused as invalid argument by the driver when `pointer` is not a
  /// multiple of the granularity.
  static Result<Mapping> create(const Driver& driver,
                                cu::DevicePtr pointer,
                                std::shared_ptr<const PhysicalHandle> handle);

  [[nodiscard]] bool empty() const { return owned_.empty(); }
  [[nodiscard]] cu::DevicePtr pointer() const { return owned_.get().pointer; }
  [[nodiscard]] std::size_t bytes() const { return owned_.get().bytes; }
  [[nodiscard]] const std::shared_ptr<const PhysicalHandle>& handle() const { return handle_; }

  /// Ends the mapping now and hands its memory back, to be mapped elsewhere. Empty afterwards.
  std::shared_ptr<const PhysicalHandle> unmap() {
    owned_.reset();
    return std::move(handle_);
  }

 private:
  struct Range {
    cu::DevicePtr pointer = 0;
    std::size_t bytes = 0;
  };
  struct End {
    using Handle = Range;
    static constexpr const char* kCall = "cuMemUnmap(pointer, bytes)";
    static cu::Result end(const Driver& driver, Handle range) {
      return driver.cuMemUnmap(range.pointer, range.bytes);
    }
  };
  Mapping(OwnedHandle<End> owned, std::shared_ptr<const PhysicalHandle> handle)
      : handle_(std::move(handle)), owned_(std::move(owned)) {}

  // Destroyed in reverse: unmapped first, released after.
  std::shared_ptr<const PhysicalHandle> handle_;
  OwnedHandle<End> owned_;
};

/// Lets `device` read and write [pointer, pointer + bytes): any number of whole mappings side by
/// side, in one call. Needed after every map.
Status allow_access(const Driver& driver,
                    cu::DevicePtr pointer,
                    std::size_t bytes,
                    cu::Device device);

}  // namespace spillway
