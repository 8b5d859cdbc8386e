// SPDX-License-Identifier: Apache-2.0
// Test data for the outputs of a run: a made-up training step of `layers` layers with a plan that
// uses every action and a timeline worked out by the plainest rules. It is neither the planner nor
// the simulator; only its consistency matters.
#pragma once

#include "core/codec.hpp"
#include "integration/report/policy_result.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace spillway::test {

struct MadeUpRun {
  std::unique_ptr<Profile> profile = std::make_unique<Profile>();
  std::unique_ptr<ProfileSummary> summary = std::make_unique<ProfileSummary>();
  std::unique_ptr<DeviceModel> device = std::make_unique<DeviceModel>();
  RunContext context;  // points into the members above
  PolicyResult chosen;
  std::vector<PolicyResult> all;
  std::vector<TradeOffPoint> curve;
};

struct MadeUpOptions {
  std::uint32_t layers = 6;
  std::string hostile;  // appended to one tensor's name, one op's name, a frame and the model
};

namespace made_up {

inline constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
inline constexpr std::uint32_t kPerLayer = 4;  // activations, and ops per phase, of one layer
inline constexpr std::array<const char*, kPerLayer> kParts = {"norm", "qkv", "attention", "mlp"};
inline constexpr std::array<std::uint64_t, kPerLayer> kActivationBytes = {8, 24, 48, 32};  // MiB
inline constexpr std::array<std::int64_t, kPerLayer> kForwardNs = {
    90'000, 610'000, 820'000, 1'240'000};

inline OpTag op_tag(OpKind kind, Phase phase, std::uint16_t layer) {
  OpTag tag;
  tag.kind = kind;
  tag.phase = phase;
  tag.layer = layer;
  return tag;
}

inline Tag buffer_tag(BufferKind kind, Dtype dtype, Phase phase, std::uint16_t layer) {
  Tag tag;
  tag.kind = kind;
  tag.dtype = dtype;
  tag.phase = phase;
  tag.layer = layer;
  return tag;
}

/// Builds ops and storages; storage numbering: per layer one parameter, one gradient, one optimizer
/// state, then its activations.
class Builder {
 public:
  Builder(Profile& profile, const MadeUpOptions& options) : profile_(profile), options_(options) {
    profile_.source_format = "made-up";
    profile_.model = "toy-gpt" + options.hostile;
    profile_.gpu = "h200";
    profile_.times_from = "made up";
    profile_.step_number = 2;
    profile_.step_count = 4;
    profile_.can_recompute = true;
    profile_.inferred = {"phases come from the order of ops", "one gradient per parameter"};
    profile_.notes = {"the step has no data loader"};
    profile_.frames.push_back({});
  }

  void build() {
    const std::uint32_t layers = options_.layers;
    for (std::uint32_t i = 0; i < layers; ++i) {
      const auto layer = static_cast<std::uint16_t>(i);
      add_storage("layer" + std::to_string(i) + ".weight",
                  28 * kMiB,
                  buffer_tag(BufferKind::kParameter, Dtype::kBf16, Phase::kUnknown, layer),
                  "init");
      add_storage("layer" + std::to_string(i) + ".grad",
                  28 * kMiB,
                  buffer_tag(BufferKind::kGradient, Dtype::kBf16, Phase::kBackward, layer),
                  "backward");
      add_storage("layer" + std::to_string(i) + ".adam",
                  112 * kMiB,
                  buffer_tag(BufferKind::kOptimizer, Dtype::kFp32, Phase::kOptimizer, layer),
                  "init");
      for (std::uint32_t part = 0; part < kPerLayer; ++part)
        add_storage("layer" + std::to_string(i) + "." + kParts[part] +
                        (i == 1 && part == 2 ? options_.hostile : std::string()),
                    kActivationBytes[part] * kMiB,
                    buffer_tag(BufferKind::kActivation,
                               part == 2 ? Dtype::kFp32 : Dtype::kBf16,
                               Phase::kForward,
                               layer),
                    kParts[part]);
    }
    for (std::uint32_t i = 0; i < layers; ++i)
      for (std::uint32_t part = 0; part < kPerLayer; ++part) forward(i, part);
    for (std::uint32_t i = layers; i-- > 0;)
      for (std::uint32_t part = kPerLayer; part-- > 0;) backward(i, part);
    for (std::uint32_t i = 0; i < layers; ++i) optimizer(i);
    index_uses();
  }

  static std::uint32_t weight(std::uint32_t layer) { return layer * (3 + kPerLayer); }
  static std::uint32_t activation(std::uint32_t layer, std::uint32_t part) {
    return weight(layer) + 3 + part;
  }

 private:
  StackId frame(StackId parent, const std::string& text) {
    const StringId id = profile_.strings.intern(text);
    const auto key = std::make_pair(parent.value, id.value);
    const auto found = frames_.find(key);
    if (found != frames_.end()) return found->second;
    profile_.frames.push_back({parent, id});
    return frames_[key] = StackId(profile_.frames.size() - 1);
  }

  StackId stack(const std::string& where) {
    const StackId main = frame(StackId(0u), "/home/user/train.py:120 main");
    const StackId model = frame(main, "/home/user/model.py:88 forward" + options_.hostile);
    const StackId line =
        frame(model, "/home/user/layers.py:" + std::to_string(40 + where.size()) + " " + where);
    return frame(frame(line, "/usr/lib/python3/site-packages/torch/nn/functional.py:1 linear"),
                 "aten/native/Linear.cpp:10 at::linear");
  }

  void add_storage(const std::string& name,
                   std::uint64_t bytes,
                   Tag tag,
                   const std::string& where) {
    Storage storage;
    storage.bytes = bytes;
    storage.tag = tag;
    storage.name = profile_.strings.intern(name);
    storage.stack = stack(where);
    profile_.storages.push_back(storage);
    profile_.tensors.push_back({StorageId(profile_.storages.size() - 1), OpId()});
  }

  void add_op(const std::string& name,
              OpTag tag,
              std::int64_t ns,
              std::uint64_t workspace,
              const std::vector<std::pair<std::uint32_t, std::uint32_t>>& uses) {
    Op op;
    op.tag = tag;
    op.duration_ns = static_cast<std::uint64_t>(ns);
    op.workspace_bytes = workspace;
    op.name = profile_.strings.intern(name);
    op.uses_begin = static_cast<std::uint32_t>(profile_.uses.size());
    const OpId id(profile_.ops.size());
    for (const auto& [storage, access] : uses) {
      profile_.uses.emplace_back(TensorId(storage), access);
      if (access != Use::kCreate) continue;
      profile_.storages[storage].created_by = id;
      profile_.tensors[storage].created_by = id;
    }
    op.uses_end = static_cast<std::uint32_t>(profile_.uses.size());
    profile_.ops.push_back(op);
  }

  void forward(std::uint32_t i, std::uint32_t part) {
    std::vector<std::pair<std::uint32_t, std::uint32_t>> uses;
    if (part > 0) uses.emplace_back(activation(i, part - 1), Use::kRead);
    if (part == 0 && i > 0) uses.emplace_back(activation(i - 1, kPerLayer - 1), Use::kRead);
    uses.emplace_back(weight(i), Use::kRead);
    uses.emplace_back(activation(i, part), Use::kCreate);
    const OpKind kind = part == 0   ? OpKind::kNorm
                        : part == 2 ? OpKind::kAttention
                                    : OpKind::kMatmul;
    add_op(std::string(kParts[part]) + (i == 1 && part == 1 ? options_.hostile : std::string()),
           op_tag(kind, Phase::kForward, static_cast<std::uint16_t>(i)),
           kForwardNs[part],
           part == 2 ? 16 * kMiB : 0,
           uses);
  }

  void backward(std::uint32_t i, std::uint32_t part) {
    std::vector<std::pair<std::uint32_t, std::uint32_t>> uses = {{activation(i, part), Use::kRead},
                                                                 {weight(i), Use::kRead}};
    if (part == kPerLayer - 1) uses.emplace_back(weight(i) + 1, Use::kCreate);
    add_op(std::string(kParts[part]) + ".backward",
           op_tag(OpKind::kMatmul, Phase::kBackward, static_cast<std::uint16_t>(i)),
           2 * kForwardNs[part],
           part == 2 ? 24 * kMiB : 0,
           uses);
    profile_.storages[activation(i, part)].freed_after = OpId(profile_.ops.size() - 1);
  }

  void optimizer(std::uint32_t i) {
    add_op("adam",
           op_tag(OpKind::kOptimizer, Phase::kOptimizer, static_cast<std::uint16_t>(i)),
           150'000,
           0,
           {{weight(i), Use::kWrite}, {weight(i) + 1, Use::kRead}, {weight(i) + 2, Use::kWrite}});
    profile_.storages[weight(i) + 1].freed_after = OpId(profile_.ops.size() - 1);
  }

  void index_uses() {
    std::vector<std::vector<std::uint32_t>> ops_of(profile_.storages.size());
    for (std::uint32_t op = 0; op < profile_.ops.size(); ++op)
      for (const Use use : profile_.uses_of(profile_.ops[op])) {
        auto& list = ops_of[profile_.storage_of(use).index()];
        if (list.empty() || list.back() != op) list.push_back(op);
      }
    for (std::size_t i = 0; i < ops_of.size(); ++i) {
      Storage& storage = profile_.storages[i];
      storage.uses_begin = static_cast<std::uint32_t>(profile_.storage_uses.size());
      profile_.storage_uses.insert(profile_.storage_uses.end(), ops_of[i].begin(), ops_of[i].end());
      storage.uses_end = static_cast<std::uint32_t>(profile_.storage_uses.size());
    }
  }

  Profile& profile_;
  const MadeUpOptions& options_;
  std::map<std::pair<std::uint32_t, std::uint32_t>, StackId> frames_;
};

/// Walks the ops once with one compute stream and two copy engines. Actions go by (layer + part) %
/// 4; the last layer is kept.
class Player {
 public:
  Player(const Profile& profile,
         const DeviceModel& device,
         std::uint32_t layers,
         PolicyResult& result)
      : profile_(profile), device_(device), layers_(layers), result_(result) {}

  void play() {
    Plan& plan = result_.plan;
    plan.policy = result_.policy;
    plan.budget_bytes = result_.budget_bytes;
    plan.decisions.assign(profile_.storages.size(), {});
    ready_.assign(profile_.storages.size(), 0);
    for (std::uint32_t i = 0; i + 1 < layers_; ++i)
      for (std::uint32_t part = 0; part < kPerLayer; ++part) {
        Decision& decision = plan.decisions[Builder::activation(i, part)];
        decision.action = static_cast<Action>((i + part) % 4);
        if (decision.action == Action::kCompress)
          decision.codec = part == 2 ? Codec::kMask1 : Codec::kLossless12;
      }
    for (std::uint32_t s = 0; s < profile_.storages.size(); ++s)
      if (!profile_.storages[s].created_by.valid())
        change(0, s, Place::kResident, profile_.storages[s].bytes, 0);
    const std::uint32_t forward_ops = layers_ * kPerLayer;
    for (std::uint32_t op = 0; op < profile_.ops.size(); ++op) {
      if (op >= forward_ops && op < 2 * forward_ops) bring_back(op, forward_ops);
      compute(
          InstructionKind::kCompute, op, static_cast<std::int64_t>(profile_.ops[op].duration_ns));
      for (const Use use : profile_.uses_of(profile_.ops[op]))
        if (use.creates()) {
          const std::uint32_t s = profile_.storage_of(use).value;
          change(begin_ns_, s, Place::kResident, profile_.storages[s].bytes, 0);
        }
      if (op < forward_ops && op > 0)
        evict(op - 1);  // one op later: the next op reads the activation
      for (std::uint32_t s = 0; s < profile_.storages.size(); ++s)
        if (profile_.storages[s].freed_after == OpId(op)) change(now_ns_, s, Place::kNone, 0, 0);
    }
    finish();
  }

 private:
  [[nodiscard]] std::uint32_t activation_of_forward_op(std::uint32_t op) const {
    return Builder::activation(op / kPerLayer, op % kPerLayer);
  }

  void change(std::int64_t at,
              std::uint32_t s,
              Place place,
              std::uint64_t device_bytes,
              std::uint64_t host_bytes) {
    timeline_.changes.push_back({at, s, place, device_bytes, host_bytes});
  }

  void compute(InstructionKind kind, std::uint32_t target, std::int64_t ns) {
    begin_ns_ = now_ns_;
    now_ns_ += ns;
    timeline_.slices.push_back({Lane::kCompute, kind, target, begin_ns_, now_ns_});
    result_.plan.program.push_back({kind, Codec::kNone, 0, target});
    SimResult& sim = result_.sim;
    (kind == InstructionKind::kCompute     ? sim.compute_ns
     : kind == InstructionKind::kRecompute ? sim.recompute_ns
                                           : sim.codec_ns) += ns;
  }

  void evict(std::uint32_t op) {
    const std::uint32_t s = activation_of_forward_op(op);
    const Storage& storage = profile_.storages[s];
    const Decision decision = result_.plan.decisions[s];
    if (decision.action == Action::kCompress) {
      compute(InstructionKind::kCompress,
              s,
              device_.codec_ns(decision.codec, storage.tag.dtype, storage.bytes));
      change(now_ns_,
             s,
             Place::kCompressed,
             payload_bytes(decision.codec, storage.tag.dtype, storage.bytes),
             0);
    } else if (decision.action == Action::kOffload) {
      const std::int64_t begin = std::max(now_ns_, offload_free_ns_);
      offload_free_ns_ = begin + device_.offload_ns(storage.bytes);
      timeline_.slices.push_back(
          {Lane::kOffloadCopy, InstructionKind::kOffload, s, begin, offload_free_ns_});
      result_.plan.program.push_back({InstructionKind::kOffload, Codec::kNone, 0, s});
      change(now_ns_, s, Place::kOffloading, storage.bytes, storage.bytes);
      change(offload_free_ns_, s, Place::kOnHost, 0, storage.bytes);
      ready_[s] = offload_free_ns_;
      result_.sim.offload_bytes += storage.bytes;
      result_.sim.offload_busy_ns += offload_free_ns_ - begin;
    } else if (decision.action == Action::kRecompute) {
      result_.plan.program.push_back({InstructionKind::kDrop, Codec::kNone, 0, s});
      change(now_ns_, s, Place::kNone, 0, 0);
    }
  }

  void bring_back(std::uint32_t op, std::uint32_t forward_ops) {
    const auto forward_op_of = [&](std::uint32_t backward_op) {
      return 2 * forward_ops - 1 - backward_op;
    };
    constexpr std::uint32_t kAhead = 2;  // too short on purpose: some prefetches come late
    if (op == forward_ops)
      for (std::uint32_t i = 0; i < kAhead; ++i)
        prefetch(activation_of_forward_op(forward_op_of(op + i)));
    if (op + kAhead < 2 * forward_ops)
      prefetch(activation_of_forward_op(forward_op_of(op + kAhead)));
    const std::uint32_t needed = activation_of_forward_op(forward_op_of(op));
    const Storage& storage = profile_.storages[needed];
    const Decision decision = result_.plan.decisions[needed];
    if (decision.action == Action::kCompress) {
      compute(InstructionKind::kDecompress,
              needed,
              device_.codec_ns(decision.codec, storage.tag.dtype, storage.bytes));
      change(begin_ns_, needed, Place::kResident, storage.bytes, 0);
    } else if (decision.action == Action::kRecompute) {
      const std::uint32_t again = storage.created_by.value;
      compute(InstructionKind::kRecompute,
              again,
              static_cast<std::int64_t>(profile_.ops[again].duration_ns));
      change(begin_ns_, needed, Place::kResident, storage.bytes, 0);
    } else if (decision.action == Action::kOffload && ready_[needed] > now_ns_) {
      stall(StallCause::kLatePrefetch, needed, op, ready_[needed] - now_ns_);
    }
    if (op % 9 == 4)
      stall(StallCause::kMemory, needed, op, 40'000 + 1000 * static_cast<std::int64_t>(op));
  }

  void prefetch(std::uint32_t s) {
    if (result_.plan.decisions[s].action != Action::kOffload) return;
    const Storage& storage = profile_.storages[s];
    const std::int64_t begin = std::max({now_ns_, prefetch_free_ns_, ready_[s]});
    prefetch_free_ns_ = begin + device_.prefetch_ns(storage.bytes);
    timeline_.slices.push_back(
        {Lane::kPrefetchCopy, InstructionKind::kPrefetch, s, begin, prefetch_free_ns_});
    result_.plan.program.push_back({InstructionKind::kPrefetch, Codec::kNone, 0, s});
    change(std::max(now_ns_, ready_[s]), s, Place::kPrefetching, storage.bytes, storage.bytes);
    change(prefetch_free_ns_, s, Place::kResident, storage.bytes, 0);
    ready_[s] = prefetch_free_ns_;
    result_.sim.prefetch_bytes += storage.bytes;
    result_.sim.prefetch_busy_ns += prefetch_free_ns_ - begin;
  }

  void stall(StallCause cause, std::uint32_t s, std::uint32_t op, std::int64_t ns) {
    timeline_.stalls.push_back({cause, s, op, now_ns_, ns});
    result_.sim.stall_ns[static_cast<std::size_t>(cause)] += ns;
    now_ns_ += ns;
  }

  void finish() {
    const auto by_time = [](const PlaceChange& a, const PlaceChange& b) {
      return a.at_ns < b.at_ns;
    };
    std::stable_sort(timeline_.changes.begin(), timeline_.changes.end(), by_time);
    const auto by_lane = [](const Slice& a, const Slice& b) {
      return std::make_pair(a.lane, a.begin_ns) < std::make_pair(b.lane, b.begin_ns);
    };
    std::stable_sort(timeline_.slices.begin(), timeline_.slices.end(), by_lane);
    SimResult& sim = result_.sim;
    sim.step_ns = std::max({now_ns_, offload_free_ns_, prefetch_free_ns_});
    std::vector<std::uint64_t> held(profile_.storages.size(), 0);
    std::uint64_t total = 0;
    std::uint64_t pinned = 0;
    std::vector<std::uint64_t> host(profile_.storages.size(), 0);
    for (const PlaceChange& c : timeline_.changes) {
      total += c.device_bytes - held[c.storage];
      pinned += c.host_bytes - host[c.storage];
      held[c.storage] = c.device_bytes;
      host[c.storage] = c.host_bytes;
      sim.pinned_peak_bytes = std::max(sim.pinned_peak_bytes, pinned);
      if (total > sim.peak_bytes) {
        sim.peak_bytes = total;
        sim.peak_ns = c.at_ns;
      }
    }
    for (const Slice& slice : timeline_.slices)
      if (slice.kind == InstructionKind::kCompute && slice.begin_ns <= sim.peak_ns &&
          sim.peak_ns < slice.end_ns)
        sim.peak_op = slice.target;
    sim.peak_bytes += profile_.ops[sim.peak_op].workspace_bytes;
    sim.min_budget_bytes = sim.peak_bytes;
    sim.timeline = std::move(timeline_);
  }

  const Profile& profile_;
  const DeviceModel& device_;
  std::uint32_t layers_;
  PolicyResult& result_;
  Timeline timeline_;
  std::vector<std::int64_t> ready_;  // per storage: when its last copy ends
  std::int64_t now_ns_ = 0;
  std::int64_t begin_ns_ = 0;
  std::int64_t offload_free_ns_ = 0;
  std::int64_t prefetch_free_ns_ = 0;
};

inline PolicyResult other_policy(const std::string& name,
                                 std::uint64_t peak,
                                 std::int64_t step,
                                 bool feasible) {
  PolicyResult result;
  result.policy = name;
  result.feasible = feasible;
  result.min_budget_bytes = peak;
  if (!feasible) {
    result.infeasible_at = "attention.backward";
    result.holders = {{"optimizer", 672 * kMiB}, {"parameter", 168 * kMiB}};
    return result;
  }
  result.sim.peak_bytes = peak;
  result.sim.step_ns = step;
  return result;
}

}  // namespace made_up

inline MadeUpRun made_up_run(const MadeUpOptions& options = {}) {
  MadeUpRun run;
  made_up::Builder(*run.profile, options).build();
  const Profile& profile = *run.profile;

  run.device->name = "h200";
  run.device->calibration = "published";
  run.device->link_source = "made up";
  run.device->memory_bytes = std::uint64_t{141} << 30;
  run.device->d2h_gbps = 14;
  run.device->h2d_gbps = 14;
  run.device->copy_latency_ns = 8000;
  run.device->hbm_gbps = 3500;
  run.device->launch_ns = 3000;

  ProfileSummary& summary = *run.summary;
  std::uint64_t persistent = 0;
  for (const Storage& storage : profile.storages) {
    if (storage.tag.kind == BufferKind::kActivation) {
      summary.activation_bytes += storage.bytes;
      ++summary.movable_count;
    } else if (!storage.created_by.valid()) {
      persistent += storage.bytes;
    }
  }
  summary.persistent_bytes = persistent;
  summary.unmovable_bytes = persistent + 120 * made_up::kMiB;
  summary.keep_all_peak_bytes = persistent + summary.activation_bytes + 52 * made_up::kMiB;
  summary.last_forward_op = options.layers * made_up::kPerLayer - 1;
  summary.keep_all_peak_op = summary.last_forward_op + 1;
  for (const Op& op : profile.ops) summary.compute_ns += static_cast<std::int64_t>(op.duration_ns);

  RunContext& context = run.context;
  context.trace = "traces/toy-gpt.spwt";
  context.profile = run.profile.get();
  context.summary = run.summary.get();
  context.device = run.device.get();
  context.keep_all_step_ns = summary.compute_ns;
  context.times_from = "made up";
  context.link_from = "made up";
  context.warning = "compute times and link come from different machines";
  context.command = "spillway replay traces/toy-gpt.spwt --budget 60%act --html report.html";

  PolicyResult& chosen = run.chosen;
  chosen.policy = "joint";
  chosen.feasible = true;
  made_up::Player(profile, *run.device, options.layers, chosen).play();
  chosen.budget_bytes = chosen.sim.peak_bytes + 10 * made_up::kMiB;
  chosen.min_budget_bytes = chosen.sim.min_budget_bytes;
  chosen.plan.budget_bytes = chosen.budget_bytes;
  chosen.bound_ns = context.keep_all_step_ns + context.keep_all_step_ns / 50;
  chosen.plan_ms = 3.25;
  for (std::size_t i = 0; i < profile.storages.size(); ++i) {
    if (profile.storages[i].tag.kind != BufferKind::kActivation) continue;
    const std::uint64_t bytes = profile.storages[i].bytes;
    switch (chosen.plan.decisions[i].action) {
      case Action::kKeep:
        chosen.bytes.keep += bytes;
        break;
      case Action::kCompress:
        chosen.bytes.compress += bytes;
        break;
      case Action::kOffload:
        chosen.bytes.offload += bytes;
        break;
      case Action::kRecompute:
        chosen.bytes.recompute += bytes;
        break;
    }
  }

  const std::uint64_t peak = summary.keep_all_peak_bytes;
  const std::int64_t step = context.keep_all_step_ns;
  run.all = {made_up::other_policy("keep-all", peak, step, true),
             made_up::other_policy("chen-sqrt", peak * 7 / 10, step * 13 / 10, true),
             made_up::other_policy("full", peak * 6 / 10, step * 133 / 100, true),
             made_up::other_policy("offload-all", peak * 62 / 100, step * 17 / 10, true),
             made_up::other_policy("every-k", peak * 8 / 10, 0, false)};
  run.all.front().bytes.keep = summary.activation_bytes;
  run.all.push_back(chosen);
  run.all.back().sim.timeline.reset();
  for (int i = 0; i < 8; ++i)
    run.curve.push_back({"joint",
                         peak * static_cast<std::uint64_t>(100 - 5 * i) / 100,
                         peak * static_cast<std::uint64_t>(100 - 5 * i) / 100 - made_up::kMiB,
                         step + step * i * i / 300});
  return run;
}

}  // namespace spillway::test
