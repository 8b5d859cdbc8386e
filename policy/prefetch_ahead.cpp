// SPDX-License-Identifier: Apache-2.0
// One pass forward for clock and bytes at every instruction, one pass backward that gives each copy
// its place before the next one's.
#include "policy/prefetch_ahead.hpp"

#include "policy/search/range_max.hpp"
#include "policy/storages_by_op.hpp"

#include <algorithm>

namespace spillway {
namespace {

/// Per instruction: compute clock at its begin if nothing were waited for, and the most bytes held
/// while it runs if offloads ended at once.
struct Track {
  std::vector<std::int64_t> begin_ns;
  std::vector<std::uint64_t> high_bytes;
  std::vector<std::uint64_t> form_bytes;  // of prefetches
  std::vector<std::uint32_t> earliest;    // of prefetches: not before this instruction
};

class Tracker {
 public:
  Tracker(const Profile& profile, const DeviceModel& device)
      : profile_(profile),
        device_(device),
        device_bytes_(profile.storages.size(), 0),
        host_bytes_(profile.storages.size(), 0),
        offloaded_at_(profile.storages.size(), 0),
        retained_(profile.storages.size(), 0),
        by_op_(profile) {
    for (std::uint32_t s = 0; s < profile.storages.size(); ++s)
      if (!profile.storages[s].created_by.valid())
        held_ += device_bytes_[s] = profile.storages[s].bytes;
  }

  Track run(const std::vector<Instruction>& program) {
    Track track;
    for (std::uint32_t p = 0; p < program.size(); ++p) {
      const Instruction& instruction = program[p];
      const std::uint32_t s = instruction.target;
      track.begin_ns.push_back(now_ns_);
      track.form_bytes.push_back(0);
      track.earliest.push_back(0);
      std::uint64_t high = held_;
      switch (instruction.kind) {
        case InstructionKind::kCompute:
        case InstructionKind::kRecompute:
          high = run_op(s, instruction.kind == InstructionKind::kRecompute);
          break;
        case InstructionKind::kDrop:
          held_ -= device_bytes_[s];
          device_bytes_[s] = 0;
          retained_[s] = 0;
          break;
        case InstructionKind::kCompress:
        case InstructionKind::kDecompress: {
          const Storage& storage = profile_.storages[s];
          const std::uint64_t after =
              instruction.kind == InstructionKind::kCompress
                  ? payload_bytes(instruction.codec, storage.tag.dtype, storage.bytes)
                  : storage.bytes;
          high = held_ + after;
          held_ = high - device_bytes_[s];
          device_bytes_[s] = after;
          now_ns_ += device_.codec_ns(instruction.codec, storage.tag.dtype, storage.bytes);
          break;
        }
        case InstructionKind::kOffload:
          host_bytes_[s] = device_bytes_[s];
          held_ -= device_bytes_[s];
          device_bytes_[s] = 0;
          offloaded_at_[s] = p;
          break;
        case InstructionKind::kPrefetch:
          device_bytes_[s] = host_bytes_[s];
          held_ += device_bytes_[s];
          host_bytes_[s] = 0;
          track.form_bytes.back() = device_bytes_[s];
          track.earliest.back() = offloaded_at_[s] + 1;
          high = held_;
          break;
        case InstructionKind::kRetain:
          retained_[s] = 1;
          break;
      }
      track.high_bytes.push_back(high);
    }
    return track;
  }

 private:
  std::uint64_t run_op(std::uint32_t op_index, bool again) {
    const Op& op = profile_.ops[op_index];
    std::uint64_t scratch = op.workspace_bytes;
    for (const std::uint32_t s : by_op_.made.of(op_index)) {
      if (device_bytes_[s] != 0 || host_bytes_[s] != 0) {
        scratch += profile_.storages[s].bytes;
        continue;
      }
      device_bytes_[s] = profile_.storages[s].bytes;
      held_ += device_bytes_[s];
    }
    const std::uint64_t high = held_ + scratch;
    now_ns_ += static_cast<std::int64_t>(op.duration_ns);
    if (again) return high;
    for (const std::uint32_t s : by_op_.freed.of(op_index)) {
      if (retained_[s] != 0) continue;
      held_ -= device_bytes_[s];
      device_bytes_[s] = host_bytes_[s] = 0;
    }
    return high;
  }

  const Profile& profile_;
  const DeviceModel& device_;
  std::vector<std::uint64_t> device_bytes_, host_bytes_;
  std::vector<std::uint32_t> offloaded_at_;
  std::vector<char> retained_;
  StoragesByOp by_op_;
  std::uint64_t held_ = 0;
  std::int64_t now_ns_ = 0;
};

}  // namespace

std::vector<Instruction> prefetch_ahead(const Profile& profile,
                                        const DeviceModel& device,
                                        std::vector<Instruction> program,
                                        std::uint64_t budget_bytes,
                                        double lead) {
  const auto is_prefetch = [](const Instruction& instruction) {
    return instruction.kind == InstructionKind::kPrefetch;
  };
  if (std::none_of(program.begin(), program.end(), is_prefetch)) return program;
  const Track track = Tracker(profile, device).run(program);
  RangeMax high_bytes(track.high_bytes);
  std::vector<std::pair<std::uint32_t, std::uint32_t>> moved;  // (new place, old place)
  std::int64_t next_copy_ns = track.begin_ns.back();
  for (auto p = static_cast<std::uint32_t>(program.size()); p-- > 0;) {
    if (!is_prefetch(program[p])) continue;
    const std::uint64_t bytes = track.form_bytes[p];
    const std::int64_t end_ns = std::min(next_copy_ns, track.begin_ns[p]);
    const std::int64_t begin_ns =
        end_ns - static_cast<std::int64_t>(lead * static_cast<double>(device.prefetch_ns(bytes)));
    next_copy_ns = begin_ns;
    // As early as the copy must begin, and no earlier than right behind the last instruction that
    // has no room for it.
    const auto first = track.begin_ns.begin();
    const auto in_time = static_cast<std::size_t>(
        std::upper_bound(first + track.earliest[p], first + p + 1, begin_ns) - first);
    std::size_t place = std::max<std::size_t>(in_time, track.earliest[p] + 1) - 1;
    if (budget_bytes != 0 && bytes > budget_bytes) {
      place = p;
    } else if (budget_bytes != 0) {
      const std::size_t full = high_bytes.last_above(place, p, budget_bytes - bytes);
      if (full != p) place = full + 1;
    }
    high_bytes.add(place, p, bytes);
    moved.emplace_back(static_cast<std::uint32_t>(place), p);
  }
  // At one place, the copy that is needed first goes first.
  std::sort(moved.begin(), moved.end());
  std::vector<Instruction> result;
  result.reserve(program.size());
  std::size_t next = 0;
  for (std::uint32_t p = 0; p < program.size(); ++p) {
    for (; next < moved.size() && moved[next].first <= p; ++next)
      result.push_back(program[moved[next].second]);
    if (!is_prefetch(program[p])) result.push_back(program[p]);
  }
  return result;
}

}  // namespace spillway
