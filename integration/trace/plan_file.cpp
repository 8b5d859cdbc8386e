// SPDX-License-Identifier: Apache-2.0
// The program is stored as moves between the step's own ops, which are implied and in order.
#include "integration/trace/plan_file.hpp"

#include "core/version.hpp"
#include "integration/trace/atomic_file.hpp"
#include "integration/trace/small_file.hpp"
#include "policy/step_key.hpp"

#include <nlohmann/json.hpp>

#include <array>
#include <cstdio>

namespace spillway {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kFormat = "spillway plan";
constexpr int kVersion = 1;
constexpr std::size_t kPlanBytesMax = std::size_t{1} << 30;
constexpr std::array<std::pair<InstructionKind, std::string_view>, 7> kMoves = {
    {{InstructionKind::kRecompute, "recompute"},
     {InstructionKind::kDrop, "drop"},
     {InstructionKind::kCompress, "compress"},
     {InstructionKind::kDecompress, "decompress"},
     {InstructionKind::kOffload, "offload"},
     {InstructionKind::kPrefetch, "prefetch"},
     {InstructionKind::kRetain, "retain"}}};
constexpr std::string_view kEnd = "end";  // position behind the last op

std::string hex(std::uint64_t value) {
  std::array<char, 24> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%016llx", static_cast<unsigned long long>(value));
  return buffer.data();
}

class Parser {
 public:
  Parser(std::string_view source, const Profile& profile)
      : source_(source), profile_(profile), keys_(step_keys(profile)) {}

  Result<Plan> parse(const Json& document);

 private:
  Status bad(const std::string& where, const std::string& text) const {
    return Status(Code::kBadInput, std::string(source_) + ": " + where + ": " + text);
  }
  Status decision(const Json& item, const std::string& where, Plan* plan) const;
  Status move(const Json& item, const std::string& where, Plan* plan, std::uint32_t* next_op) const;

  std::string_view source_;
  const Profile& profile_;
  StepKeys keys_;
};

Status Parser::decision(const Json& item, const std::string& where, Plan* plan) const {
  if (!item.is_array() || item.size() != 4 || !item[0].is_string() ||
      !item[1].is_number_unsigned() || !item[2].is_string() || !item[3].is_string())
    return bad(where, "expected [key, bytes, action, codec]");
  const auto storage = keys_.storages.find(item[0].get_ref<const std::string&>());
  if (storage == keys_.storages.end())
    return bad(where,
               "the step has no storage '" + item[0].get<std::string>() +
                   "': the plan was made for another step");
  if (profile_.storages[storage->second].bytes != item[1].get<std::uint64_t>())
    return bad(where,
               "storage '" + item[0].get<std::string>() + "' has " +
                   std::to_string(profile_.storages[storage->second].bytes) +
                   " bytes, the plan expects " + std::to_string(item[1].get<std::uint64_t>()));
  Decision decision;
  bool known = false;
  for (int i = 0; i < kActionCount; ++i) {
    if (name_of(static_cast<Action>(i)) != item[2].get_ref<const std::string&>()) continue;
    decision.action = static_cast<Action>(i);
    known = true;
  }
  if (!known) return bad(where, "expected an action, found '" + item[2].get<std::string>() + "'");
  const std::string& codec = item[3].get_ref<const std::string&>();
  decision.codec = parse_codec(codec);
  if (decision.codec == Codec::kNone && codec != name_of(Codec::kNone))
    return bad(where, "expected a codec, found '" + codec + "'");
  plan->decisions[storage->second] = decision;
  return {};
}

Status Parser::move(const Json& item,
                    const std::string& where,
                    Plan* plan,
                    std::uint32_t* next_op) const {
  if (!item.is_array() || item.size() != 4 || !item[0].is_string() || !item[1].is_string() ||
      !item[2].is_string() || !item[3].is_string())
    return bad(where, "expected [before op, move, target, codec]");
  const std::string& before = item[0].get_ref<const std::string&>();
  auto position = static_cast<std::uint32_t>(profile_.ops.size());
  if (before != kEnd) {
    const auto op = keys_.ops.find(before);
    if (op == keys_.ops.end())
      return bad(where, "the step has no op '" + before + "': the plan was made for another step");
    position = op->second;
  }
  if (position < *next_op) return bad(where, "expected moves in the order of the step's ops");
  Instruction instruction;
  for (; *next_op < position; ++*next_op) {
    instruction.target = *next_op;
    plan->program.push_back(instruction);
  }
  const std::string& kind = item[1].get_ref<const std::string&>();
  for (const auto& [value, name] : kMoves)
    if (name == kind) instruction.kind = value;
  if (instruction.kind == InstructionKind::kCompute)
    return bad(where, "expected a move, found '" + kind + "'");
  const bool on_op = instruction.kind == InstructionKind::kRecompute;
  const auto& names = on_op ? keys_.ops : keys_.storages;
  const std::string& target = item[2].get_ref<const std::string&>();
  const auto found = names.find(target);
  if (found == names.end())
    return bad(where, "the step has no '" + target + "': the plan was made for another step");
  instruction.target = found->second;
  const std::string& codec = item[3].get_ref<const std::string&>();
  instruction.codec = parse_codec(codec);
  if (instruction.codec == Codec::kNone && codec != name_of(Codec::kNone))
    return bad(where, "expected a codec, found '" + codec + "'");
  plan->program.push_back(instruction);
  return {};
}

Result<Plan> Parser::parse(const Json& document) {
  if (!document.is_object() || document.value("format", "") != kFormat)
    return bad("format", "expected '" + std::string(kFormat) + "'");
  if (!document.contains("version") || document["version"] != kVersion)
    return bad("version", "expected " + std::to_string(kVersion));
  for (const char* field : {"decisions", "moves"})
    if (!document.contains(field) || !document[field].is_array())
      return bad(field, "expected a list");
  Plan plan;
  if (!document.contains("policy") || !document["policy"].is_string())
    return bad("policy", "expected a name");
  plan.policy = document["policy"].get<std::string>();
  if (!document.contains("budget_bytes") || !document["budget_bytes"].is_number_unsigned())
    return bad("budget_bytes", "expected a number of bytes");
  plan.budget_bytes = document["budget_bytes"].get<std::uint64_t>();
  plan.decisions.resize(profile_.storages.size());
  std::size_t i = 0;
  for (const Json& item : document["decisions"])
    SPW_RETURN_IF_ERROR(decision(item, "decisions[" + std::to_string(i++) + "]", &plan));
  i = 0;
  std::uint32_t next_op = 0;
  for (const Json& item : document["moves"])
    SPW_RETURN_IF_ERROR(move(item, "moves[" + std::to_string(i++) + "]", &plan, &next_op));
  for (; next_op < profile_.ops.size(); ++next_op) {
    Instruction compute;
    compute.target = next_op;
    plan.program.push_back(compute);
  }
  return plan;
}

}  // namespace

