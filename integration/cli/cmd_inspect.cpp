// SPDX-License-Identifier: Apache-2.0
// spillway inspect: what is in a trace, before any plan: sizes by kind, the peak, layers, what was
// inferred.
#include "core/units.hpp"
#include "integration/cli/command.hpp"
#include "integration/cli/study.hpp"
#include "integration/report/clean_text.hpp"
#include "integration/report/json.hpp"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <memory>

namespace spillway::cli {
namespace {

struct InspectOptions {
  StudyOptions study;
  bool json = false;
};

struct KindRow {
  std::uint64_t count = 0;
  std::uint64_t bytes = 0;
  std::uint64_t peak_bytes = 0;  // alive at the keep-all peak
};

bool alive_at(const Storage& storage, std::uint32_t op) {
  return (!storage.created_by.valid() || storage.created_by.value <= op) &&
         (!storage.freed_after.valid() || storage.freed_after.value >= op);
}

std::map<std::string, KindRow> by_kind(const Study& study) {
  std::map<std::string, KindRow> rows;
  for (const Storage& storage : study.profile().storages) {
    KindRow& row = rows[std::string(name_of(storage.tag.kind))];
    ++row.count;
    row.bytes += storage.bytes;
    if (alive_at(storage, study.summary().keep_all_peak_op)) row.peak_bytes += storage.bytes;
  }
  return rows;
}

std::uint64_t layer_count(const Profile& profile) {
  std::vector<std::uint16_t> layers;
  for (const Op& op : profile.ops)
    if (op.tag.layer != kNoLayer) layers.push_back(op.tag.layer);
  for (const Storage& storage : profile.storages)
    if (storage.tag.layer != kNoLayer) layers.push_back(storage.tag.layer);
  std::sort(layers.begin(), layers.end());
  return static_cast<std::uint64_t>(std::unique(layers.begin(), layers.end()) - layers.begin());
}

void print_json(const Study& study) {
  const Profile& profile = study.profile();
  const ProfileSummary& summary = study.summary();
  nlohmann::ordered_json out;
  out["schema"] = "spillway.inspect/1";
  out["trace"] = study.context().trace;
  out["format"] = study.info().format;
  out["events"] = study.info().event_count;
  out["model"] = profile.model;
  out["gpu"] = profile.gpu;
  out["times_from"] = study.context().times_from;
  out["step"] = profile.step_number;
  out["steps"] = profile.step_count;
  out["ops"] = profile.ops.size();
  out["storages"] = profile.storages.size();
  out["views"] = profile.tensors.size() - profile.storages.size();
  out["layers"] = layer_count(profile);
  out["can_recompute"] = profile.can_recompute;
  out["keep_all_peak_bytes"] = summary.keep_all_peak_bytes;
  out["activation_bytes"] = summary.activation_bytes;
  out["unmovable_bytes"] = summary.unmovable_bytes;
  out["compute_ns"] = summary.compute_ns;
  out["kinds"] = nlohmann::ordered_json::array();
  for (const auto& [kind, row] : by_kind(study))
    out["kinds"].push_back({{"kind", kind},
                            {"storages", row.count},
                            {"bytes", row.bytes},
                            {"peak_bytes", row.peak_bytes}});
  out["inferred"] = profile.inferred;
  out["notes"] = profile.notes;
  fmt::print("{}", dump_json(out));
}

void print_text(const Study& study) {
  const Profile& profile = study.profile();
  const ProfileSummary& summary = study.summary();
  fmt::print("{}  ({}, {} events)\n",
             study.context().trace,
             study.info().format,
             study.info().event_count);
  if (!profile.model.empty()) fmt::print("model        {}\n", clean_text(profile.model));
  fmt::print("times        {}\n", clean_text(study.context().times_from));
  fmt::print("step         {} of {} in the trace\n", profile.step_number, profile.step_count);
  fmt::print("ops          {}   storages {}   views {}   layers {}\n",
             profile.ops.size(),
             profile.storages.size(),
             profile.tensors.size() - profile.storages.size(),
             layer_count(profile));
  fmt::print("recompute    {}\n",
             profile.can_recompute ? "possible: ops name their inputs and outputs"
                                   : "not possible: the trace names lifetimes only");
  fmt::print("compute      {}\n", format_ns(summary.compute_ns));
  fmt::print("peak         {} at op {} under keep-all\n",
             format_bytes(summary.keep_all_peak_bytes),
             summary.keep_all_peak_op);
  fmt::print("activations  {} alive at the end of forward\n",
             format_bytes(summary.activation_bytes));
  fmt::print("unmovable    {} ({} of the peak)\n\n",
             format_bytes(summary.unmovable_bytes),
             format_percent(summary.keep_all_peak_bytes == 0
                                ? 0.0
                                : static_cast<double>(summary.unmovable_bytes) /
                                      static_cast<double>(summary.keep_all_peak_bytes)));
  fmt::print("{:<12} {:>9} {:>12} {:>12}\n", "kind", "storages", "bytes", "at the peak");
  for (const auto& [kind, row] : by_kind(study))
    fmt::print("{:<12} {:>9} {:>12} {:>12}\n",
               kind,
               row.count,
               format_bytes(row.bytes),
               format_bytes(row.peak_bytes));
  for (const std::string& line : profile.inferred) fmt::print("\ninferred: {}", clean_text(line));
  for (const std::string& line : profile.notes) fmt::print("\nnote: {}", clean_text(line));
  if (!profile.inferred.empty() || !profile.notes.empty()) fmt::print("\n");
}

Status inspect(const InspectOptions& options, Session& session) {
  Progress progress;
  SPW_ASSIGN_OR_RETURN(const auto study,
                       Study::load(options.study, session.command_line, progress));
  progress.clear();
  options.json ? print_json(*study) : print_text(*study);
  return {};
}

}  // namespace

void add_inspect(::CLI::App& app, Session& session) {
  auto options = std::make_shared<InspectOptions>();
  ::CLI::App* command = app.add_subcommand("inspect", "what is in a trace");
  options->study.add_to(*command, false);
  command->add_flag("--json", options->json, "one JSON object on stdout");
  command->callback([options, &session] { session.report(inspect(*options, session)); });
}

}  // namespace spillway::cli
