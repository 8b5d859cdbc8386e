// SPDX-License-Identifier: Apache-2.0
// Bytes are a sum of what is open and a list of what is about to end; every check adds it up
// again.
#include "policy/validator.hpp"

#include <algorithm>
#include <array>
#include <limits>

namespace spillway {
namespace {

constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

/// Bytes of one kind of memory: what is held until further notice, and what ends at a known time.
class Ledger {
 public:
  void open(std::uint64_t bytes) { open_bytes_ += bytes; }
  /// What was opened ends at `at_ns`.
  void close(std::uint64_t bytes, std::int64_t at_ns) {
    open_bytes_ -= bytes;
    ending_.push_back({at_ns, bytes});
  }
  /// Adds up everything that has not ended at `now_ns`; what has is forgotten.
  std::uint64_t held(std::int64_t now_ns) {
    std::uint64_t sum = open_bytes_;
    std::size_t kept = 0;
    for (const Ending& ending : ending_) {
      if (ending.at_ns <= now_ns) continue;
      sum += ending.bytes;
      ending_[kept++] = ending;
    }
    ending_.resize(kept);
    return sum;
  }
  /// When the next bytes end after `now_ns`; kNever when none do.
  std::int64_t next_end_ns(std::int64_t now_ns) const {
    std::int64_t next_ns = kNever;
    for (const Ending& ending : ending_)
      if (ending.at_ns > now_ns) next_ns = std::min(next_ns, ending.at_ns);
    return next_ns;
  }

 private:
  struct Ending {
    std::int64_t at_ns;
    std::uint64_t bytes;
  };
  std::uint64_t open_bytes_ = 0;
  std::vector<Ending> ending_;
};

struct Content {
  bool on_device = false;
  bool encoded = false;  // what exists is the payload
  bool on_host = false;
  bool dropped = false;   // existed, exists nowhere now
  bool over = false;      // its life in the step has ended
  bool lossy = false;     // went through a lossy codec
  bool outlives = false;  // the plan drops it, not the step
  Codec codec = Codec::kNone;
  std::int64_t usable_ns = 0;
  std::int64_t host_ns = 0;
  std::uint32_t version = 0;
};

/// What the program did to a storage while it lived.
struct Took {
  bool drop = false;
  bool offload = false;
  std::array<bool, kCodecCount> codec = {};
};

class Judge {
 public:
  Judge(const Profile& profile,
        const DeviceModel& device,
        const Plan& plan,
        const ValidateOptions& options)
      : profile_(profile),
        device_(device),
        plan_(plan),
        options_(options),
        contents_(profile.storages.size()),
        took_(profile.storages.size()) {
    made_by_.resize(profile.ops.size());
    ends_after_.resize(profile.ops.size());
    for (std::uint32_t i = 0; i < profile.storages.size(); ++i) {
      const Storage& storage = profile.storages[i];
      if (storage.created_by.valid()) made_by_[storage.created_by.index()].push_back(i);
      if (storage.freed_after.valid()) ends_after_[storage.freed_after.index()].push_back(i);
    }
    seen_versions_.resize(profile.uses.size(), 0);
  }

  Verdict run() {
    for (std::uint32_t i = 0; i < contents_.size(); ++i)
      if (!profile_.storages[i].created_by.valid()) place(i, profile_.storages[i].bytes);
    for (at_ = 0;
         at_ < plan_.program.size() && verdict_.violations.size() < options_.max_violations;
         ++at_) {
      const Instruction& instruction = plan_.program[at_];
      const bool on_op = instruction.kind == InstructionKind::kCompute ||
                         instruction.kind == InstructionKind::kRecompute;
      if (instruction.target >= (on_op ? profile_.ops.size() : profile_.storages.size())) {
        breaks(Law::kIllegalTransition,
               "target " + std::to_string(instruction.target) + " does not exist");
        break;
      }
      on_op ? run_op(instruction) : move(instruction);
    }
    finish();
    return std::move(verdict_);
  }

