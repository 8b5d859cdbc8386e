// SPDX-License-Identifier: Apache-2.0
// The registry. A new planner is one file under planners/ and one line here.
#include "policy/planner.hpp"

#include "policy/planners/presets.hpp"

#include <charconv>

namespace spillway {
namespace {

constexpr ActionSet kKeepOnly = action_bit(Action::kKeep);
constexpr ActionSet kRecomputes = action_bit(Action::kKeep) | action_bit(Action::kRecompute);
constexpr ActionSet kOffloads = action_bit(Action::kKeep) | action_bit(Action::kOffload);

bool take_parameter(const Planner& planner, std::string_view text, PlanRequest* request) {
  switch (planner.parameter) {
    case Parameter::kNone:
      return false;
    case Parameter::kCount: {
      std::uint32_t count = 0;
      const auto parsed = std::from_chars(text.data(), text.data() + text.size(), count);
      if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size() || count == 0)
        return false;
      request->k = count;
      return true;
    }
    case Parameter::kFraction: {
      double fraction = -1;
      const auto parsed = std::from_chars(text.data(), text.data() + text.size(), fraction);
      if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size() ||
          !(fraction >= 0 && fraction <= 1))
        return false;
      request->variant = text;
      return true;
    }
    case Parameter::kWord:
      for (const std::string_view word : planner.words) {
        if (word != text) continue;
        request->variant = text;
        return true;
      }
      return false;
  }
  return false;
}

std::string expected_parameter(const Planner& planner) {
  const std::string name(planner.name);
  switch (planner.parameter) {
    case Parameter::kNone:
      return name + " without a parameter";
    case Parameter::kCount:
      return "a parameter such as " + name + ":4";
    case Parameter::kFraction:
      return "a parameter from 0 to 1 such as " + name + ":0.5";
    case Parameter::kWord: {
      std::string text;
      for (const std::string_view word : planner.words)
        text += (text.empty() ? "one of " : ", ") + name + ":" + std::string(word);
      return text;
    }
  }
  return name;
}

}  // namespace

const std::vector<Planner>& planners() {
  static const std::vector<Planner> kPlanners = {
      {"keep-all", "nothing moves", "reference", kKeepOnly, false, plan_keep_all},
      {"chen-sqrt",
       "checkpoint about sqrt(n) segments; with a budget, the cheapest segment size that fits "
       "(chen-sqrt:greedy, strict: on the graph)",
       "Chen et al. 2016, arXiv 1604.06174",
       kRecomputes,
       true,
       plan_chen_sqrt,
       Parameter::kWord,
       {"greedy", "strict"}},
      {"every-k",
       "checkpoint every k-th layer (every-k:K, default 2)",
       "common practice",
       kRecomputes,
       false,
       plan_every_k,
       Parameter::kCount},
      {"full",
       "checkpoint every layer, recompute all inside",
       "Korthikanti et al. 2022, arXiv 2205.05198",
       kRecomputes,
       false,
       plan_full},
      {"selective",
       "recompute attention, norms, softmax, dropout and elementwise ops; keep matmuls and "
       "convolutions",
       "Korthikanti et al. 2022, arXiv 2205.05198",
       kRecomputes,
       false,
       plan_selective},
      {"segments",
       "K equal segments of layers, the last one not checkpointed (segments:K, default sqrt(n))",
       "torch.utils.checkpoint.checkpoint_sequential",
       kRecomputes,
       false,
       plan_segments,
       Parameter::kCount},
      {"collection",
       "checkpoint tensors named so, else layer boundaries; recompute all else",
       "TensorFlow gradient-checkpointing, Salimans & Bulatov 2018",
       kRecomputes,
       false,
       plan_collection},
      {"speed",
       "checkpoint outputs of matmuls and convolutions; recompute all else",
       "TensorFlow gradient-checkpointing, Salimans & Bulatov 2018",
       kRecomputes,
       false,
       plan_speed},
      {"memory",
       "checkpoint about sqrt(n) of the graph's bottlenecks; recompute all else",
       "TensorFlow gradient-checkpointing, Salimans & Bulatov 2018",
       kRecomputes,
       false,
       plan_memory},
      {"torch-budget",
       "min-cut and knapsack of activation_memory_budget (torch-budget:0.5; default: the largest "
       "that fits)",
       "PyTorch, torch/_functorch/partitioners.py",
       kRecomputes,
       true,
       plan_torch_budget,
       Parameter::kFraction},
      {"revolve",
       "binomial checkpointing of equal stages (revolve:C for C checkpoints, default what fits)",
       "Griewank & Walther 2000, TOMS 799",
       kRecomputes,
       true,
       plan_revolve,
       Parameter::kCount},
      {"rotor",
       "optimal persistent checkpoints of a chain of unequal stages",
       "Beaumont et al. 2019, arXiv 1911.13214",
       kRecomputes,
       true,
       plan_rotor},
      {"bptt",
       "hidden and internal states of equal time steps kept in a fixed memory",
       "Gruslys et al. 2016, arXiv 1606.03401",
       kRecomputes,
       true,
       plan_bptt,
       Parameter::kWord,
       {"hidden", "internal", "mixed"}},
      {"pofo",
       "recompute and offload of a chain together, over a link as fast as the device's",
       "Beaumont et al. 2021, NeurIPS",
       static_cast<ActionSet>(kRecomputes | kOffloads),
       true,
       plan_pofo},
      {"offload-all",
       "every activation to host memory and back",
       "save_on_cpu",
       kOffloads,
       false,
       plan_offload_all},
      {"dtr",
       "online: evicts the least score, recomputes on demand (dtr:h_DTR, h_eq, h_local, LRU, size, "
       "MSPS)",
       "Kirisame et al. 2021, arXiv 2006.09616",
       kRecomputes,
       true,
       plan_dtr,
       Parameter::kWord,
       {"h_DTR", "h_eq", "h_local", "LRU", "size", "MSPS"}},
      {"capuchin",
       "swaps what hides between two accesses; the rest by swap or recompute, whichever stalls "
       "less",
       "Peng et al. 2020, doi 10.1145/3373376.3378505",
       kRecomputes | kOffloads,
       true,
       plan_capuchin},
      {"joint",
       "all levers per tensor and op: a greedy portfolio, then a local search over schedules",
       "spillway",
       kAllActions,
       true,
       plan_joint},
  };
  return kPlanners;
}

Result<const Planner*> find_planner(std::string_view text, PlanRequest* request) {
  const std::size_t colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  for (const Planner& planner : planners()) {
    if (planner.name != name) continue;
    if (colon == std::string_view::npos) return &planner;
    if (!take_parameter(planner, text.substr(colon + 1), request))
      return Status(
          Code::kInvalidArgument,
          "expected " + expected_parameter(planner) + ", found '" + std::string(text) + "'");
    return &planner;
  }
  std::string known;
  for (const Planner& planner : planners())
    known += (known.empty() ? "" : ", ") + std::string(planner.name);
  return Status(Code::kInvalidArgument,
                "unknown policy '" + std::string(text) + "'; known: " + known);
}

}  // namespace spillway
