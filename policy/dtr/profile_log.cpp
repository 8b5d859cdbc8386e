// SPDX-License-Identifier: Apache-2.0
// One tensor per storage: views of a profile cost nothing to keep and nothing to rebuild.
#include "policy/dtr/profile_log.hpp"

#include "policy/storages_by_op.hpp"

namespace spillway {
namespace {

using EventKind = DtrLog::EventKind;

class LogMaker {
 public:
  LogMaker(const Profile& profile, const GapTable& gaps)
      : profile_(profile),
        gaps_(gaps),
        tensor_of_(profile.storages.size(), DtrLog::kNone),
        by_op_(profile) {}

  ProfileLog make() {
    for (std::uint32_t s = 0; s < profile_.storages.size(); ++s)
      if (!profile_.storages[s].created_by.valid()) add_preexisting(s);
    for (std::uint32_t op = 0; op < profile_.ops.size(); ++op) add_op(op);
    for (std::uint32_t s = 0; s < profile_.storages.size(); ++s) {
      const Storage& storage = profile_.storages[s];
      if (storage.created_by.valid() && !storage.freed_after.valid() && may_go(s))
        out_.log.results.push_back(tensor_of_[s]);
    }
    return std::move(out_);
  }

 private:
  [[nodiscard]] bool may_go(std::uint32_t storage) const {
    const auto gaps = gaps_.of(storage);
    return !gaps.empty() && gaps.front().rebuildable;
  }
  void add_storage(std::uint32_t storage, bool fixed) {
    DtrLog& log = out_.log;
    const auto tensor = static_cast<std::uint32_t>(log.tensors.size());
    tensor_of_[storage] = tensor;
    log.tensors.push_back({static_cast<std::uint32_t>(log.ops.size()),
                           static_cast<std::uint32_t>(log.storages.size())});
    log.storages.push_back({profile_.storages[storage].bytes, tensor, fixed});
    out_.storage_of.push_back(storage);
  }
  void end_op(DtrLog::Op op) {
    op.inputs_end = static_cast<std::uint32_t>(out_.log.inputs.size());
    op.outputs_end = static_cast<std::uint32_t>(out_.log.tensors.size());
    out_.log.events.push_back(
        {EventKind::kCompute, static_cast<std::uint32_t>(out_.log.ops.size())});
    out_.log.ops.push_back(op);
  }
  [[nodiscard]] DtrLog::Op begin_op() const {
    DtrLog::Op op;
    op.inputs_begin = static_cast<std::uint32_t>(out_.log.inputs.size());
    op.outputs_begin = static_cast<std::uint32_t>(out_.log.tensors.size());
    return op;
  }

  void add_preexisting(std::uint32_t storage) {
    const DtrLog::Op op = begin_op();
    add_storage(storage, true);
    end_op(op);
    ++out_.preexisting_count;
  }

  void add_op(std::uint32_t index) {
    const Op& info = profile_.ops[index];
    DtrLog::Op op = begin_op();
    op.cost_ns = static_cast<std::int64_t>(info.duration_ns);
    op.workspace_bytes = info.workspace_bytes;
    for (const Use use : profile_.uses_of(info)) {
      if (use.creates() && use.tensor().index() < profile_.storages.size()) continue;
      const std::uint32_t input = profile_.storage_of(use).value;
      if (profile_.storages[input].created_by.value == index) continue;  // a view of its own output
      out_.log.inputs.push_back(tensor_of_[input]);
    }
    for (const std::uint32_t storage : by_op_.made.of(index))
      add_storage(storage, !may_go(storage));
    end_op(op);
    for (const std::uint32_t storage : by_op_.freed.of(index))
      if (tensor_of_[storage] != DtrLog::kNone)
        out_.log.events.push_back({EventKind::kForget, tensor_of_[storage]});
  }

  const Profile& profile_;
  const GapTable& gaps_;
  std::vector<std::uint32_t> tensor_of_;
  StoragesByOp by_op_;
  ProfileLog out_;
};

}  // namespace

ProfileLog dtr_log_of(const Profile& profile, const GapTable& gaps) {
  return LogMaker(profile, gaps).make();
}

}  // namespace spillway