 private:
  void breaks(Law law, const std::string& text) {
    if (verdict_.violations.size() < options_.max_violations)
      verdict_.violations.push_back({law, at_, text});
  }
  std::string name(std::uint32_t storage) const {
    std::string text = "storage " + std::to_string(storage);
    const std::string_view given = profile_.text(profile_.storages[storage].name);
    return given.empty() ? text : text + " (" + std::string(given) + ")";
  }
  std::uint64_t size_of(std::uint32_t storage) const {
    const Storage& info = profile_.storages[storage];
    return contents_[storage].encoded
               ? payload_bytes(contents_[storage].codec, info.tag.dtype, info.bytes)
               : info.bytes;
  }

  // Waits, as the stream would, until `bytes` more fit; then holds them until further notice.
  void hold(std::uint64_t bytes, std::uint32_t storage) {
    std::uint64_t held = on_device_.held(now_ns_);
    while (options_.budget_bytes != 0 && held + bytes > options_.budget_bytes) {
      const std::int64_t next_ns = on_device_.next_end_ns(now_ns_);
      if (next_ns == kNever) {
        breaks(Law::kOverBudget,
               std::to_string(held + bytes) + " bytes are needed for " +
                   (storage < contents_.size() ? name(storage) : std::string("scratch")) +
                   ", the budget is " + std::to_string(options_.budget_bytes));
        break;
      }
      now_ns_ = next_ns;
      held = on_device_.held(now_ns_);
    }
    verdict_.peak_bytes = std::max(verdict_.peak_bytes, held + bytes);
    on_device_.open(bytes);
  }

  void place(std::uint32_t storage, std::uint64_t bytes) {
    Content& content = contents_[storage];
    if (bytes > 0) hold(bytes, storage);
    content.on_device = true;
    content.dropped = false;
    content.usable_ns = now_ns_;
  }

  void release(std::uint32_t storage, std::int64_t at_ns) {
    on_device_.close(size_of(storage), at_ns);
    contents_[storage].on_device = false;
  }

  void wait_for(std::uint32_t storage) {
    now_ns_ = std::max(now_ns_, contents_[storage].usable_ns);
  }

  bool may_run_again(const Op& op) const {
    const bool random = op.tag.has(kOpRng) && !op.tag.has(kOpRngRestorable);
    return !random && !op.tag.has(kOpCollective) && !op.tag.has(kOpInPlace) &&
           !op.tag.has(kOpNeverRecompute) && !op.tag.has(kOpInferred);
  }

  void run_op(const Instruction& instruction) {
    const bool again = instruction.kind == InstructionKind::kRecompute;
    const Op& op = profile_.ops[instruction.target];
    const std::string what =
        "op " + std::to_string(instruction.target) + " " + std::string(profile_.text(op.name));
    if (!again && instruction.target != next_op_) {
      breaks(Law::kEveryOpOnceInOrder,
             "expected op " + std::to_string(next_op_) + ", found " + what);
      next_op_ = instruction.target;
    }
    if (!again) ++next_op_;
    if (again && (!may_run_again(op) || instruction.target >= next_op_))
      breaks(Law::kForbiddenRecompute, what);
    for (std::uint32_t u = op.uses_begin; u < op.uses_end; ++u) {
      const Use use = profile_.uses[u];
      const std::uint32_t storage = profile_.tensors[use.tensor().index()].storage.value;
      const bool root_output = use.creates() && use.tensor().value == storage;
      if (root_output) continue;
      Content& content = contents_[storage];
      if (!content.on_device || content.encoded) {
        breaks(Law::kInputResident,
               what + " uses " + name(storage) + (content.dropped ? ", which was dropped" : ""));
        continue;
      }
      wait_for(storage);
      if (again && content.lossy)
        breaks(Law::kLossyIntoExact, what + " is rebuilt from " + name(storage));
      if (again && use.writes())
        breaks(Law::kForbiddenRecompute, what + " writes " + name(storage));
      if (again && seen_versions_[u] != content.version)
        breaks(Law::kForbiddenRecompute, what + ": " + name(storage) + " was written since it ran");
      if (!again) {
        seen_versions_[u] = content.version;
        if (use.writes()) ++content.version;
      }
    }
    std::uint64_t scratch = op.workspace_bytes;
    for (const std::uint32_t storage : made_by_[instruction.target]) {
      const Content& content = contents_[storage];
      if (again && (content.on_device || content.on_host)) {
        scratch += profile_.storages[storage].bytes;
        continue;
      }
      if (again && !content.over &&
          (profile_.storages[storage].tag.has(kNeverRecompute) ||
           profile_.storages[storage].tag.has(kContainsCollective)))
        breaks(Law::kForbiddenRecompute, what + " would rebuild " + name(storage));
      if (again && content.version != 0)
        breaks(Law::kForbiddenRecompute,
               what + " would rebuild " + name(storage) + " without what was written since");
      place(storage, profile_.storages[storage].bytes);
      contents_[storage].encoded = contents_[storage].lossy = false;
    }
    if (scratch > 0) hold(scratch, StorageId::kNoneValue);
    now_ns_ += static_cast<std::int64_t>(op.duration_ns);
    on_device_.close(scratch, now_ns_);
    if (again) return;
    for (const std::uint32_t storage : ends_after_[instruction.target]) {
      Content& content = contents_[storage];
      if (content.outlives && content.on_device && !content.encoded) {
        content.over = true;
        continue;
      }
      if (content.on_device) release(storage, std::max(now_ns_, content.usable_ns));
      if (content.on_host) on_host_.close(size_of(storage), std::max(now_ns_, content.host_ns));
      content.on_host = content.dropped = false;
      content.over = true;
    }
  }

