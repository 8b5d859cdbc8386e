// SPDX-License-Identifier: Apache-2.0
// One pass over the program: a compute clock, two engine clocks, and a heap of device bytes that
// come free when offloads end.
#include "policy/simulator.hpp"

#include "policy/storages_by_op.hpp"

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <queue>

namespace spillway {
namespace {

enum class Form : std::uint8_t { kNone, kBytes, kPayload };

struct StorageState {
  Form device = Form::kNone;
  Form host = Form::kNone;
  Codec codec = Codec::kNone;  // of the payload, wherever it is
  bool retained = false;       // stays when its life in the step ends
  std::uint64_t payload = 0;   // payload bytes
  std::int64_t device_ready_ns = 0;
  std::int64_t host_ready_ns = 0;
};

struct PendingFree {
  std::int64_t at_ns;
  std::uint64_t bytes;
  std::uint32_t storage;
  friend bool operator>(const PendingFree& a, const PendingFree& b) {
    return a.at_ns != b.at_ns ? a.at_ns > b.at_ns : a.storage > b.storage;
  }
};

class Engine {
 public:
  Engine(const Profile& profile,
         const DeviceModel& device,
         const Plan& plan,
         const SimOptions& options)
      : profile_(profile),
        device_(device),
        plan_(plan),
        options_(options),
        states_(profile.storages.size()),
        by_op_(profile) {
    if (options.timeline) result_.timeline.emplace();
  }

  /// Called when the smallest budget's instant is reached anew; used to name the holders there.
  std::function<void(std::uint64_t instant_bytes)> on_instant;
  const std::vector<StorageState>& states() const { return states_; }

  Result<SimResult> run();

 private:
  Status step(const Instruction& instruction);
  Status compute(std::uint32_t op, bool again);
  Status need_input(std::uint32_t storage);
  void wait_until(std::int64_t at_ns, StallCause cause, std::uint32_t storage);
  void take(std::uint64_t bytes, std::uint32_t storage);
  void give(std::uint64_t bytes, std::uint32_t storage);
  bool is_activation(std::uint32_t storage) const {
    return storage < profile_.storages.size() && is_movable(profile_.storages[storage]);
  }
  void give_at(std::int64_t at_ns, std::uint64_t bytes, std::uint32_t storage);
  void settle();
  void take_pinned(std::uint64_t bytes);
  void change(std::int64_t at_ns,
              std::uint32_t storage,
              Place place,
              std::uint64_t device_bytes,
              std::uint64_t host_bytes);
  void slice(Lane lane,
             InstructionKind kind,
             std::uint32_t target,
             std::int64_t begin_ns,
             std::int64_t end_ns);
  Status illegal(const std::string& text) const {
    return Status(Code::kInvalidArgument, "instruction " + std::to_string(position_) + ": " + text);
  }
  std::uint64_t form_bytes(std::uint32_t storage, Form form) const {
    return form == Form::kPayload ? states_[storage].payload : profile_.storages[storage].bytes;
  }

