// SPDX-License-Identifier: Apache-2.0
// Record order per op: begin and tag; its outputs' alloc, tag and name; uses; flops, traffic and
// workspace; end; then the frees of what it used last, so that memory at an op is what lives plus
// its outputs plus its workspace.
#include "integration/generator/step_writer.hpp"

#include <algorithm>
#include <cmath>
#include <string>

namespace spillway {
namespace {

constexpr std::string_view kDomain = "spillway";
constexpr double kStepNsMax = 9e18;

std::uint64_t as_count(double value) {
  return value < kStepNsMax ? static_cast<std::uint64_t>(value)
                            : static_cast<std::uint64_t>(kStepNsMax);
}

// Opens and closes ranges as micro-batch, phase and layer change from op to op.
class Ranges {
 public:
  explicit Ranges(TraceEmitter& out, bool micro_batches)
      : out_(out), micro_batches_(micro_batches) {}

  void move_to(const OpTag& tag) {
    const bool same_batch = open_ && tag.micro_batch == now_.micro_batch;
    const bool same_phase = same_batch && tag.phase == now_.phase;
    if (same_phase && tag.layer == now_.layer) return;
    close_layer();
    if (!same_phase) close_phase();
    if (!same_batch) close_micro_batch();
    if (!same_batch && micro_batches_ && tag.micro_batch != kNoMicroBatch) {
      out_.range_push(kDomain, "micro-batch " + std::to_string(tag.micro_batch));
      in_micro_batch_ = true;
    }
    if (!same_phase) {
      out_.range_push(kDomain, name_of(tag.phase));
      in_phase_ = true;
    }
    if (tag.layer != kNoLayer) {
      out_.range_push(kDomain, "layer " + std::to_string(tag.layer));
      in_layer_ = true;
    }
    now_ = tag;
    open_ = true;
  }

  void close() {
    close_layer();
    close_phase();
    close_micro_batch();
  }

 private:
  void pop(bool& inside) {
    if (inside) out_.range_pop(kDomain);
    inside = false;
  }
  void close_layer() { pop(in_layer_); }
  void close_phase() { pop(in_phase_); }
  void close_micro_batch() { pop(in_micro_batch_); }

  TraceEmitter& out_;
  bool micro_batches_;
  bool open_ = false;
  bool in_micro_batch_ = false;
  bool in_phase_ = false;
  bool in_layer_ = false;
  OpTag now_;
};

void write_storage(TraceEmitter& out,
                   std::uint64_t id,
                   const StepValue& value,
                   std::uint8_t flags) {
  out.alloc(id, value.bytes, 0, flags);
  out.tag(id, value.tag);
  out.name(id, value.name);
}

}  // namespace

double StepWriter::op_ns(const StepOp& op) const {
  double rate = gpu_.vector_flops_per_s();
  if (op.rate == RateClass::kMatmul) rate = gpu_.matmul_flops_per_s(math_);
  if (op.rate == RateClass::kAttention) {
    // The published rate is for 16 bits; fp32 attention kernels run at the matrix rate of fp32.
    const bool half = math_ == MathMode::kBf16 || math_ == MathMode::kFp16;
    rate = half ? std::min(gpu_.attention_flops_per_s, gpu_.matmul_flops_per_s(math_))
                : gpu_.matmul_flops_per_s(math_);
  }
  const double seconds =
      std::max(op.flops / rate,
               static_cast<double>(op.traffic_bytes) / gpu_.memory_bytes_per_s.achieved) +
      static_cast<double>(op.link_bytes) / gpu_.peer_bytes_per_s;
  return std::round(seconds * 1e9) + static_cast<double>(gpu_.launch_latency_ns);
}

Status StepWriter::check_times() const {
  double total = 0;
  for (const StepOp& op : graph_.ops()) total += op_ns(op);
  if (total < kStepNsMax) return Status();
  return Status(Code::kInvalidArgument,
                "the step would last longer than 292 years; use smaller dimensions");
}

void StepWriter::write_op(TraceEmitter& out,
                          std::uint64_t number,
                          const StepOp& op,
                          const std::vector<std::vector<ValueId>>& dying) const {
  out.op_begin(number, op.name, op.tag);
  for (const ValueId id : op.creates) write_storage(out, id.value, graph_.values()[id.index()], 0);
  for (const ValueId id : op.reads) {
    const bool written = std::find(op.writes.begin(), op.writes.end(), id) != op.writes.end();
    if (!written) out.use(number, id.value, kRecordRead);
  }
  for (const ValueId id : op.writes) out.use(number, id.value, kRecordRead | kRecordWrite);
  for (const ValueId id : op.creates) out.use(number, id.value, kRecordCreate);
  if (op.flops > 0) out.record(RecordKind::kOpFlops, number, as_count(op.flops));
  if (op.traffic_bytes > 0) out.record(RecordKind::kOpTraffic, number, op.traffic_bytes);
  if (op.workspace_bytes > 0) out.record(RecordKind::kOpWorkspace, number, op.workspace_bytes);
  out.set_time_ns(out.time_ns() + static_cast<std::uint64_t>(op_ns(op)));
  out.op_end(number);
  for (const ValueId id : dying[number]) out.free(id.value);
}

void StepWriter::write(std::string_view model, std::string_view arguments, TraceSink& sink) const {
  const std::vector<StepValue>& values = graph_.values();
  const std::vector<StepOp>& ops = graph_.ops();
  TraceEmitter out(sink);
  out.meta("source", "generator");
  out.meta("model", model);
  out.meta("gpu", gpu_.name);
  out.meta("calibration", gpu_.kind);
  out.meta("times_from", "roofline of " + gpu_.name + " (" + gpu_.kind + ")");
  out.meta("generator", arguments);
  out.record(RecordKind::kDevice, gpu_.memory_bytes, out.string(gpu_.title).value);
  out.record(RecordKind::kStream, 0, out.string("compute").value);

  std::vector<std::vector<ValueId>> dying(ops.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i].persistent) {
      write_storage(out, i, values[i], kRecordPreexisting);
    } else if (values[i].last_op < ops.size()) {
      dying[values[i].last_op].push_back(ValueId(i));
    }
  }
  out.step(0);
  bool many = false;
  for (const StepOp& op : ops)
    many = many || (op.tag.micro_batch != kNoMicroBatch && op.tag.micro_batch > 0);
  Ranges ranges(out, many);
  for (std::size_t i = 0; i < ops.size(); ++i) {
    ranges.move_to(ops[i].tag);
    write_op(out, i, ops[i], dying);
  }
  ranges.close();
}

}  // namespace spillway
