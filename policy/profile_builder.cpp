// SPDX-License-Identifier: Apache-2.0
// Record by record into growing arrays; classification, inferred reads and the choice of the step
// happen in finish().
#include "policy/profile_builder.hpp"

#include "policy/annotation.hpp"
#include "policy/id_map.hpp"

#include <algorithm>
#include <string>
#include <unordered_map>
#include <utility>

namespace spillway {
namespace {

// While streaming, tensors are storage indices or view indices with this bit; finish() puts views
// behind the roots.
constexpr std::uint32_t kViewBit = 1u << 29;
constexpr std::uint32_t kMaxItems = kViewBit - 1;
constexpr std::uint32_t kNoRange = 0xffffffffu;

struct StepMark {
  std::uint64_t number;
  std::uint32_t first_op;
};

struct OpenRange {
  std::uint32_t domain;
  Phase outer_phase;
  std::uint16_t outer_layer;
  std::uint32_t outer_layer_range;
};

constexpr std::uint32_t kStartedRange = 1u << 31;  // above every string id of a domain

struct ThreadState {
  std::vector<OpenRange> open;
  Phase phase = Phase::kUnknown;
  std::uint16_t layer = kNoLayer;
  std::uint32_t layer_range = kNoRange;  // serial of the innermost range that names a layer
};

}  // namespace

struct ProfileBuilder::Impl {
  explicit Impl(ProfileOptions builder_options) : options(builder_options) {
    profile.frames.push_back({StackId(0u), StringId(0u)});
    thread = &threads[0];
  }

  void bad(const std::string& text) {
    if (error.ok())
      error = Status(Code::kBadInput, "record " + std::to_string(record_number) + ": " + text);
  }

  void handle(const Record& record);
  void range_push(std::uint32_t text, std::uint32_t domain);
  void range_pop(std::uint32_t domain);
  void alloc(const Record& record);
  void free_storage(const Record& record);
  void op_begin(const Record& record);
  void op_end(const Record& record);
  void use(const Record& record);
  void close_inferred_op(std::uint64_t time_ns);

  Storage* storage_of_id(std::uint64_t id);
  Op* open_op_of_id(std::uint64_t id);

  void classify();
  void infer_reads();
  void remap_views();
  Status index_uses();
  Result<std::size_t> choose_step();
  Profile slice(std::size_t step);

  ProfileOptions options;
  Profile profile;
  Status error;
  std::uint64_t record_number = 0;

  IdMap tensor_ids;  // storages and views
  std::vector<TensorInfo> views;
  IdMap op_ids;
  bool op_open = false;
  std::uint64_t open_op_id = 0;
  std::uint64_t open_op_begin_ns = 0;
  bool saw_ops = false;
  bool saw_uses = false;
  bool inferred_op_open = false;
  std::uint64_t last_time_ns = 0;