  const Profile& profile_;
  const DeviceModel& device_;
  const Plan& plan_;
  const SimOptions& options_;
  std::vector<StorageState> states_;
  StoragesByOp by_op_;
  std::priority_queue<PendingFree, std::vector<PendingFree>, std::greater<>> pending_;
  std::priority_queue<std::pair<std::int64_t, std::uint64_t>,
                      std::vector<std::pair<std::int64_t, std::uint64_t>>,
                      std::greater<>>
      pinned_pending_;
  std::size_t position_ = 0;
  std::uint32_t next_op_ = 0;
  std::uint32_t current_op_ = 0;
  std::int64_t now_ns_ = 0;
  std::int64_t offload_free_ns_ = 0;
  std::int64_t prefetch_free_ns_ = 0;
  std::uint64_t held_bytes_ = 0;     // device bytes at now_ns_
  std::uint64_t instant_bytes_ = 0;  // the same if offloads ended at once; held = instant + pending
  std::uint64_t activation_bytes_ = 0;
  std::uint64_t pinned_bytes_ = 0;
  SimResult result_;
};

void Engine::change(std::int64_t at_ns,
                    std::uint32_t storage,
                    Place place,
                    std::uint64_t device_bytes,
                    std::uint64_t host_bytes) {
  if (result_.timeline)
    result_.timeline->changes.push_back({at_ns, storage, place, device_bytes, host_bytes});
}

void Engine::slice(Lane lane,
                   InstructionKind kind,
                   std::uint32_t target,
                   std::int64_t begin_ns,
                   std::int64_t end_ns) {
  if (result_.timeline) result_.timeline->slices.push_back({lane, kind, target, begin_ns, end_ns});
}

void Engine::settle() {
  while (!pending_.empty() && pending_.top().at_ns <= now_ns_) {
    held_bytes_ -= pending_.top().bytes;
    if (is_activation(pending_.top().storage)) activation_bytes_ -= pending_.top().bytes;
    pending_.pop();
  }
  while (!pinned_pending_.empty() && pinned_pending_.top().first <= now_ns_) {
    pinned_bytes_ -= pinned_pending_.top().second;
    pinned_pending_.pop();
  }
}

void Engine::wait_until(std::int64_t at_ns, StallCause cause, std::uint32_t storage) {
  if (at_ns <= now_ns_) return;
  const std::int64_t ns = at_ns - now_ns_;
  result_.stall_ns[static_cast<std::size_t>(cause)] += ns;
  if (result_.timeline)
    result_.timeline->stalls.push_back({cause, storage, current_op_, now_ns_, ns});
  now_ns_ = at_ns;
}

void Engine::take(std::uint64_t bytes, std::uint32_t storage) {
  if (bytes == 0) return;
  settle();
  if (options_.budget_bytes != 0) {
    while (held_bytes_ + bytes > options_.budget_bytes && !pending_.empty()) {
      wait_until(pending_.top().at_ns, StallCause::kMemory, storage);
      settle();
    }
    if (held_bytes_ + bytes > options_.budget_bytes && result_.fits) {
      result_.fits = false;
      result_.reason = "op " + std::to_string(current_op_) + " needs " +
                       std::to_string(held_bytes_ + bytes) + " bytes of " +
                       std::to_string(options_.budget_bytes);
    }
  }
  held_bytes_ += bytes;
  instant_bytes_ += bytes;
  if (is_activation(storage)) {
    activation_bytes_ += bytes;
    result_.activation_peak_bytes = std::max(result_.activation_peak_bytes, activation_bytes_);
  }
  if (held_bytes_ > result_.peak_bytes) {
    result_.peak_bytes = held_bytes_;
    result_.peak_op = current_op_;
    result_.peak_ns = now_ns_;
  }
  if (instant_bytes_ > result_.min_budget_bytes) {
    result_.min_budget_bytes = instant_bytes_;
    result_.min_budget_op = current_op_;
    if (on_instant) on_instant(instant_bytes_);
  }
}

void Engine::give(std::uint64_t bytes, std::uint32_t storage) {
  held_bytes_ -= bytes;
  instant_bytes_ -= bytes;
  if (is_activation(storage)) activation_bytes_ -= bytes;
}

void Engine::give_at(std::int64_t at_ns, std::uint64_t bytes, std::uint32_t storage) {
  instant_bytes_ -= bytes;
  pending_.push({at_ns, bytes, storage});
}

void Engine::take_pinned(std::uint64_t bytes) {
  settle();
  pinned_bytes_ += bytes;
  result_.pinned_peak_bytes = std::max(result_.pinned_peak_bytes, pinned_bytes_);
  if (options_.pinned_bytes != 0 && pinned_bytes_ > options_.pinned_bytes && result_.fits) {
    result_.fits = false;
    result_.reason = "offload needs " + std::to_string(pinned_bytes_) + " pinned bytes of " +
                     std::to_string(options_.pinned_bytes);
  }
}

Status Engine::need_input(std::uint32_t storage) {
  const StorageState& state = states_[storage];
  if (state.device != Form::kBytes)
    return illegal("op " + std::to_string(current_op_) + " uses storage " +
                   std::to_string(storage) + ", which is not resident");
  wait_until(state.device_ready_ns, StallCause::kLatePrefetch, storage);
  return {};
}

Status Engine::compute(std::uint32_t op_index, bool again) {
  if (op_index >= profile_.ops.size()) return illegal("there is no op " + std::to_string(op_index));
  const Op& op = profile_.ops[op_index];
  if (!again) {
    if (op_index != next_op_)
      return illegal("expected op " + std::to_string(next_op_) + ", found op " +
                     std::to_string(op_index));
    ++next_op_;
    current_op_ = op_index;
  }
  for (const Use use : profile_.uses_of(op)) {
    const std::uint32_t storage = profile_.storage_of(use).value;
    const bool makes_storage = use.creates() && use.tensor().index() < profile_.storages.size();
    if (!makes_storage) SPW_RETURN_IF_ERROR(need_input(storage));
  }
  std::uint64_t scratch_bytes = 0;
  for (const std::uint32_t storage : by_op_.made.of(op_index)) {
    StorageState& state = states_[storage];
    const std::uint64_t bytes = profile_.storages[storage].bytes;
    if (again && (state.device != Form::kNone || state.host != Form::kNone)) {
      scratch_bytes += bytes;  // the op makes it again beside what is there
      continue;
    }
    if (!again && (state.device != Form::kNone || state.host != Form::kNone))
      return illegal("storage " + std::to_string(storage) + " exists before op " +
                     std::to_string(op_index));
    take(bytes, storage);
    state.device = Form::kBytes;
    state.device_ready_ns = now_ns_;
    change(now_ns_, storage, Place::kResident, bytes, 0);
  }
  take(scratch_bytes + op.workspace_bytes, StorageId::kNoneValue);
  const std::int64_t begin_ns = now_ns_;
  const auto duration_ns = static_cast<std::int64_t>(op.duration_ns);
  now_ns_ += duration_ns;
  (again ? result_.recompute_ns : result_.compute_ns) += duration_ns;
  slice(Lane::kCompute,
        again ? InstructionKind::kRecompute : InstructionKind::kCompute,
        op_index,
        begin_ns,
        now_ns_);
  give(scratch_bytes + op.workspace_bytes, StorageId::kNoneValue);
  if (again) return {};
  for (const std::uint32_t storage : by_op_.freed.of(op_index)) {
    StorageState& state = states_[storage];
    if (state.retained && state.device == Form::kBytes) continue;
    if (state.device != Form::kNone) {
      // A prefetch that nobody waited for must end before its bytes can go.
      const std::uint64_t bytes = form_bytes(storage, state.device);
      if (state.device_ready_ns > now_ns_) {
        give_at(state.device_ready_ns, bytes, storage);
      } else {
        give(bytes, storage);
      }
    }
    if (state.host != Form::kNone)
      pinned_pending_.emplace(std::max(now_ns_, state.host_ready_ns),
                              form_bytes(storage, state.host));
    state.device = state.host = Form::kNone;
    // Bytes of a copy in flight are held until it ends.
    change(std::max({now_ns_, state.host_ready_ns, state.device_ready_ns}),
           storage,
           Place::kNone,
           0,
           0);
  }
  return {};
}

Status Engine::step(const Instruction& instruction) {
  if (instruction.kind == InstructionKind::kCompute) return compute(instruction.target, false);
  if (instruction.kind == InstructionKind::kRecompute) return compute(instruction.target, true);
  const std::uint32_t storage = instruction.target;
  if (storage >= states_.size()) return illegal("there is no storage " + std::to_string(storage));
  StorageState& state = states_[storage];
  const Storage& info = profile_.storages[storage];
  const std::string name = "storage " + std::to_string(storage);
  switch (instruction.kind) {
    case InstructionKind::kRetain:
      if (state.device != Form::kBytes || !info.freed_after.valid() ||
          info.freed_after.value < next_op_)
        return illegal(name + " is retained but not resident and alive");
      state.retained = true;
      return {};
    case InstructionKind::kDrop:
      if (state.device == Form::kNone) return illegal(name + " is dropped but not on the device");
      state.retained = false;
      wait_until(state.device_ready_ns, StallCause::kLatePrefetch, storage);
      give(form_bytes(storage, state.device), storage);
      state.device = Form::kNone;
      change(now_ns_, storage, Place::kNone, 0, 0);
      return {};
    case InstructionKind::kCompress: {
      if (state.device != Form::kBytes) return illegal(name + " is compressed but not resident");
      if (instruction.codec == Codec::kNone) return illegal(name + " is compressed with no codec");
      wait_until(state.device_ready_ns, StallCause::kLatePrefetch, storage);
      state.codec = instruction.codec;
      state.payload = payload_bytes(instruction.codec, info.tag.dtype, info.bytes);
      take(state.payload, storage);
      const std::int64_t begin_ns = now_ns_;
      const std::int64_t ns = device_.codec_ns(instruction.codec, info.tag.dtype, info.bytes);
      now_ns_ += ns;
      result_.codec_ns += ns;
      slice(Lane::kCompute, InstructionKind::kCompress, storage, begin_ns, now_ns_);
      give(info.bytes, storage);
      state.device = Form::kPayload;
      state.device_ready_ns = now_ns_;
      change(begin_ns, storage, Place::kResident, info.bytes + state.payload, 0);
      change(now_ns_, storage, Place::kCompressed, state.payload, 0);
      return {};
    }
    case InstructionKind::kDecompress: {
      if (state.device != Form::kPayload)
        return illegal(name + " is decompressed but its payload is not on the device");
      wait_until(state.device_ready_ns, StallCause::kLatePrefetch, storage);
      take(info.bytes, storage);
      const std::int64_t begin_ns = now_ns_;
      const std::int64_t ns = device_.codec_ns(state.codec, info.tag.dtype, info.bytes);
      now_ns_ += ns;
      result_.codec_ns += ns;
      slice(Lane::kCompute, InstructionKind::kDecompress, storage, begin_ns, now_ns_);
      give(state.payload, storage);
      state.device = Form::kBytes;
      state.device_ready_ns = now_ns_;
      change(begin_ns, storage, Place::kCompressed, info.bytes + state.payload, 0);
      change(now_ns_, storage, Place::kResident, info.bytes, 0);
      return {};
    }
    case InstructionKind::kOffload: {
      if (state.device == Form::kNone || state.host != Form::kNone)
        return illegal(name + " is offloaded but not on the device");
      const std::uint64_t bytes = form_bytes(storage, state.device);
      take_pinned(bytes);
      const std::int64_t begin_ns = std::max({now_ns_, offload_free_ns_, state.device_ready_ns});
      const std::int64_t end_ns = begin_ns + device_.offload_ns(bytes);
      offload_free_ns_ = end_ns;
      result_.offload_bytes += bytes;
      result_.offload_busy_ns += end_ns - begin_ns;
      slice(Lane::kOffloadCopy, InstructionKind::kOffload, storage, begin_ns, end_ns);
      state.host = state.device;
      state.device = Form::kNone;
      state.host_ready_ns = end_ns;
      give_at(end_ns, bytes, storage);
      change(now_ns_, storage, Place::kOffloading, bytes, bytes);
      change(end_ns, storage, Place::kOnHost, 0, bytes);
      return {};
    }
    case InstructionKind::kPrefetch: {
      if (state.host == Form::kNone || state.device != Form::kNone)
        return illegal(name + " is prefetched but not on the host");
      const std::uint64_t bytes = form_bytes(storage, state.host);
      take(bytes, storage);
      const std::int64_t begin_ns = std::max({now_ns_, prefetch_free_ns_, state.host_ready_ns});
      const std::int64_t end_ns = begin_ns + device_.prefetch_ns(bytes);
      prefetch_free_ns_ = end_ns;
      result_.prefetch_bytes += bytes;
      result_.prefetch_busy_ns += end_ns - begin_ns;
      slice(Lane::kPrefetchCopy, InstructionKind::kPrefetch, storage, begin_ns, end_ns);
      state.device = state.host;
      state.host = Form::kNone;
      state.device_ready_ns = end_ns;
      pinned_pending_.emplace(end_ns, bytes);
      const bool still_leaving =
          state.host_ready_ns > now_ns_;  // both copies hold device bytes until the offload ends
      change(now_ns_, storage, Place::kPrefetching, still_leaving ? 2 * bytes : bytes, bytes);
      if (still_leaving) change(state.host_ready_ns, storage, Place::kPrefetching, bytes, bytes);
      change(end_ns,
             storage,
             state.device == Form::kPayload ? Place::kCompressed : Place::kResident,
             bytes,
             0);
      return {};
    }
    default:
      return illegal("unknown kind " + std::to_string(static_cast<int>(instruction.kind)));
  }
}

Result<SimResult> Engine::run() {
  for (std::uint32_t i = 0; i < states_.size(); ++i) {
    const Storage& storage = profile_.storages[i];
    if (storage.created_by.valid()) continue;
    states_[i].device = Form::kBytes;
    take(storage.bytes, i);
    change(0, i, Place::kResident, storage.bytes, 0);
  }
  for (position_ = 0; position_ < plan_.program.size(); ++position_)
    SPW_RETURN_IF_ERROR(step(plan_.program[position_]));
  if (next_op_ != profile_.ops.size())
    return illegal("the program ends before op " + std::to_string(next_op_));
  result_.step_ns = std::max({now_ns_, offload_free_ns_, prefetch_free_ns_});
  if (result_.timeline) {
    // Offload ends and prefetch ends were written ahead of time; the order within one instant is
    // that of the program.
    std::stable_sort(result_.timeline->changes.begin(),
                     result_.timeline->changes.end(),
                     [](const PlaceChange& a, const PlaceChange& b) { return a.at_ns < b.at_ns; });
  }
  return std::move(result_);
}

}  // namespace

std::string_view name_of(StallCause cause) {
  return cause == StallCause::kMemory ? "memory" : "late prefetch";
}

std::string_view name_of(Place place) {
  constexpr std::array<std::string_view, kPlaceCount> kNames = {
      "none", "resident", "compressed", "offloading", "on host", "prefetching"};
  const auto i = static_cast<std::size_t>(place);
  return i < kNames.size() ? kNames[i] : kNames[0];
}

Result<SimResult> simulate(const Profile& profile,
                           const DeviceModel& device,
                           const Plan& plan,
                           const SimOptions& options) {
  return Engine(profile, device, plan, options).run();
}

std::vector<Holder> holders_at_min_budget(const Profile& profile,
                                          const DeviceModel& device,
                                          const Plan& plan,
                                          std::size_t count) {
  SimOptions options;
  const auto reference = simulate(profile, device, plan, options);
  if (!reference.ok()) return {};
  const std::uint64_t target_bytes = reference.value().min_budget_bytes;
  Engine engine(profile, device, plan, options);
  std::map<std::string, std::uint64_t> held;
  engine.on_instant = [&](std::uint64_t instant_bytes) {
    if (instant_bytes != target_bytes || !held.empty()) return;
    std::uint64_t named_bytes = 0;
    for (std::size_t i = 0; i < profile.storages.size(); ++i) {
      const StorageState& state = engine.states()[i];
      if (state.device == Form::kNone) continue;
      const Storage& storage = profile.storages[i];
      const std::uint64_t bytes = state.device == Form::kPayload ? state.payload : storage.bytes;
      std::string what(name_of(storage.tag.kind));
      if (storage.tag.kind == BufferKind::kActivation && storage.tag.layer != kNoLayer)
        what += " layer " + std::to_string(storage.tag.layer);
      held[what] += bytes;
      named_bytes += bytes;
    }
    if (instant_bytes > named_bytes)
      held["scratch and the allocation itself"] += instant_bytes - named_bytes;
  };
  (void)engine.run();
  std::vector<Holder> holders;
  for (const auto& [what, bytes] : held)
    if (bytes > 0) holders.push_back({what, bytes});
  std::stable_sort(holders.begin(), holders.end(), [](const Holder& a, const Holder& b) {
    return a.bytes > b.bytes;
  });
  if (holders.size() > count) holders.resize(count);
  return holders;
}

}  // namespace spillway