  void retain(std::uint32_t storage) {
    const Storage& info = profile_.storages[storage];
    const BufferKind kind = info.tag.kind;
    if (!info.created_by.valid() || kind == BufferKind::kParameter ||
        kind == BufferKind::kGradient || kind == BufferKind::kOptimizer ||
        kind == BufferKind::kConstant)
      return breaks(Law::kUnmovableMoved, name(storage) + " is retained");
    Content& content = contents_[storage];
    if (content.over || !content.on_device || content.encoded || !info.freed_after.valid())
      return breaks(Law::kIllegalTransition, name(storage) + " is retained but not resident");
    content.outlives = true;
  }

  void move(const Instruction& instruction) {
    const std::uint32_t storage = instruction.target;
    Content& content = contents_[storage];
    const Storage& info = profile_.storages[storage];
    if (instruction.kind == InstructionKind::kRetain) return retain(storage);
    // A storage whose life is over is on the device again only as a step of a recompute chain; it
    // may go at once.
    const bool movable = info.tag.kind == BufferKind::kActivation && info.created_by.valid();
    if (!movable && !(content.over && instruction.kind == InstructionKind::kDrop))
      return breaks(Law::kUnmovableMoved,
                    name(storage) + " is a " + std::string(name_of(info.tag.kind)));
    const auto illegal = [&](const char* why) {
      breaks(Law::kIllegalTransition, name(storage) + " " + why);
    };
    switch (instruction.kind) {
      case InstructionKind::kDrop:
        if (!content.on_device) return illegal("is dropped but not on the device");
        wait_for(storage);
        release(storage, now_ns_);
        took_[storage].drop = took_[storage].drop || !content.over;
        content.dropped = !content.over;
        content.encoded = content.outlives = false;
        return;
      case InstructionKind::kCompress: {
        if (!content.on_device || content.encoded) return illegal("is compressed but not resident");
        if (!is_lossless(instruction.codec) &&
            (!options_.allow_lossy || info.tag.has(kExactRequired)))
          return breaks(
              Law::kLossyIntoExact,
              name(storage) + " is compressed by " + std::string(name_of(instruction.codec)));
        if (!codec_applies(instruction.codec, info.tag, true))
          return illegal("takes no such codec");
        wait_for(storage);
        const std::uint64_t payload = payload_bytes(instruction.codec, info.tag.dtype, info.bytes);
        hold(payload, storage);
        now_ns_ += device_.codec_ns(instruction.codec, info.tag.dtype, info.bytes);
        release(storage, now_ns_);
        content.on_device = content.encoded = true;
        content.codec = instruction.codec;
        took_[storage].codec[static_cast<std::size_t>(instruction.codec)] = true;
        content.lossy = content.lossy || !keeps_values(instruction.codec, info.tag);
        content.usable_ns = now_ns_;
        return;
      }
      case InstructionKind::kDecompress: {
        if (!content.on_device || !content.encoded)
          return illegal("is decompressed but not compressed on the device");
        wait_for(storage);
        hold(info.bytes, storage);
        now_ns_ += device_.codec_ns(content.codec, info.tag.dtype, info.bytes);
        release(storage, now_ns_);
        content.on_device = true;
        content.encoded = false;
        content.usable_ns = now_ns_;
        return;
      }
      case InstructionKind::kOffload: {
        if (!content.on_device || content.on_host)
          return illegal("is offloaded but not on the device");
        const std::uint64_t bytes = size_of(storage);
        const std::int64_t begin_ns = std::max({now_ns_, out_free_ns_, content.usable_ns});
        out_free_ns_ = begin_ns + device_.offload_ns(bytes);
        on_host_.open(bytes);
        const std::uint64_t pinned = on_host_.held(now_ns_);
        if (options_.pinned_bytes != 0 && pinned > options_.pinned_bytes)
          breaks(Law::kPinnedOverBudget,
                 name(storage) + ": " + std::to_string(pinned) + " pinned bytes");
        release(storage, out_free_ns_);
        took_[storage].offload = true;
        content.on_host = true;
        content.host_ns = out_free_ns_;
        return;
      }
      case InstructionKind::kPrefetch: {
        if (!content.on_host) return illegal("is prefetched but not on the host");
        const std::uint64_t bytes = size_of(storage);
        const std::int64_t host_ns = content.host_ns;
        const bool encoded = content.encoded;
        place(storage, bytes);
        const std::int64_t begin_ns = std::max({now_ns_, in_free_ns_, host_ns});
        in_free_ns_ = begin_ns + device_.prefetch_ns(bytes);
        content.usable_ns = in_free_ns_;
        content.encoded = encoded;
        content.on_host = false;
        on_host_.close(bytes, in_free_ns_);
        return;
      }
      default:
        return illegal("meets an unknown instruction");
    }
  }