  struct StartedRange {
    ThreadState* thread;
    std::uint32_t key;
  };
  std::unordered_map<std::uint64_t, ThreadState> threads;
  std::unordered_map<std::uint64_t, StartedRange> started_ranges;  // ids are not used twice
  ThreadState* thread = nullptr;
  std::unordered_map<std::uint32_t, Annotation> annotations;
  std::vector<std::uint32_t> layer_range_end;  // serial -> op index at which the range closed
  std::vector<std::uint32_t> op_layer_range;   // lifetime-only: op -> serial
  std::vector<StepMark> steps;
};

Storage* ProfileBuilder::Impl::storage_of_id(std::uint64_t id) {
  const std::uint32_t index = tensor_ids.find(id);
  if (index == IdMap::kAbsent || (index & kViewBit) != 0) {
    bad("expected the id of a live storage, found " + std::to_string(id));
    return nullptr;
  }
  return &profile.storages[index];
}

Op* ProfileBuilder::Impl::open_op_of_id(std::uint64_t id) {
  if (op_open && id == open_op_id) return &profile.ops.back();
  bad("expected the open op, found op " + std::to_string(id));
  return nullptr;
}

void ProfileBuilder::Impl::range_push(std::uint32_t text, std::uint32_t domain) {
  auto [place, fresh] = annotations.try_emplace(text);
  if (fresh) place->second = read_annotation(profile.strings.view(StringId(text)));
  const Annotation& annotation = place->second;
  thread->open.push_back({domain, thread->phase, thread->layer, thread->layer_range});
  if (annotation.phase != Phase::kUnknown) thread->phase = annotation.phase;
  if (annotation.layer != kNoLayer) {
    thread->layer = annotation.layer;
    thread->layer_range = static_cast<std::uint32_t>(layer_range_end.size());
    layer_range_end.push_back(kNoRange);
  }
}

void ProfileBuilder::Impl::range_pop(std::uint32_t domain) {
  std::vector<OpenRange>& open = thread->open;
  for (std::size_t i = open.size(); i-- > 0;) {
    if (open[i].domain != domain) continue;
    const OpenRange range = open[i];
    open.erase(open.begin() + static_cast<std::ptrdiff_t>(i));
    if (i == open.size()) {  // innermost: its phase and layer end with it
      if (thread->layer_range != range.outer_layer_range &&
          thread->layer_range < layer_range_end.size())
        layer_range_end[thread->layer_range] = static_cast<std::uint32_t>(profile.ops.size());
      thread->phase = range.outer_phase;
      thread->layer = range.outer_layer;
      thread->layer_range = range.outer_layer_range;
    } else {  // closed below a range of another domain: that one falls back to what was around this
              // one
      open[i].outer_phase = range.outer_phase;
      open[i].outer_layer = range.outer_layer;
      open[i].outer_layer_range = range.outer_layer_range;
    }
    return;
  }
  // A pop without a push: the recording began inside the range. Nothing to restore.
}

void ProfileBuilder::Impl::close_inferred_op(std::uint64_t time_ns) {
  if (!inferred_op_open) return;
  if (time_ns > open_op_begin_ns) profile.ops.back().duration_ns = time_ns - open_op_begin_ns;
  inferred_op_open = false;
}

void ProfileBuilder::Impl::alloc(const Record& record) {
  if (profile.storages.size() >= kMaxItems) return bad("more than 2^29 storages");
  const auto index = static_cast<std::uint32_t>(profile.storages.size());
  if (!tensor_ids.insert(record.id, index))
    return bad("storage id " + std::to_string(record.id) + " is used twice");
  if (record.arg >> 56 != 0)
    return bad("expected fewer than 2^56 bytes, found " + std::to_string(record.arg));
  Storage storage;
  storage.bytes = record.arg;
  storage.tag.phase = thread->phase;
  storage.tag.layer = thread->layer;
  if ((record.flags & kRecordPreexisting) != 0) {
    storage.tag.flags |= kPreexisting;
    profile.storages.push_back(storage);
    return;
  }
  if (!saw_ops) {
    close_inferred_op(record.time_ns);
    Op op;
    op.tag.phase = thread->phase;
    op.tag.layer = thread->layer;
    op.tag.flags = kOpInferred;
    op.uses_begin = static_cast<std::uint32_t>(profile.uses.size());
    profile.uses.emplace_back(TensorId(index), Use::kCreate);
    op.uses_end = op.uses_begin + 1;
    profile.ops.push_back(op);
    op_layer_range.push_back(thread->layer_range);
    inferred_op_open = true;
    open_op_begin_ns = record.time_ns;
    storage.created_by = OpId(profile.ops.size() - 1);
  } else {
    // Outside of any op it belongs to the op that comes next.
    storage.created_by = OpId(op_open ? profile.ops.size() - 1 : profile.ops.size());
  }
  profile.storages.push_back(storage);
}

void ProfileBuilder::Impl::free_storage(const Record& record) {
  Storage* storage = storage_of_id(record.id);
  if (storage == nullptr) return;
  if (storage->freed_after.valid())
    return bad("storage " + std::to_string(record.id) + " is freed twice");
  if (profile.ops.empty()) {
    storage->bytes = 0;  // gone before the first op: no op ever sees it
    storage->freed_after = OpId(0u);
    return;
  }
  const std::size_t last_op = profile.ops.size() - 1;
  if (storage->created_by.valid() && storage->created_by.index() > last_op) {
    storage->created_by = OpId(last_op);  // allocated and freed between two ops
  }
  storage->freed_after = OpId(last_op);
}

void ProfileBuilder::Impl::op_begin(const Record& record) {
  close_inferred_op(record.time_ns);
  if (op_open)
    return bad("op " + std::to_string(record.id) + " begins inside op " +
               std::to_string(open_op_id));
  if (profile.ops.size() >= kMaxItems) return bad("more than 2^29 ops");
  if (!op_ids.insert(record.id, static_cast<std::uint32_t>(profile.ops.size())))
    return bad("op id " + std::to_string(record.id) + " is used twice");
  Op op;
  op.name = StringId(static_cast<std::uint32_t>(record.arg));
  op.tag.phase = thread->phase;
  op.tag.layer = thread->layer;
  op.uses_begin = op.uses_end = static_cast<std::uint32_t>(profile.uses.size());
  profile.ops.push_back(op);
  saw_ops = op_open = true;
  open_op_id = record.id;
  open_op_begin_ns = record.time_ns;
}

void ProfileBuilder::Impl::op_end(const Record& record) {
  Op* op = open_op_of_id(record.id);
  if (op == nullptr) return;
  if (record.time_ns > open_op_begin_ns) op->duration_ns = record.time_ns - open_op_begin_ns;
  op_open = false;
}

void ProfileBuilder::Impl::use(const Record& record) {
  Op* op = open_op_of_id(record.arg);
  if (op == nullptr) return;
  const std::uint32_t tensor = tensor_ids.find(record.id);
  if (tensor == IdMap::kAbsent)
    return bad("op uses tensor " + std::to_string(record.id) + ", which does not exist");
  const bool is_view = (tensor & kViewBit) != 0;
  Storage& storage = profile.storages[is_view ? views[tensor - kViewBit].storage.index() : tensor];
  if (storage.freed_after.valid())
    return bad("op uses tensor " + std::to_string(record.id) + " after it was freed");
  if (profile.uses.size() >= kMaxItems * 4ull) return bad("more than 2^31 uses");
  const OpId op_id(profile.ops.size() - 1);
  std::uint32_t access = Use::kRead;
  if ((record.flags & kRecordCreate) != 0) {
    access = Use::kCreate;
    if (is_view) {
      views[tensor - kViewBit].created_by = op_id;
    } else {
      if (storage.tag.has(kPreexisting))
        return bad("op creates storage " + std::to_string(record.id) + ", which was there before");
      storage.created_by = op_id;
    }
  } else if ((record.flags & kRecordWrite) != 0) {
    access = Use::kWrite;
    storage.tag.flags |= kRewritten;
  }
  profile.uses.emplace_back(TensorId(tensor), access);
  op->uses_end = static_cast<std::uint32_t>(profile.uses.size());
  saw_uses = true;
}

void ProfileBuilder::Impl::handle(const Record& record) {
  ++record_number;
  if (!error.ok()) return;
  last_time_ns = std::max(last_time_ns, record.time_ns);
  switch (record.kind) {
    case RecordKind::kAlloc:
      return alloc(record);
    case RecordKind::kFreeCompleted:
      return free_storage(record);
    case RecordKind::kUse:
      return use(record);
    case RecordKind::kOpBegin:
      return op_begin(record);
    case RecordKind::kOpEnd:
      return op_end(record);
    case RecordKind::kOpTag:
      if (Op* op = open_op_of_id(record.id)) {
        const OpTag outer = op->tag;
        op->tag = unpack_op_tag(record.arg);
        if (op->tag.phase == Phase::kUnknown) op->tag.phase = outer.phase;
        if (op->tag.layer == kNoLayer) op->tag.layer = outer.layer;
      }
      return;
    case RecordKind::kOpFlops:
      if (Op* op = open_op_of_id(record.id)) op->flops = record.arg;
      return;
    case RecordKind::kOpWorkspace:
      if (record.arg >> 56 != 0) return bad("expected fewer than 2^56 bytes of workspace");
      if (Op* op = open_op_of_id(record.id)) op->workspace_bytes = record.arg;
      return;
    case RecordKind::kTag:
      if (Storage* storage = storage_of_id(record.id)) {
        const Tag outer = storage->tag;
        storage->tag = unpack_tag(record.arg);
        storage->tag.flags |= outer.flags & kPreexisting;
        if (storage->tag.phase == Phase::kUnknown) storage->tag.phase = outer.phase;
        if (storage->tag.layer == kNoLayer) storage->tag.layer = outer.layer;
      }
      return;
    case RecordKind::kName:
      if (Storage* storage = storage_of_id(record.id))
        storage->name = StringId(static_cast<std::uint32_t>(record.arg));
      return;
    case RecordKind::kStackOf:
      if (record.arg >= profile.frames.size())
        return bad("expected a call tree node, found " + std::to_string(record.arg));
      if (Storage* storage = storage_of_id(record.id)) {
        storage->stack = StackId(static_cast<std::uint32_t>(record.arg));
        if (inferred_op_open && storage->created_by.valid())
          profile.ops.back().stack = storage->stack;
      }
      return;
    case RecordKind::kFrame:
      if (record.id != profile.frames.size() || record.arg >> 32 >= profile.frames.size())
        return bad("expected call tree node " + std::to_string(profile.frames.size()) +
                   " below a known parent");
      profile.frames.push_back({StackId(static_cast<std::uint32_t>(record.arg >> 32)),
                                StringId(static_cast<std::uint32_t>(record.arg & 0xffffffffu))});
      return;
    case RecordKind::kView: {
      const std::uint32_t base = tensor_ids.find(record.arg);
      if (base == IdMap::kAbsent)
        return bad("view of tensor " + std::to_string(record.arg) + ", which does not exist");
      const StorageId storage =
          (base & kViewBit) != 0 ? views[base - kViewBit].storage : StorageId(base);
      if (views.size() >= kMaxItems) return bad("more than 2^29 views");
      const auto view = static_cast<std::uint32_t>(views.size());
      if (!tensor_ids.insert(record.id, view | kViewBit))
        return bad("tensor id " + std::to_string(record.id) + " is used twice");
      views.push_back({storage, op_open ? OpId(profile.ops.size() - 1) : OpId()});
      return;
    }
    case RecordKind::kThread:
      thread = &threads[record.id];
      return;
    case RecordKind::kStep:
      close_inferred_op(record.time_ns);
      steps.push_back({record.id, static_cast<std::uint32_t>(profile.ops.size())});
      return;
    case RecordKind::kRangePush:
      return range_push(static_cast<std::uint32_t>(record.arg), record.stream);
    case RecordKind::kRangePop:
      return range_pop(record.stream);
    case RecordKind::kRangeStart: {
      // Started ranges may end on another thread and in any order: each is a domain of its own.
      const auto key = kStartedRange | static_cast<std::uint32_t>(started_ranges.size());
      if (started_ranges.try_emplace(record.id, StartedRange{thread, key}).second)
        range_push(static_cast<std::uint32_t>(record.arg), key);
      return;
    }
    case RecordKind::kRangeEnd: {
      const auto started = started_ranges.find(record.id);
      if (started == started_ranges.end()) return;  // the recording began inside it
      ThreadState* const current = thread;
      thread = started->second.thread;
      range_pop(started->second.key);
      thread = current;
      return;
    }
    case RecordKind::kMeta: {
      const std::string_view key =
          profile.strings.view(StringId(static_cast<std::uint32_t>(record.id)));
      const std::string value(
          profile.strings.view(StringId(static_cast<std::uint32_t>(record.arg))));
      if (key == "source") profile.source_format = value;
      if (key == "model") profile.model = value;
      if (key == "gpu") profile.gpu = value;
      if (key == "times_from") profile.times_from = value;
      return;
    }
    default:
      return;  // addresses, segments, kernels, copies, syncs, marks: not needed for planning
  }
}

void ProfileBuilder::Impl::classify() {
  const std::size_t op_count = profile.ops.size();
  // Prefix counts answer "is there a backward op in (a, b]".
  std::vector<std::uint32_t> backward_before(op_count + 1, 0);
  for (std::size_t i = 0; i < op_count; ++i)
    backward_before[i + 1] =
        backward_before[i] + (profile.ops[i].tag.phase == Phase::kBackward ? 1 : 0);
  std::uint64_t guessed = 0;
  std::uint64_t guessed_bytes = 0;
  for (Storage& storage : profile.storages) {
    if (storage.created_by.valid() && storage.created_by.index() >= op_count)
      storage.created_by =
          op_count == 0 ? OpId() : OpId(op_count - 1);  // allocated after the last op
    if (storage.created_by.valid()) {  // what the storage's own tag leaves open, its op says
      const OpTag& op = profile.ops[storage.created_by.index()].tag;
      if (storage.tag.phase == Phase::kUnknown) storage.tag.phase = op.phase;
      if (storage.tag.layer == kNoLayer) storage.tag.layer = op.layer;
      if (storage.tag.micro_batch == kNoMicroBatch) storage.tag.micro_batch = op.micro_batch;
    }
    if (storage.tag.kind != BufferKind::kUnknown) continue;
    ++guessed;
    guessed_bytes += storage.bytes;
    storage.tag.flags |= kTagInferred;
    if (!storage.created_by.valid()) {
      storage.tag.kind = storage.freed_after.valid() ? BufferKind::kOther : BufferKind::kParameter;
      continue;
    }
    const Phase created = profile.ops[storage.created_by.index()].tag.phase;
    const bool freed = storage.freed_after.valid();
    const Phase freed_phase =
        freed ? profile.ops[storage.freed_after.index()].tag.phase : Phase::kUnknown;
    const bool lives_in_backward = freed && backward_before[storage.freed_after.index() + 1] >
                                                backward_before[storage.created_by.index()];
    switch (created) {
      case Phase::kForward:
        storage.tag.kind = !freed ? BufferKind::kOther
                           : lives_in_backward && (freed_phase == Phase::kBackward || saw_uses)
                               ? BufferKind::kActivation
                           : freed_phase == Phase::kForward ? BufferKind::kWorkspace
                                                            : BufferKind::kOther;
        break;
      case Phase::kBackward:
        storage.tag.kind = freed && freed_phase == Phase::kBackward ? BufferKind::kWorkspace
                                                                    : BufferKind::kGradient;
        break;
      case Phase::kOptimizer:
        storage.tag.kind = freed ? BufferKind::kWorkspace : BufferKind::kOptimizer;
        break;
      default:
        storage.tag.kind = freed ? BufferKind::kWorkspace : BufferKind::kOther;
        break;
    }
  }
  if (guessed > 0)
    profile.inferred.push_back("kind of " + std::to_string(guessed) + " storages (" +
                               std::to_string(guessed_bytes) +
                               " bytes) from the phases in which they are allocated and freed");
}

// Lifetime-only traces name no reads. An activation is taken to be in use until its layer's range
// ends (else for the next hold_allocations allocations), and to be read once more, by the op just
// before its free.
void ProfileBuilder::Impl::infer_reads() {
  std::vector<std::pair<std::uint32_t, std::uint32_t>> reads;  // (op, storage)
  std::uint32_t count = 0;
  for (std::size_t i = 0; i < profile.storages.size(); ++i) {
    const Storage& storage = profile.storages[i];
    if (storage.tag.kind != BufferKind::kActivation || !storage.created_by.valid() ||
        !storage.freed_after.valid())
      continue;
    const std::uint32_t created = storage.created_by.value;
    const std::uint32_t last = storage.freed_after.value;
    std::uint32_t hold = created + options.hold_allocations;
    const std::uint32_t range =
        created < op_layer_range.size() ? op_layer_range[created] : kNoRange;
    if (range != kNoRange && layer_range_end[range] != kNoRange && layer_range_end[range] > created)
      hold = layer_range_end[range] - 1;
    hold = std::min(hold, last);
    if (hold > created) reads.emplace_back(hold, static_cast<std::uint32_t>(i));
    if (last > hold) reads.emplace_back(last, static_cast<std::uint32_t>(i));
    ++count;
  }
  std::sort(reads.begin(), reads.end());
  std::vector<Use> uses;
  uses.reserve(profile.uses.size() + reads.size());
  std::size_t next = 0;
  for (std::size_t i = 0; i < profile.ops.size(); ++i) {
    Op& op = profile.ops[i];
    const std::size_t begin = uses.size();
    for (std::uint32_t u = op.uses_begin; u < op.uses_end; ++u) uses.push_back(profile.uses[u]);
    for (; next < reads.size() && reads[next].first == i; ++next)
      uses.emplace_back(TensorId(reads[next].second), Use::kRead);
    op.uses_begin = static_cast<std::uint32_t>(begin);
    op.uses_end = static_cast<std::uint32_t>(uses.size());
  }
  profile.uses = std::move(uses);
  if (count > 0)
    profile.inferred.push_back(
        "reads of " + std::to_string(count) +
        " activations: in use until their layer's range ends or for the next " +
        std::to_string(options.hold_allocations) +
        " allocations, then read just before their free");
}

void ProfileBuilder::Impl::remap_views() {
  const auto roots = static_cast<std::uint32_t>(profile.storages.size());
  profile.tensors.clear();
  profile.tensors.reserve(roots + views.size());
  for (std::uint32_t i = 0; i < roots; ++i)
    profile.tensors.push_back({StorageId(i), profile.storages[i].created_by});
  profile.tensors.insert(profile.tensors.end(), views.begin(), views.end());
  if (views.empty()) return;
  for (Use& use : profile.uses) {
    const std::uint32_t tensor = use.bits & Use::kTensorMask;
    if ((tensor & kViewBit) == 0) continue;
    use.bits = (use.bits & ~Use::kTensorMask) | (roots + (tensor & ~kViewBit));
  }
}

Status ProfileBuilder::Impl::index_uses() {
  std::vector<Storage>& storages = profile.storages;
  std::vector<std::uint32_t> last_seen(storages.size(), IdMap::kAbsent);
  std::vector<std::uint32_t> count(storages.size(), 0);
  const auto for_each = [&](const auto& visit) {
    std::fill(last_seen.begin(), last_seen.end(), IdMap::kAbsent);
    for (std::uint32_t i = 0; i < profile.ops.size(); ++i)
      for (const Use use : profile.uses_of(profile.ops[i])) {
        const std::size_t storage = profile.storage_of(use).index();
        if (last_seen[storage] == i) continue;
        last_seen[storage] = i;
        visit(storage, i);
      }
  };
  for_each([&](std::size_t storage, std::uint32_t) { ++count[storage]; });
  std::uint32_t total = 0;
  for (std::size_t i = 0; i < storages.size(); ++i) {
    storages[i].uses_begin = storages[i].uses_end = total;
    total += count[i];
  }
  profile.storage_uses.assign(total, 0);
  for_each([&](std::size_t storage, std::uint32_t op) {
    profile.storage_uses[storages[storage].uses_end++] = op;
  });
  return {};
}

Result<std::size_t> ProfileBuilder::Impl::choose_step() {
  const auto op_end_of = [&](std::size_t i) {
    return i + 1 < steps.size() ? steps[i + 1].first_op
                                : static_cast<std::uint32_t>(profile.ops.size());
  };
  if (options.step >= 0) {
    for (std::size_t i = 0; i < steps.size(); ++i)
      if (steps[i].number == static_cast<std::uint64_t>(options.step)) return i;
    return Status(Code::kInvalidArgument,
                  "the trace has no step " + std::to_string(options.step) + "; it has " +
                      std::to_string(steps.size()) + ", the first is " +
                      std::to_string(steps.front().number));
  }
  std::unordered_map<std::uint32_t, std::uint32_t> votes;
  for (std::size_t i = 0; i < steps.size(); ++i) ++votes[op_end_of(i) - steps[i].first_op];
  std::uint32_t usual = 0;
  for (const auto& [ops, n] : votes)
    if (usual == 0 || n > votes[usual] || (n == votes[usual] && ops > usual)) usual = ops;
  std::vector<std::pair<std::uint64_t, std::size_t>> times;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    if (op_end_of(i) - steps[i].first_op != usual) continue;
    std::uint64_t ns = 0;
    for (std::uint32_t op = steps[i].first_op; op < op_end_of(i); ++op)
      ns += profile.ops[op].duration_ns;
    times.emplace_back(ns, i);
  }
  if (times.empty()) return std::size_t{0};
  std::sort(times.begin(), times.end());
  return times[times.size() / 2].second;
}

