// SPDX-License-Identifier: Apache-2.0
// The tools of measuring: time on the device between two events, time on the host by a clock, and
// memory that frees itself. Works on anything that fills the driver table.
#pragma once

#include "core/clock.hpp"
#include "core/status.hpp"
#include "device/capabilities.hpp"
#include "device/driver.hpp"
#include "device/event.hpp"
#include "device/measure/measure_kernels.hpp"
#include "device/owned_handle.hpp"
#include "device/stream.hpp"

#include <array>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

namespace spillway::measure {

inline constexpr std::uint64_t kKiB = 1024;
inline constexpr std::uint64_t kMiB = 1024 * kKiB;
inline constexpr std::uint64_t kGiB = 1024 * kMiB;

/// cuMemAlloc.
class DeviceMemory {
 public:
  static Result<DeviceMemory> create(const Driver& driver, std::uint64_t bytes);
  [[nodiscard]] cu::DevicePtr pointer() const { return owned_.get(); }

 private:
  struct End {
    using Handle = cu::DevicePtr;
    static constexpr const char* kCall = "cuMemFree(pointer)";
    static cu::Result end(const Driver& driver, Handle pointer) {
      return driver.cuMemFree(pointer);
    }
  };
  explicit DeviceMemory(OwnedHandle<End> owned) : owned_(std::move(owned)) {}
  OwnedHandle<End> owned_;
};

/// Pages of the host, touched and not pinned.
class HostPages {
 public:
  static Result<HostPages> create(std::uint64_t bytes, bool huge = false);
  HostPages(HostPages&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_) {}
  HostPages& operator=(HostPages&&) = delete;
  HostPages(const HostPages&) = delete;
  HostPages& operator=(const HostPages&) = delete;
  ~HostPages();
  [[nodiscard]] void* data() const { return data_; }

 private:
  HostPages(void* data, std::uint64_t bytes) : data_(data), bytes_(bytes) {}
  void* data_;
  std::uint64_t bytes_;
};

class Gauge {
 public:
  using Work = std::function<Status()>;
  static constexpr int kStreamCount = 3;

  /// In the current context, which must be of the device. Both must outlive the gauge.
  static Result<Gauge> create(const Driver& driver,
                              const Clock& clock,
                              const DeviceCapabilities& device);

  [[nodiscard]] const Driver& driver() const { return *driver_; }
  [[nodiscard]] const Clock& clock() const { return *clock_; }
  [[nodiscard]] const DeviceCapabilities& device() const { return *device_; }
  [[nodiscard]] const MeasureKernels& kernels() const { return kernels_; }
  [[nodiscard]] StreamRef stream(int index) const {
    return streams_[static_cast<std::size_t>(index)].ref();
  }

  /// Keeps stream 0 busy and lets the others wait for it, so that what is queued behind starts
  /// together and the host is not what is measured.
  Status hold(std::int64_t ns);
  /// Marks point `index` (0 to 3) of a stream's work.
  Status mark(int index, StreamRef stream);
  /// Device time between two marks, after waiting for both.
  Result<double> between_ns(int first, int second);
  /// Waits for everything.
  Status settle();

  /// Device time of what `work` queues in stream 0. `hold_ns` must cover queueing it.
  Result<double> device_ns(std::int64_t hold_ns, const Work& work);

  /// Median host time of one call of `work`; `after` runs untimed behind each.
  Result<double> host_ns(int samples, const Work& work, const Work& after = {});

 private:
  Gauge(const Driver& driver,
        const Clock& clock,
        const DeviceCapabilities& device,
        MeasureKernels kernels,
        std::vector<Stream> streams,
        std::vector<Event> marks,
        Event gate)
      : driver_(&driver),
        clock_(&clock),
        device_(&device),
        kernels_(std::move(kernels)),
        streams_(std::move(streams)),
        marks_(std::move(marks)),
        gate_(std::move(gate)) {}

  const Driver* driver_;
  const Clock* clock_;
  const DeviceCapabilities* device_;
  MeasureKernels kernels_;
  std::vector<Stream> streams_;
  std::vector<Event> marks_;
  Event gate_;
};

double median(std::vector<double> values);

}  // namespace spillway::measure