  void finish() {
    verdict_.step_ns = std::max({now_ns_, out_free_ns_, in_free_ns_});
    at_ = plan_.program.size();
    if (next_op_ != profile_.ops.size())
      breaks(Law::kEveryOpOnceInOrder, "the program ends before op " + std::to_string(next_op_));
    for (std::uint32_t i = 0; i < contents_.size(); ++i) {
      const Storage& storage = profile_.storages[i];
      if (!storage.freed_after.valid() && !contents_[i].on_device && !contents_[i].on_host)
        breaks(Law::kContentLost, name(i) + " should outlive the step");
      if (contents_[i].over && contents_[i].on_device)
        breaks(Law::kIllegalTransition, name(i) + " is on the device after its life");
    }
    check_decisions();
  }

  // Every storage that moved says so, with an action that the program took; no other does.
  void check_decisions() {
    if (plan_.decisions.size() != profile_.storages.size())
      return breaks(Law::kDecisionMismatch,
                    std::to_string(plan_.decisions.size()) + " decisions for " +
                        std::to_string(profile_.storages.size()) + " storages");
    for (std::uint32_t i = 0; i < took_.size(); ++i) {
      const Decision& decision = plan_.decisions[i];
      const Took& t = took_[i];
      const bool any_codec = std::find(t.codec.begin(), t.codec.end(), true) != t.codec.end();
      const auto codec = static_cast<std::size_t>(decision.codec);
      bool agrees = false;
      switch (decision.action) {
        case Action::kKeep:
          agrees = !t.drop && !t.offload && !any_codec;
          break;
        case Action::kCompress:
          agrees = codec < t.codec.size() && t.codec[codec];
          break;
        case Action::kOffload:
          agrees = t.offload &&
                   (decision.codec == Codec::kNone || (codec < t.codec.size() && t.codec[codec]));
          break;
        case Action::kRecompute:
          agrees = t.drop;
          break;
      }
      if (!agrees)
        breaks(Law::kDecisionMismatch,
               name(i) + " is decided " + std::string(name_of(decision.action)));
    }
  }

