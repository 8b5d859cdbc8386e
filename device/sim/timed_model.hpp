// SPDX-License-Identifier: Apache-2.0
// When operations run on GPUs of a calibration file: copy engines, the link and device memory that
// they share, compute. Pure arithmetic in virtual nanoseconds: knows no driver, no clock, no bytes.
// The engine feeds it the heads of its streams and takes back who finished when.
// Model, numbers and their sources: docs/calibration.md.
#pragma once

#include "core/status.hpp"
#include "device/calibration.hpp"

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

namespace spillway::sim {

/// The caller's name of an operation; comes back with its completion.
using OpKey = std::uint64_t;

/// What an operation asks of a device.
struct Work {
  enum class Kind : std::uint8_t { kKernel, kH2D, kD2H, kD2D, kPeer, kMemset, kInstant };
  Kind kind = Kind::kInstant;
  bool pinned = true;                    // copies: page-locked host memory
  MathMode math = MathMode::kFp32;       // kernels: whose rate `flops` run at
  std::uint32_t device = 0;              // whose engine does it
  std::uint32_t slowdown = 1;            // copies: times longer than healthy (faults)
  std::uint64_t bytes = 0;               // copies and memsets
  std::uint64_t memory_bytes = 0;        // kernels: device memory read and written
  std::uint64_t host_read_bytes = 0;     // kernels: page-locked memory read over the link
  std::uint64_t host_written_bytes = 0;  // kernels: page-locked memory written over the link
  double flops = 0;                      // kernels
  std::int64_t fixed_ns = 0;             // kernels: lasts at least so long; others: added latency
  std::int64_t issued_ns = kWhenReady;   // kernels: the launch call returned

  static constexpr std::int64_t kWhenReady = std::numeric_limits<std::int64_t>::max();
};

struct Completion {
  OpKey key = 0;
  std::uint32_t stream = 0;
  std::int64_t start_ns = 0;  // kernels: first instruction; copies: the engine takes them
  std::int64_t end_ns = 0;
};

struct TimedOptions {
  std::uint32_t device_count = 1;         // 1 to 64
  std::uint32_t compute_concurrency = 1;  // kernels at once on a device, 1 to 16
  std::uint32_t devices_per_root = 1;     // how many share the calibration's shared_link
};

/// Rules, all per device:
///  - A copy engine serves one copy at a time and finishes it. It stays on its stream while that
///    stream's next head is a ready copy of the same engine, else takes the copy that is ready
///    longest (ties: submitted first). Stream priority does not matter to copies.
///  - Engines: host to device, device to host, peer (with 2 copy engines it shares the one to the
///    host, with 1 there is only one), and one for copies and memsets inside the device.
///  - A copy lasts latency + bytes / rate. The rate is the direction's own, less while the other
///    direction moves bytes, at most a fair part of the root's link while its neighbours move
///    bytes the same way, and the pageable rate (half of it while the other direction is pageable
///    too: one staging buffer) when the host memory is not page-locked.
///  - Kernels: priority first (lower numbers win), then ready longest. One starts `kernel_start`
///    after its launch call, `launch_latency` after what it waited for in its stream, and
///    `launch_latency` after the kernel before it. It lasts max(fixed, flops / rate, memory_bytes /
///    bandwidth). Link copies take device memory bandwidth first: a memory-bound kernel slows by 1
///    / (1 - copies / bandwidth). Kernels and copies inside the device divide the rest fairly.
///    Kernels at once divide the arithmetic equally.
///
/// Use: submit heads; ask next_event_ns(); advance_to() it; submit the new heads; repeat.
class TimedModel {
 public:
  /// kInvalidArgument: options out of range, or a calibration of schema 1, which has no timing.
  static Result<TimedModel> make(const Calibration& calibration, const TimedOptions& options);

  TimedModel(TimedModel&&) noexcept;
  TimedModel& operator=(TimedModel&&) noexcept;
  TimedModel(const TimedModel&) = delete;
  TimedModel& operator=(const TimedModel&) = delete;
  ~TimedModel();

  /// The op is at the head of its stream and its dependencies are done at `ready_ns`, which may be
  /// later than now. Streams are small indices (below 2^20); a lower priority number is more
  /// urgent. REQUIRES: work.device < device_count.
  void submit(
      OpKey key, std::uint32_t stream, int priority, const Work& work, std::int64_t ready_ns);

  /// Lets idle engines take what is ready, then says when something happens next; none when nothing
  /// runs or waits. Instants that are due come before engines are served, so that an event record
  /// between two copies of a stream does not make the engine leave the stream.
  std::optional<std::int64_t> next_event_ns();

  /// Moves time forward to `t_ns`, but not past the first moment at which something completes;
  /// appends what completed then, in order of submission, and returns the time reached. Submit the
  /// next heads before asking on. REQUIRES: t_ns >= now_ns().
  std::int64_t advance_to(std::int64_t t_ns, std::vector<Completion>* out);

  [[nodiscard]] std::int64_t now_ns() const;
  /// Submitted and not completed.
  [[nodiscard]] std::size_t pending_count() const;

  /// Forgets all operations; time is 0 again.
  void reset();

 private:
  class Core;
  explicit TimedModel(std::unique_ptr<Core> core);
  std::unique_ptr<Core> core_;
};

}  // namespace spillway::sim
