// SPDX-License-Identifier: Apache-2.0
// Prices of alternatives as text and JSON.
#include "integration/cli/explanation.hpp"

#include "core/units.hpp"
#include "integration/report/clean_text.hpp"

#include <fmt/core.h>

namespace spillway::cli {
namespace {

std::string words_of(const Decision& decision) {
  std::string text(name_of(decision.action));
  if (decision.codec != Codec::kNone) text += " " + std::string(name_of(decision.codec));
  return text;
}

std::string tensor_name(const Profile& profile, std::uint32_t storage) {
  const std::string name = clean_text(profile.text(profile.storages[storage].name));
  return name.empty() ? "tensor " + std::to_string(storage) : name;
}

std::string difference(std::int64_t ns) {
  return (ns < 0 ? "-" : "+") + format_ns(ns < 0 ? -ns : ns);
}

}  // namespace

std::string explanation_text(const Profile& profile, const ExplainedPlan& explained) {
  std::string out = fmt::format(
      "\nwhat each tensor's other ways would add to the step, all else unchanged\n"
      "  (decisions lowered anew: step {} in {})\n",
      format_ns(explained.step_ns),
      format_bytes(explained.budget_bytes));
  for (const Explanation& one : explained.explanations) {
    out += fmt::format("  {:<28} {:>9}  {}; instead",
                       tensor_name(profile, one.storage),
                       format_bytes(one.bytes),
                       words_of(one.chosen));
    const char* between = " ";
    for (const Alternative& other : one.alternatives) {
      out += between + words_of(other.decision) + " ";
      if (other.fits) {
        out += difference(other.step_ns - explained.step_ns);
      } else if (other.min_budget_bytes > explained.budget_bytes) {
        out += "does not fit, needs " + format_bytes(other.min_budget_bytes);
      } else {
        out += "does not fit";
      }
      between = ", ";
    }
    out += one.alternatives.empty() ? " nothing\n" : "\n";
  }
  if (explained.explanations.empty()) out += "  no tensor of that name can be moved\n";
  return out;
}

nlohmann::ordered_json explanation_json(const Profile& profile, const ExplainedPlan& explained) {
  using Json = nlohmann::ordered_json;
  const auto decision_into = [](const Decision& decision, Json* object) {
    (*object)["action"] = std::string(name_of(decision.action));
    (*object)["codec"] =
        decision.codec == Codec::kNone ? Json(nullptr) : Json(std::string(name_of(decision.codec)));
  };
  Json tensors = Json::array();
  for (const Explanation& one : explained.explanations) {
    Json tensor;
    tensor["tensor"] = one.storage;
    tensor["name"] = tensor_name(profile, one.storage);
    tensor["bytes"] = one.bytes;
    decision_into(one.chosen, &tensor);
    Json list = Json::array();
    for (const Alternative& other : one.alternatives) {
      Json row;
      decision_into(other.decision, &row);
      row["fits"] = other.fits;
      row["step_ns"] = other.fits ? Json(other.step_ns) : Json(nullptr);
      row["min_budget_bytes"] = other.min_budget_bytes;
      list.push_back(std::move(row));
    }
    tensor["alternatives"] = std::move(list);
    tensors.push_back(std::move(tensor));
  }
  Json object;
  object["step_ns"] = explained.step_ns;
  object["budget_bytes"] = explained.budget_bytes;
  object["tensors"] = std::move(tensors);
  return object;
}

}  // namespace spillway::cli
