// SPDX-License-Identifier: Apache-2.0
// Parser events to engine events, one for one; names are counted to know what is left at the end.
#include "integration/trace/dtr_events.hpp"

#include "integration/trace/dtr_parser.hpp"
#include "integration/trace/formats.hpp"

#include <new>

namespace spillway {
namespace {

using EventKind = DtrLog::EventKind;
constexpr std::size_t kHeadBytes = std::size_t{64} * 1024;

class DtrLogBuilder final : public DtrLogSink {
 public:
  void on_start(std::string_view) override {}
  void on_backward() override {}
  void on_constant(std::string_view, const DtrMade& made) override {
    on_call({{}, 0, {}, std::span<const DtrMade>(&made, 1)});
    log_.events.push_back({EventKind::kPin, made.value.tensor});
  }
  void on_call(const DtrCall& call) override {
    DtrLog::Op op;
    op.cost_ns = static_cast<std::int64_t>(call.time_ns);
    op.inputs_begin = static_cast<std::uint32_t>(log_.inputs.size());
    for (const DtrValue& argument : call.arguments) log_.inputs.push_back(argument.tensor);
    op.inputs_end = static_cast<std::uint32_t>(log_.inputs.size());
    op.outputs_begin = static_cast<std::uint32_t>(log_.tensors.size());
    const auto index = static_cast<std::uint32_t>(log_.ops.size());
    for (const DtrMade& made : call.results) {
      if (!made.view) log_.storages.push_back({made.bytes, made.value.tensor});
      log_.tensors.push_back({index, made.value.storage});
      names_.push_back(1);
    }
    op.outputs_end = static_cast<std::uint32_t>(log_.tensors.size());
    log_.ops.push_back(op);
    log_.events.push_back({EventKind::kCompute, index});
  }
  void on_name(const DtrValue& value) override {
    ++names_[value.tensor];
    log_.events.push_back({EventKind::kName, value.tensor});
  }
  void on_forget(const DtrValue& value, bool) override {
    --names_[value.tensor];
    log_.events.push_back({EventKind::kForget, value.tensor});
  }

  DtrLog take() {
    for (std::uint32_t tensor = 0; tensor < names_.size(); ++tensor)
      if (names_[tensor] != 0) log_.results.push_back(tensor);
    return std::move(log_);
  }

 private:
  DtrLog log_;
  std::vector<std::uint32_t> names_;  // per tensor
};

}  // namespace

Result<DtrLog> read_dtr_events(ByteSource& source) {
  try {
    BufferedInput input(source);
    SPW_ASSIGN_OR_RETURN(const std::string_view head, input.peek(kHeadBytes));
    if (!matches_dtr_log(head.substr(0, kHeadBytes)))
      return input.error("expected a DTR log, found something else");
    DtrLogBuilder builder;
    SPW_RETURN_IF_ERROR(parse_dtr_log(input, builder).status());
    return builder.take();
  } catch (const std::bad_alloc&) {
    return Status(Code::kOutOfMemory, source.name() + ": not enough host memory to read it");
  }
}

Result<DtrLog> read_dtr_events(const std::string& path) {
  SPW_ASSIGN_OR_RETURN(const auto source, open_file_source(path));
  return read_dtr_events(*source);
}

}  // namespace spillway