Profile ProfileBuilder::Impl::slice(std::size_t step) {
  const std::uint32_t begin = steps[step].first_op;
  const auto end = step + 1 < steps.size() ? steps[step + 1].first_op
                                           : static_cast<std::uint32_t>(profile.ops.size());
  Profile part;
  part.source_format = std::move(profile.source_format);
  part.model = std::move(profile.model);
  part.gpu = std::move(profile.gpu);
  part.times_from = std::move(profile.times_from);
  part.can_recompute = profile.can_recompute;
  part.inferred = std::move(profile.inferred);
  part.notes = std::move(profile.notes);
  part.strings = std::move(profile.strings);
  part.frames = std::move(profile.frames);

  std::vector<std::uint32_t> new_storage(profile.storages.size(), IdMap::kAbsent);
  for (std::size_t i = 0; i < profile.storages.size(); ++i) {
    Storage storage = profile.storages[i];
    if (storage.freed_after.valid() && storage.freed_after.value < begin) continue;
    if (storage.created_by.valid() && storage.created_by.value >= end) continue;
    if (!storage.created_by.valid() || storage.created_by.value < begin) {
      storage.created_by = OpId();
      storage.tag.flags |= kPreexisting;
    } else {
      storage.created_by = OpId(storage.created_by.value - begin);
    }
    storage.freed_after = storage.freed_after.valid() && storage.freed_after.value < end
                              ? OpId(storage.freed_after.value - begin)
                              : OpId();
    new_storage[i] = static_cast<std::uint32_t>(part.storages.size());
    part.storages.push_back(storage);
  }
  std::vector<std::uint32_t> new_tensor(profile.tensors.size(), IdMap::kAbsent);
  for (std::uint32_t i = 0; i < part.storages.size(); ++i)
    part.tensors.push_back({StorageId(i), part.storages[i].created_by});
  for (std::size_t i = 0; i < profile.tensors.size(); ++i) {
    const TensorInfo& tensor = profile.tensors[i];
    const std::uint32_t storage = new_storage[tensor.storage.index()];
    if (storage == IdMap::kAbsent) continue;
    if (i < profile.storages.size()) {
      new_tensor[i] = storage;
      continue;
    }
    const bool inside = tensor.created_by.valid() && tensor.created_by.value >= begin &&
                        tensor.created_by.value < end;
    new_tensor[i] = static_cast<std::uint32_t>(part.tensors.size());
    part.tensors.push_back(
        {StorageId(storage), inside ? OpId(tensor.created_by.value - begin) : OpId()});
  }
  part.ops.assign(profile.ops.begin() + begin, profile.ops.begin() + end);
  for (Op& op : part.ops) {
    const auto uses_begin = static_cast<std::uint32_t>(part.uses.size());
    for (const Use use : profile.uses_of(op)) {
      const std::uint32_t tensor = new_tensor[use.tensor().index()];
      if (tensor != IdMap::kAbsent)
        part.uses.emplace_back(TensorId(tensor), use.bits & Use::kCreate);
    }
    op.uses_begin = uses_begin;
    op.uses_end = static_cast<std::uint32_t>(part.uses.size());
  }
  return part;
}