  const Profile& profile_;
  const DeviceModel& device_;
  const Plan& plan_;
  const ValidateOptions& options_;
  std::vector<Content> contents_;
  std::vector<Took> took_;
  std::vector<std::vector<std::uint32_t>> made_by_;
  std::vector<std::vector<std::uint32_t>> ends_after_;
  std::vector<std::uint32_t> seen_versions_;  // per use: the input's version when the op first ran
  Ledger on_device_;
  Ledger on_host_;
  std::size_t at_ = 0;
  std::uint32_t next_op_ = 0;
  std::int64_t now_ns_ = 0;
  std::int64_t out_free_ns_ = 0;
  std::int64_t in_free_ns_ = 0;
  Verdict verdict_;
};

}  // namespace

std::string_view name_of(Law law) {
  switch (law) {
    case Law::kEveryOpOnceInOrder:
      return "every op once, in order";
    case Law::kInputResident:
      return "used while not resident";
    case Law::kOverBudget:
      return "over budget";
    case Law::kUnmovableMoved:
      return "unmovable storage moved";
    case Law::kForbiddenRecompute:
      return "forbidden recompute";
    case Law::kLossyIntoExact:
      return "lossy where exact is required";
    case Law::kContentLost:
      return "content lost";
    case Law::kCopyEngineOverlap:
      return "copy engine over capacity";
    case Law::kPinnedOverBudget:
      return "pinned memory over budget";
    case Law::kIllegalTransition:
      return "illegal transition";
    case Law::kDecisionMismatch:
      return "decision does not match the program";
  }
  return "unknown law";
}

Verdict validate(const Profile& profile,
                 const DeviceModel& device,
                 const Plan& plan,
                 const ValidateOptions& options) {
  return Judge(profile, device, plan, options).run();
}

Verdict validate_timeline(const Profile& profile,
                          const DeviceModel& device,
                          const Plan& plan,
                          const Timeline& timeline) {
  Verdict verdict;
  std::array<std::int64_t, 3> lane_free_ns = {0, 0, 0};
  std::vector<std::int64_t> copied_back_ns(profile.storages.size(), 0);
  // A copy moves the bytes, or the payload of a codec that the program uses on them.
  std::vector<std::uint64_t> least_copy_bytes;
  for (const Storage& storage : profile.storages) least_copy_bytes.push_back(storage.bytes);
  for (const Instruction& instruction : plan.program) {
    if (instruction.kind != InstructionKind::kCompress ||
        instruction.target >= least_copy_bytes.size())
      continue;
    const Storage& storage = profile.storages[instruction.target];
    std::uint64_t& least = least_copy_bytes[instruction.target];
    least = std::min(least, payload_bytes(instruction.codec, storage.tag.dtype, storage.bytes));
  }
  std::vector<std::size_t> order(timeline.slices.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return timeline.slices[a].begin_ns < timeline.slices[b].begin_ns;
  });
  for (const std::size_t i : order) {
    const Slice& slice = timeline.slices[i];
    const auto lane = static_cast<std::size_t>(slice.lane);
    if (slice.begin_ns < lane_free_ns[lane] || slice.end_ns < slice.begin_ns)
      verdict.violations.push_back(
          {Law::kCopyEngineOverlap, i, "two slices at once on lane " + std::to_string(lane)});
    lane_free_ns[lane] = std::max(lane_free_ns[lane], slice.end_ns);
    verdict.step_ns = std::max(verdict.step_ns, slice.end_ns);
    if (slice.lane == Lane::kCompute) {
      if (slice.kind != InstructionKind::kCompute && slice.kind != InstructionKind::kRecompute)
        continue;
      for (const Use use : profile.uses_of(profile.ops[slice.target]))
        if (!use.creates() && copied_back_ns[profile.storage_of(use).index()] > slice.begin_ns)
          verdict.violations.push_back(
              {Law::kInputResident,
               i,
               "op " + std::to_string(slice.target) + " starts before its input is back"});
      continue;
    }
    const std::uint64_t least_bytes = least_copy_bytes[slice.target];
    const double gbps = slice.lane == Lane::kOffloadCopy ? device.d2h_gbps : device.h2d_gbps;
    if (static_cast<double>(slice.end_ns - slice.begin_ns) * gbps <
        static_cast<double>(least_bytes) * 0.999999)
      verdict.violations.push_back({Law::kCopyEngineOverlap, i, "a copy is faster than the link"});
    if (slice.lane == Lane::kPrefetchCopy) copied_back_ns[slice.target] = slice.end_ns;
  }
  return verdict;
}

}  // namespace spillway
