// SPDX-License-Identifier: Apache-2.0
// Names to allocators.
#include "integration/replay/allocators.hpp"

#include "integration/replay/fit_model.hpp"
#include "integration/replay/pool_under_test.hpp"
#include "integration/replay/pytorch_model.hpp"

namespace spillway {

const std::vector<std::string_view>& allocator_names() {
  static const std::vector<std::string_view> kNames = {
      "pool", "planned", "pytorch", "best-fit", "first-fit"};
  return kNames;
}

Result<std::unique_ptr<AllocatorUnderTest>> make_allocator(std::string_view name,
                                                           const AllocationTrace& trace,
                                                           std::uint64_t budget_bytes) {
  if (name == "pool") return make_pool_under_test(trace, budget_bytes, PoolService::kOnline);
  if (name == "planned") return make_pool_under_test(trace, budget_bytes, PoolService::kPlanned);
  std::unique_ptr<AllocatorUnderTest> made;
  if (name == "pytorch") made = std::make_unique<PytorchModel>(budget_bytes);
  if (name == "best-fit") made = std::make_unique<FitModel>(FitModel::Fit::kBest, budget_bytes);
  if (name == "first-fit") made = std::make_unique<FitModel>(FitModel::Fit::kFirst, budget_bytes);
  if (made != nullptr) return made;
  std::string known;
  for (const std::string_view word : allocator_names())
    known += (known.empty() ? "" : ", ") + std::string(word);
  return Status(
      Code::kInvalidArgument,
      "--allocator: expected one of " + known + " or all, found '" + std::string(name) + "'");
}

}  // namespace spillway
