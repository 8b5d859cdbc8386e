// SPDX-License-Identifier: Apache-2.0
// Forward ops as the model states them; backward ops from the tape.
#include "integration/generator/step_graph.hpp"

#include <algorithm>
#include <utility>

namespace spillway {
namespace {

// No storage, and no sum of all storages, may come near the 64-bit range: sizes are the user's
// numbers multiplied.
constexpr std::uint64_t kTotalBytesMax = std::uint64_t{1} << 60;

bool contains(const std::vector<ValueId>& list, ValueId value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

void push_unique(std::vector<ValueId>& list, ValueId value) {
  if (!contains(list, value)) list.push_back(value);
}

}  // namespace

void StepGraph::enter_layer(std::uint16_t layer, std::string prefix) {
  layer_ = layer;
  prefix_ = std::move(prefix);
}

std::string_view StepGraph::keep(std::string_view text) {
  return *names_.insert(std::string(text)).first;
}

ValueId StepGraph::add_value(
    std::string name, std::uint64_t elements, Dtype dtype, BufferKind kind, Phase phase) {
  StepValue value;
  value.name = std::move(name);
  value.elements = elements;
  if (__builtin_mul_overflow(elements, std::uint64_t{dtype_bytes(dtype)}, &value.bytes) ||
      value.bytes > kTotalBytesMax - total_bytes_) {
    overflow_ = true;
    value.bytes = 0;
  }
  total_bytes_ += value.bytes;
  value.tag.kind = kind;
  value.tag.dtype = dtype;
  value.tag.phase = phase;
  value.tag.layer = layer_;
  value.tag.micro_batch = micro_batch_;
  values_.push_back(std::move(value));
  return ValueId(values_.size() - 1);
}

ValueId StepGraph::param(std::string_view name, std::uint64_t elements) {
  const auto [place, fresh] = by_name_.try_emplace(prefix_ + std::string(name));
  if (!fresh) return place->second;
  const std::uint8_t micro_batch = std::exchange(micro_batch_, kNoMicroBatch);
  const std::string full = place->first;
  const ValueId id =
      add_value(full, elements, config_.dtype, BufferKind::kParameter, Phase::kUnknown);
  const ValueId grad =
      add_value(full + " grad", elements, config_.dtype, BufferKind::kGradient, Phase::kUnknown);
  ValueId state;
  if (config_.optimizer_bytes_per_element > 0) {
    std::uint64_t floats = 0;
    if (__builtin_mul_overflow(
            elements, std::uint64_t{config_.optimizer_bytes_per_element / 4}, &floats)) {
      overflow_ = true;
    }
    state = add_value(
        full + " optimizer", floats, Dtype::kFp32, BufferKind::kOptimizer, Phase::kUnknown);
  }
  micro_batch_ = micro_batch;
  for (const ValueId one : {id, grad, state}) {
    if (!one.valid()) continue;
    values_[one.index()].persistent = true;
    values_[one.index()].tag.flags = kPreexisting;
  }
  values_[id.index()].needs_grad = true;
  values_[id.index()].gradient = grad;
  values_[id.index()].optimizer_state = state;
  params_.push_back(id);
  place->second = id;
  return id;
}

ValueId StepGraph::constant(std::string_view name, std::uint64_t elements, Dtype dtype) {
  const ValueId id = add_value(
      prefix_ + std::string(name), elements, dtype, BufferKind::kConstant, Phase::kUnknown);
  values_[id.index()].persistent = true;
  values_[id.index()].tag.flags = kPreexisting;
  return id;
}

ValueId StepGraph::shared_constant(std::string_view name, std::uint64_t elements, Dtype dtype) {
  const auto [place, fresh] = by_name_.try_emplace(prefix_ + std::string(name));
  if (fresh) {
    const std::uint8_t micro_batch = std::exchange(micro_batch_, kNoMicroBatch);
    place->second = constant(name, elements, dtype);
    micro_batch_ = micro_batch;
  }
  return place->second;
}

StepOp& StepGraph::add_op(std::string name, const OpTag& tag) {
  ops_.emplace_back();
  ops_.back().name = std::move(name);
  ops_.back().tag = tag;
  return ops_.back();
}

// Every byte read once and written once; bytes changed in place are read and written.
void StepGraph::account_traffic(StepOp& op, bool sparse_params) const {
  std::uint64_t created = 0;
  std::uint64_t touched = 0;
  for (const ValueId id : op.creates) created += values_[id.index()].bytes;
  for (const ValueId id : op.reads) {
    const StepValue& value = values_[id.index()];
    if (sparse_params && value.tag.kind == BufferKind::kParameter) continue;
    touched += value.bytes;
  }
  if (!sparse_params) {
    for (const ValueId id : op.writes) touched += 2 * values_[id.index()].bytes;
  }
  op.traffic_bytes = created + touched;
  if (sparse_params)
    op.traffic_bytes += std::max(created, touched);  // the rows that are read or added to
}

std::vector<ValueId> StepGraph::op(OpSpec spec) {
  TapeNode node;
  node.tag.kind = spec.kind;
  node.tag.phase = Phase::kForward;
  node.tag.layer = layer_;
  node.tag.micro_batch = micro_batch_;
  node.tag.flags = spec.flags;
  bool flows = !spec.params.empty();
  for (const ValueId id : spec.inputs) flows = flows || values_[id.index()].needs_grad;
  if (spec.backward == BackwardRule::kNone) flows = false;
  for (const Output& out : spec.outputs) {
    const Dtype dtype = out.dtype == Dtype::kUnknown ? config_.dtype : out.dtype;
    const ValueId id = add_value(prefix_ + std::string(out.name),
                                 out.elements,
                                 dtype,
                                 BufferKind::kWorkspace,
                                 Phase::kForward);
    StepValue& value = values_[id.index()];
    value.tag.flags = out.flags;
    if ((spec.flags & kOpCollective) != 0) value.tag.flags |= kContainsCollective;
    value.needs_grad = flows && out.needs_grad;
    if (spec.gathers) value.gathered_from = spec.inputs.front();
    node.outputs.push_back(id);
  }
  StepOp& made = add_op(std::string(spec.name), node.tag);
  made.rate = spec.rate;
  made.flops = spec.flops;
  made.workspace_bytes = spec.workspace_bytes;
  made.link_bytes = spec.link_bytes;
  for (const ValueId id : spec.inputs) push_unique(made.reads, id);
  for (const ValueId id : spec.params) push_unique(made.reads, id);
  made.creates = node.outputs;
  account_traffic(made, spec.sparse_params);
  if (spec.backward_flops < 0) {
    spec.backward_flops = spec.rate == RateClass::kVector ? spec.flops : 2 * spec.flops;
  }
  std::vector<ValueId> outputs = node.outputs;
  if (flows) {
    spec.name = keep(spec.name);
    spec.outputs.clear();
    node.spec = std::move(spec);
    tape_.push_back(std::move(node));
  }
  return outputs;
}

void StepGraph::begin_forward() { tape_.clear(); }

Tape StepGraph::end_forward() { return std::exchange(tape_, {}); }

ValueId StepGraph::gradient_value(ValueId of) {
  const StepValue& value = values_[of.index()];
  const std::string name = value.name + " grad";
  const std::uint64_t elements = value.elements;
  const Dtype dtype = value.tag.dtype;
  return add_value(name, elements, dtype, BufferKind::kWorkspace, Phase::kBackward);
}

void StepGraph::contribute(ValueId value, ValueId gradient, const OpTag& tag) {
  const auto [place, fresh] = gradients_.try_emplace(value.value, gradient);
  if (fresh) return;
  const ValueId sum = gradient_value(value);
  OpTag add_tag = tag;
  add_tag.kind = OpKind::kElementwise;
  add_tag.flags = 0;
  StepOp& add = add_op("grad add", add_tag);
  add.reads = {place->second, gradient};
  add.creates = {sum};
  add.flops = static_cast<double>(values_[value.index()].elements);
  account_traffic(add, false);
  place->second = sum;
}

// A saved tensor as the backward reads it: itself, or for a gathered one the shard, gathered again
// once per backward.
ValueId StepGraph::resolve_saved(ValueId value, const OpTag& tag) {
  const ValueId shard = values_[value.index()].gathered_from;
  if (!shard.valid()) return value;
  const auto [place, fresh] = regathered_.try_emplace(value.value);
  if (!fresh) return place->second;
  const StepValue& whole = values_[value.index()];
  const std::string name = whole.name + " again";
  const std::uint64_t elements = whole.elements;
  const Dtype dtype = whole.tag.dtype;
  const ValueId again = add_value(name, elements, dtype, BufferKind::kWorkspace, Phase::kBackward);
  values_[again.index()].tag.flags = kContainsCollective;
  OpTag gather_tag = tag;
  gather_tag.kind = OpKind::kCollective;
  gather_tag.flags = kOpCollective | kOpNeverRecompute;
  StepOp& gather = add_op("all-gather again", gather_tag);
  gather.reads = {shard};
  gather.creates = {again};
  gather.link_bytes = values_[again.index()].bytes - values_[shard.index()].bytes;
  account_traffic(gather, false);
  place->second = again;
  return again;
}

void StepGraph::run_backward(const TapeNode& node) {
  const OpSpec& spec = node.spec;
  std::vector<ValueId> output_grads;
  for (const ValueId id : node.outputs) {
    const auto found = gradients_.find(id.value);
    if (found != gradients_.end()) push_unique(output_grads, found->second);
  }
  // A loss has no gradient coming in and starts the backward itself.
  if (output_grads.empty() && spec.kind != OpKind::kLoss) return;
  layer_ = node.tag.layer;
  micro_batch_ = node.tag.micro_batch;
  OpTag tag = node.tag;
  tag.phase = Phase::kBackward;
  tag.flags = 0;

  std::vector<ValueId> targets;
  for (const ValueId id : spec.inputs) {
    if (values_[id.index()].needs_grad) push_unique(targets, id);
  }
  if (spec.backward == BackwardRule::kPass) {
    for (const ValueId id : targets) contribute(id, output_grads.front(), tag);
    return;
  }
  const std::string name(spec.name);
  if (spec.backward == BackwardRule::kReduceScatter || spec.backward == BackwardRule::kAllGather) {
    const bool scatter = spec.backward == BackwardRule::kReduceScatter;
    tag.flags = kOpCollective | kOpNeverRecompute;
    const ValueId grad = gradient_value(targets.front());
    values_[grad.index()].tag.flags = kContainsCollective;
    StepOp& move = add_op(scatter ? "reduce-scatter" : "all-gather", tag);
    move.reads = output_grads;
    move.creates = {grad};
    move.link_bytes = spec.link_bytes;
    account_traffic(move, false);
    contribute(targets.front(), grad, tag);
    return;
  }

  std::vector<ValueId> saved;
  for (const std::size_t i : spec.saved_inputs)
    push_unique(saved, resolve_saved(spec.inputs[i], tag));
  for (const std::size_t i : spec.saved_outputs) push_unique(saved, node.outputs[i]);
  std::vector<ValueId> weight_grads;
  for (const ValueId id : spec.params) push_unique(weight_grads, values_[id.index()].gradient);

  std::vector<ValueId> grads;
  grads.reserve(targets.size());
  const bool shared = spec.backward == BackwardRule::kShared;
  for (const ValueId id : targets) {
    grads.push_back(shared && !grads.empty() ? grads.front() : gradient_value(id));
  }
  const bool two = spec.backward == BackwardRule::kTwo && !spec.params.empty();
  const double part = two ? spec.backward_flops / 2 : spec.backward_flops;
  if (!targets.empty() || !two) {
    StepOp& first = add_op(name + (two ? " input grad" : " backward"), tag);
    first.rate = spec.rate;
    first.flops = part;
    first.workspace_bytes = spec.backward_workspace_bytes;
    first.reads = output_grads;
    if (!two) {
      for (const ValueId id : saved) push_unique(first.reads, id);
      first.writes = weight_grads;
    }
    if (spec.backward_reads_params && !spec.sparse_params) {
      for (const ValueId id : spec.params) push_unique(first.reads, id);
    }
    for (const ValueId id : grads) push_unique(first.creates, id);
    account_traffic(first, spec.sparse_params);
  }
  if (two) {
    StepOp& second = add_op(name + " weight grad", tag);
    second.rate = spec.rate;
    second.flops = part;
    second.workspace_bytes = spec.backward_workspace_bytes;
    second.reads = output_grads;
    for (const ValueId id : saved) push_unique(second.reads, id);
    second.writes = weight_grads;
    account_traffic(second, false);
  }
  for (std::size_t i = 0; i < targets.size(); ++i) {
    ValueId grad = grads[i];
    if (spec.reduce_input_gradient) {
      const ValueId whole = gradient_value(targets[i]);
      values_[whole.index()].tag.flags = kContainsCollective;
      OpTag reduce_tag = tag;
      reduce_tag.kind = OpKind::kCollective;
      reduce_tag.flags = kOpCollective | kOpNeverRecompute;
      StepOp& reduce = add_op("all-reduce", reduce_tag);
      reduce.reads = {grad};
      reduce.creates = {whole};
      const std::uint64_t ranks = config_.tensor_parallel;
      reduce.link_bytes = values_[whole.index()].bytes / ranks * (ranks - 1) * 2;
      account_traffic(reduce, false);
      grad = whole;
    }
    contribute(targets[i], grad, tag);
  }
}

void StepGraph::backward(const Tape& tape) {
  gradients_ = std::exchange(received_, {});
  regathered_.clear();
  for (std::size_t i = tape.size(); i-- > 0;) run_backward(tape[i]);
  layer_ = kNoLayer;
}

void StepGraph::receive_gradient(ValueId value) {
  OpTag tag;
  tag.kind = OpKind::kCollective;
  tag.phase = Phase::kBackward;
  tag.micro_batch = micro_batch_;
  tag.flags = kOpCollective | kOpNeverRecompute;
  const ValueId grad = gradient_value(value);
  values_[grad.index()].tag.flags = kContainsCollective;
  StepOp& receive = add_op("receive backward", tag);
  receive.creates = {grad};
  receive.link_bytes = values_[grad.index()].bytes;
  account_traffic(receive, false);
  received_.emplace(value.value, grad);
}

ValueId StepGraph::gradient_of(ValueId value) const {
  const auto found = gradients_.find(value.value);
  return found == gradients_.end() ? ValueId::none() : found->second;
}

ValueId StepGraph::receive(std::string_view name, std::uint64_t elements) {
  const ValueId id = add_value(prefix_ + std::string(name),
                               elements,
                               config_.dtype,
                               BufferKind::kWorkspace,
                               Phase::kForward);
  values_[id.index()].needs_grad = true;
  values_[id.index()].tag.flags = kContainsCollective;
  OpTag tag;
  tag.kind = OpKind::kCollective;
  tag.phase = Phase::kForward;
  tag.micro_batch = micro_batch_;
  tag.flags = kOpCollective | kOpNeverRecompute;
  StepOp& made = add_op(std::string(name), tag);
  made.creates = {id};
  made.link_bytes = values_[id.index()].bytes;
  account_traffic(made, false);
  return id;
}

void StepGraph::send(std::string_view name, ValueId value, Phase phase) {
  OpTag tag;
  tag.kind = OpKind::kCollective;
  tag.phase = phase;
  tag.micro_batch = micro_batch_;
  tag.flags = kOpCollective | kOpNeverRecompute;
  StepOp& made = add_op(std::string(name), tag);
  made.reads = {value};
  made.link_bytes = values_[value.index()].bytes;
  account_traffic(made, false);
}

void StepGraph::optimizer_step(std::string_view name, double flops_per_element) {
  micro_batch_ = kNoMicroBatch;
  for (std::size_t begin = 0; begin < params_.size();) {
    const std::uint16_t layer = values_[params_[begin].index()].tag.layer;
    OpTag tag;
    tag.kind = OpKind::kOptimizer;
    tag.phase = Phase::kOptimizer;
    tag.layer = layer;
    StepOp& update = add_op(std::string(name), tag);
    std::size_t end = begin;
    for (; end < params_.size() && values_[params_[end].index()].tag.layer == layer; ++end) {
      const StepValue& value = values_[params_[end].index()];
      update.reads.push_back(value.gradient);
      update.writes.push_back(params_[end]);
      if (value.optimizer_state.valid()) update.writes.push_back(value.optimizer_state);
      update.flops += flops_per_element * static_cast<double>(value.elements);
    }
    account_traffic(update, false);
    begin = end;
  }
}

void StepGraph::finish() {
  for (std::uint32_t i = 0; i < ops_.size(); ++i) {
    for (const auto* list : {&ops_[i].reads, &ops_[i].writes, &ops_[i].creates}) {
      for (const ValueId id : *list) values_[id.index()].last_op = i;
    }
  }
  for (StepValue& value : values_) {
    if (value.persistent || value.tag.phase != Phase::kForward) continue;
    const bool saved =
        value.last_op < ops_.size() && ops_[value.last_op].tag.phase == Phase::kBackward;
    value.tag.kind = saved ? BufferKind::kActivation : BufferKind::kWorkspace;
  }
}

Status StepGraph::status() const {
  if (!overflow_) return Status();
  return Status(Code::kInvalidArgument,
                "the step's storages together exceed 1 EiB; use smaller dimensions");
}

}  // namespace spillway