ProfileBuilder::ProfileBuilder(ProfileOptions options) : impl_(std::make_unique<Impl>(options)) {}
ProfileBuilder::~ProfileBuilder() = default;

void ProfileBuilder::string(StringId id, std::string_view text) {
  // Two ids may carry one text (a damaged file); the table must still count them.
  const StringId mine = impl_->profile.strings.intern(text);
  if (mine != id)
    impl_->bad("expected string " + std::to_string(mine.value) + ", found string " +
               std::to_string(id.value));
}

void ProfileBuilder::record(const Record& record) { impl_->handle(record); }
void ProfileBuilder::add_inferred(std::string line) {
  impl_->profile.inferred.push_back(std::move(line));
}
void ProfileBuilder::add_note(std::string line) { impl_->profile.notes.push_back(std::move(line)); }

Result<Profile> ProfileBuilder::finish() {
  std::unique_ptr<Impl> impl = std::move(impl_);
  impl_ = std::make_unique<Impl>(impl->options);
  if (impl->error.ok() && impl->op_open)
    impl->bad("the trace ends inside op " + std::to_string(impl->open_op_id));
  if (!impl->error.ok()) return impl->error;
  impl->close_inferred_op(impl->last_time_ns);
  Profile& profile = impl->profile;
  if (profile.ops.empty())
    return Status(Code::kBadInput,
                  "the trace holds no op and no allocation: there is no step to plan");
  profile.can_recompute = impl->saw_uses;
  if (!impl->saw_ops)
    profile.inferred.insert(
        profile.inferred.begin(),
        "ops: each allocation stands for one, lasting until the next (no op was recorded)");
  impl->classify();
  if (!impl->saw_uses) impl->infer_reads();
  impl->remap_views();
  if (impl->steps.empty()) impl->steps.push_back({0, 0});
  // Anything before the first mark belongs to the first step.
  impl->steps.front().first_op = 0;
  SPW_ASSIGN_OR_RETURN(const std::size_t step, impl->choose_step());
  const std::uint64_t number = impl->steps[step].number;
  const std::size_t count = impl->steps.size();
  if (count > 1) {
    profile = impl->slice(step);
    if (profile.ops.empty())
      return Status(Code::kBadInput, "step " + std::to_string(number) + " holds no op");
  }
  profile.step_number = number;
  profile.step_count = count;
  SPW_RETURN_IF_ERROR(impl->index_uses());
  return std::move(profile);
}

}  // namespace spillway
