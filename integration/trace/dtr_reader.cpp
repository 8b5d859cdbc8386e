// SPDX-License-Identifier: Apache-2.0
// Op logs of the DTR prototype as traces: every op with inputs, outputs, bytes and time. The clock
// is the sum of op times. A storage, constants too, is freed when the last name of its last tensor
// is released.
#include "integration/trace/dtr_parser.hpp"
#include "integration/trace/emitter.hpp"
#include "integration/trace/formats.hpp"
#include "integration/trace/op_names.hpp"

#include <string>
#include <vector>

namespace spillway {
namespace {

/// Storages and tensors share one number space in a trace: a storage's id is its first tensor's.
class DtrTraceWriter final : public DtrLogSink {
 public:
  explicit DtrTraceWriter(TraceSink& sink) : out_(sink) {
    out_.meta("source", "dtr-log");
    out_.meta("gpu", "titan-v");
    out_.meta("times_from", "recorded on a Titan V");
  }
  std::uint64_t record_count() const { return out_.record_count(); }

  void on_start(std::string_view model) override {
    if (!model.empty()) out_.meta("model", model);
    out_.step(0);
  }
  void on_backward() override { phase_ = Phase::kBackward; }
  void on_constant(std::string_view name, const DtrMade& made) override {
    OpTag op_tag;
    op_tag.phase = phase_;
    op_tag.kind = OpKind::kOther;
    const std::uint64_t op = ++last_op_;
    out_.op_begin(op, "constant", op_tag);
    const std::uint64_t id = id_of(made.value);
    storage_ids_.push_back(id);
    out_.alloc(id, made.bytes);
    Tag tag;
    tag.kind = BufferKind::kConstant;
    tag.phase = phase_;
    out_.tag(id, tag);
    out_.name(id, name);
    out_.use(op, id, kRecordCreate);
    out_.op_end(op);
  }
  void on_call(const DtrCall& call) override {
    const OpNameInfo info = describe_op_name(call.name);
    // A backward op reads a gradient and something saved. Logs exist in which a forward op of one
    // argument (max_pool2d_backward) bears the name, so the name alone does not start backward.
    if (info.backward && call.arguments.size() >= 2) phase_ = Phase::kBackward;
    OpTag tag;
    tag.kind = info.kind;
    tag.phase = phase_;
    if (info.rng) tag.flags |= kOpRng;
    if (info.kind == OpKind::kCollective) tag.flags |= kOpCollective;
    const std::uint64_t op = ++last_op_;
    out_.op_begin(op, call.name, tag);
    for (const DtrValue& argument : call.arguments) out_.use(op, id_of(argument), kRecordRead);
    for (const DtrMade& made : call.results) {
      const std::uint64_t id = id_of(made.value);
      if (made.view) {
        out_.view(id, storage_ids_[made.value.storage]);
      } else {
        storage_ids_.push_back(id);
        out_.alloc(id, made.bytes);
        out_.name(id, call.name);
      }
      out_.use(op, id, kRecordCreate);
    }
    clock_ns_ += call.time_ns;
    out_.set_time_ns(clock_ns_);
    out_.op_end(op);
  }
  void on_name(const DtrValue&) override {}
  void on_forget(const DtrValue& value, bool last) override {
    if (last) out_.free(storage_ids_[value.storage]);
  }

 private:
  static std::uint64_t id_of(const DtrValue& value) { return std::uint64_t{value.tensor} + 1; }

  TraceEmitter out_;
  Phase phase_ = Phase::kForward;
  std::uint64_t clock_ns_ = 0;
  std::uint64_t last_op_ = 0;
  std::vector<std::uint64_t> storage_ids_;
};

}  // namespace

bool matches_dtr_log(std::string_view head) {
  const std::size_t begin = head.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos || head[begin] != '{') return false;
  const std::string_view line = head.substr(begin, head.find('\n', begin) - begin);
  return line.find("\"INSTRUCTION\"") != std::string_view::npos;
}

Result<TraceInfo> read_dtr_log(BufferedInput& input, const ReadOptions&, TraceSink& sink) {
  DtrTraceWriter writer(sink);
  SPW_ASSIGN_OR_RETURN(const DtrLogFacts facts, parse_dtr_log(input, writer));
  TraceInfo info;
  info.format = "dtr-log";
  info.event_count = writer.record_count();
  info.inferred.push_back("kinds of ops from their names");
  if (facts.mutate_count != 0)
    info.notes.push_back(std::to_string(facts.mutate_count) +
                         " in-place ops are read as ops that make new storages");
  return info;
}

}  // namespace spillway