std::string plan_text(const Profile& profile, const DeviceModel& device, const Plan& plan) {
  const StepKeys keys = step_keys(profile);
  Json document;
  document["format"] = kFormat;
  document["version"] = kVersion;
  document["made_by"] = "spillway " + std::string(version_text());
  document["policy"] = plan.policy;
  document["budget_bytes"] = plan.budget_bytes;
  document["device"] = device.name;
  document["calibration"] = device.calibration;
  document["model"] = profile.model;
  document["step_signature"] = hex(step_signature(profile));
  document["ranks"] = 1;
  const std::string dump_head = document.dump(1, ' ', false, Json::error_handler_t::replace);
  // One decision or move per line, so that two plans can be compared by diff.
  std::string text = dump_head.substr(0, dump_head.size() - 2) + ",\n \"decisions\": [";
  const char* separator = "\n  ";
  for (std::size_t s = 0; s < plan.decisions.size(); ++s) {
    const Decision& decision = plan.decisions[s];
    if (decision.action == Action::kKeep) continue;
    text += separator;
    text += Json::array({keys.storage_keys[s],
                         profile.storages[s].bytes,
                         name_of(decision.action),
                         name_of(decision.codec)})
                .dump();
    separator = ",\n  ";
  }
  text += "\n ],\n \"moves\": [";
  separator = "\n  ";
  std::uint32_t next_op = 0;
  for (const Instruction& instruction : plan.program) {
    if (instruction.kind == InstructionKind::kCompute) {
      next_op = instruction.target + 1;
      continue;
    }
    std::string_view kind;
    for (const auto& [value, name] : kMoves)
      if (value == instruction.kind) kind = name;
    const bool on_op = instruction.kind == InstructionKind::kRecompute;
    const std::string position =
        next_op < keys.op_keys.size() ? keys.op_keys[next_op] : std::string(kEnd);
    text += separator;
    text += Json::array(
                {position,
                 kind,
                 on_op ? keys.op_keys[instruction.target] : keys.storage_keys[instruction.target],
                 name_of(instruction.codec)})
                .dump();
    separator = ",\n  ";
  }
  return text + "\n ]\n}\n";
}

Status write_plan_file(const std::string& path,
                       const Profile& profile,
                       const DeviceModel& device,
                       const Plan& plan) {
  return write_file(path, plan_text(profile, device, plan));
}

Result<Plan> parse_plan(std::string_view text,
                        std::string_view source_name,
                        const Profile& profile) {
  try {
    return Parser(source_name, profile).parse(Json::parse(text));
  } catch (const Json::parse_error& error) {
    return Status(Code::kBadInput,
                  std::string(source_name) + ": offset " + std::to_string(error.byte) +
                      ": expected a plan file (JSON): " + error.what());
  } catch (const Json::exception& error) {
    return Status(Code::kBadInput,
                  std::string(source_name) + ": expected a plan file: " + error.what());
  }
}

Result<Plan> read_plan_file(const std::string& path, const Profile& profile) {
  SPW_ASSIGN_OR_RETURN(const std::string text, read_small_file(path, kPlanBytesMax));
  return parse_plan(text, path, profile);
}

}  // namespace spillway
