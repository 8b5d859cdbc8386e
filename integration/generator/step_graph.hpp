// SPDX-License-Identifier: Apache-2.0
// The training step as a list of ops over storages. A model describes its forward pass; the
// backward pass follows from what each op says it saves, as autograd does it: an op's backward
// reads the gradients of its outputs and its saved tensors, makes the gradients of its inputs, and
// adds to the gradients of its parameters.
#pragma once

#include "core/ids.hpp"
#include "core/status.hpp"
#include "core/tag.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace spillway {

using ValueId = Id<struct ValueKind>;

/// One storage of the step.
struct StepValue {
  std::string name;
  std::uint64_t bytes = 0;
  Tag tag;
  bool persistent =
      false;  // outlives the step: parameters, their gradients and optimizer state, inputs
  bool needs_grad = false;
  ValueId gradient;         // of a parameter: where its gradient is summed up
  ValueId optimizer_state;  // of a parameter
  ValueId gathered_from;    // the shard that this was all-gathered from, if so
  std::uint64_t elements = 0;
  std::uint32_t last_op = Id<struct OpKindTag>::kNoneValue;  // the last op that touches it
};

/// What limits an op beside memory traffic.
enum class RateClass : std::uint8_t { kVector, kMatmul, kAttention };

struct StepOp {
  std::string name;
  OpTag tag;
  RateClass rate = RateClass::kVector;
  double flops = 0;
  std::uint64_t traffic_bytes = 0;
  std::uint64_t workspace_bytes = 0;
  std::uint64_t link_bytes = 0;  // of a collective or a peer copy: bytes this rank sends
  std::vector<ValueId> reads;
  std::vector<ValueId> writes;  // existing bytes that it changes
  std::vector<ValueId> creates;
};

/// How the backward of an op looks.
enum class BackwardRule : std::uint8_t {
  kNone,    // nothing flows back
  kPass,    // the gradient passes on unchanged: residual adds, all-reduce of the output
  kOne,     // one op, a gradient for each input
  kShared,  // one op, one gradient that all inputs share: an add with an in-place activation
  kTwo,     // input gradient, then weight gradient: matrix products with parameters, convolutions
  kReduceScatter,  // of an all-gather
  kAllGather,      // of a reduce-scatter
};

struct Output {
  std::string_view name;
  std::uint64_t elements = 0;
  Dtype dtype = Dtype::kUnknown;
  std::uint16_t flags = 0;  // BufferFlag
  bool needs_grad = true;   // false for masks, statistics and indices
};

struct OpSpec {
  std::string_view name;
  OpKind kind = OpKind::kOther;
  std::vector<ValueId> inputs;
  std::vector<ValueId> params;
  std::vector<Output> outputs;
  std::vector<std::size_t> saved_inputs;   // indices into inputs
  std::vector<std::size_t> saved_outputs;  // indices into outputs
  BackwardRule backward = BackwardRule::kOne;
  RateClass rate = RateClass::kVector;
  double flops = 0;
  double backward_flops =
      -1;  // below 0: twice the forward's for products, the forward's for the rest
  std::uint64_t workspace_bytes = 0;
  std::uint64_t backward_workspace_bytes = 0;
  std::uint64_t link_bytes = 0;
  std::uint16_t flags = 0;     // OpFlag of the forward op
  bool sparse_params = false;  // a table look-up: traffic does not count the whole table
  bool backward_reads_params = true;
  bool gathers = false;                // the output is the input shard of all ranks put together
  bool reduce_input_gradient = false;  // all-reduce what flows back to inputs (tensor parallelism)
};

/// What one forward pass leaves for its backward.
struct TapeNode {
  OpSpec spec;  // `name` and output names point into the graph's interned names
  std::vector<ValueId> outputs;
  OpTag tag;
};
using Tape = std::vector<TapeNode>;

class StepGraph {
 public:
  struct Config {
    Dtype dtype = Dtype::kBf16;
    std::uint32_t optimizer_bytes_per_element = 12;
    std::uint32_t tensor_parallel = 1;
  };
  explicit StepGraph(Config config) : config_(config) {}

  [[nodiscard]] Dtype dtype() const { return config_.dtype; }

  /// Names and tags of what follows. `prefix` opens storage names ("layer 3 ").
  void enter_layer(std::uint16_t layer, std::string prefix);
  void leave_layer() { enter_layer(kNoLayer, {}); }
  void set_micro_batch(std::uint8_t micro_batch) { micro_batch_ = micro_batch; }

  /// The parameter of that name in the current layer, made on first use with its gradient and
  /// optimizer state.
  ValueId param(std::string_view name, std::uint64_t elements);
  /// Bytes that are there before the step and never written: token ids, images, tables.
  ValueId constant(std::string_view name, std::uint64_t elements, Dtype dtype);
  /// A constant that all micro-batches share.
  ValueId shared_constant(std::string_view name, std::uint64_t elements, Dtype dtype);

  /// Appends the op to the step and to the open tape; returns its outputs.
  std::vector<ValueId> op(OpSpec spec);

  /// Starts a forward pass; end_forward() gives its tape.
  void begin_forward();
  Tape end_forward();
  /// Runs the tape backwards from the outputs that have a gradient: the loss, or what
  /// receive_gradient() made.
  void backward(const Tape& tape);
  /// An op that receives the gradient of `value` from the next pipeline stage, for the backward()
  /// that follows.
  void receive_gradient(ValueId value);
  /// The gradient of `value`, made by backward(); valid until the next one.
  [[nodiscard]] ValueId gradient_of(ValueId value) const;
  /// An op that receives `elements` of activations from the previous pipeline stage.
  ValueId receive(std::string_view name, std::uint64_t elements);
  /// An op that sends `value` to another rank, in the given phase.
  void send(std::string_view name, ValueId value, Phase phase);

  /// One update op per layer over all parameters made so far.
  void optimizer_step(std::string_view name, double flops_per_element);

  /// Sets last_op and, from it, whether a storage is an activation or a temporary. Call once at the
  /// end.
  void finish();
  /// Not ok when a size did not fit 64 bits.
  [[nodiscard]] Status status() const;

  [[nodiscard]] const std::vector<StepValue>& values() const { return values_; }
  [[nodiscard]] const std::vector<StepOp>& ops() const { return ops_; }

 private:
  ValueId add_value(
      std::string name, std::uint64_t elements, Dtype dtype, BufferKind kind, Phase phase);
  ValueId gradient_value(ValueId of);
  void contribute(ValueId value, ValueId gradient, const OpTag& tag);
  ValueId resolve_saved(ValueId value, const OpTag& tag);
  StepOp& add_op(std::string name, const OpTag& tag);
  void account_traffic(StepOp& op, bool sparse_params) const;
  void run_backward(const TapeNode& node);
  std::string_view keep(std::string_view text);

  Config config_;
  std::uint16_t layer_ = kNoLayer;
  std::string prefix_;
  std::uint8_t micro_batch_ = kNoMicroBatch;
  bool overflow_ = false;
  std::uint64_t total_bytes_ = 0;
  std::vector<StepValue> values_;
  std::vector<StepOp> ops_;
  std::vector<ValueId> params_;
  std::unordered_map<std::string, ValueId> by_name_;  // parameters and shared constants
  std::unordered_set<std::string> names_;             // op names that tapes point to
  std::unordered_map<std::uint32_t, ValueId>
      received_;  // gradients from another stage, for the next backward
  std::unordered_map<std::uint32_t, ValueId> gradients_;   // of this backward
  std::unordered_map<std::uint32_t, ValueId> regathered_;  // gathered again for this backward
  Tape tape_;
};

}  // namespace spillway
