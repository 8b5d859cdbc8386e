// SPDX-License-Identifier: Apache-2.0
// Rules become a set of codecs per storage once, so that asking costs no text.
#include "policy/codec_choice.hpp"

#include <algorithm>

namespace spillway {
namespace {

constexpr CodecSet bit_of(Codec codec) {
  return static_cast<CodecSet>(1u << static_cast<unsigned>(codec));
}

bool permits(const PlanRequest& request, Codec codec, const Tag& tag) {
  return codec_applies(codec, tag, request.allow_lossy) &&
         !(relative_error_bound(codec) > request.max_error);
}

std::string number(double value) {
  std::string text = std::to_string(value);
  while (text.size() > 3 && text.back() == '0') text.pop_back();
  return text;
}

/// Why `codec` may not hold a storage with `tag`.
std::string refusal(Codec codec, const Tag& tag, const PlanRequest& request) {
  const std::string name(name_of(codec));
  if (tag.dtype == Dtype::kUnknown) return "its dtype is not known";
  if (!codec_supports(codec, tag.dtype))
    return name + " takes no " + std::string(name_of(tag.dtype));
  if (codec == Codec::kFp8E5m2) return name + " is for gradients, and those do not move";
  if (tag.kind != BufferKind::kActivation)
    return "it is a " + std::string(name_of(tag.kind)) + ", codecs take activations";
  if (codec == Codec::kMask1) return "it is tagged neither boolean nor sign_only";
  if (codec == Codec::kSparse) return "it is not tagged sparse_values";
  if (tag.has(kExactRequired)) return "it is tagged exact_required";
  if (tag.has(kBoolean)) return "it is a mask";
  if (!request.allow_lossy) return name + " changes bits, which needs --lossy";
  return "the error bound of " + name + ", " + number(relative_error_bound(codec)) + ", is above " +
         number(request.max_error);
}

Status wrong(const CodecRule& rule, const std::string& what) {
  return {Code::kInvalidArgument,
          "--codec '" + rule.pattern + "=" + std::string(name_of(rule.codec)) + "': " + what};
}

}  // namespace

Result<CodecRule> parse_codec_rule(std::string_view text) {
  const std::size_t at = text.rfind('=');
  if (at == std::string_view::npos || at == 0)
    return Status(Code::kInvalidArgument,
                  "--codec: expected PATTERN=NAME, found '" + std::string(text) + "'");
  CodecRule rule;
  rule.pattern = text.substr(0, at);
  const std::string_view name = text.substr(at + 1);
  rule.codec = parse_codec(name);
  if (rule.codec != Codec::kNone || name == name_of(Codec::kNone)) return rule;
  std::string names;
  for (int i = 0; i < kCodecCount; ++i)
    names += (i == 0                 ? ""
              : i + 1 == kCodecCount ? " or "
                                     : ", ") +
             std::string(name_of(static_cast<Codec>(i)));
  return Status(Code::kInvalidArgument,
                "--codec: expected " + names + " after '=', found '" + std::string(name) + "'");
}

bool matches_pattern(std::string_view pattern, std::string_view name) {
  std::size_t p = 0;
  std::size_t n = 0;
  std::size_t star = std::string_view::npos;  // the last one seen, and what it stands for so far
  std::size_t star_end = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_end = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++star_end;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

Result<std::vector<CodecSet>> resolve_codec_rules(const Profile& profile,
                                                  std::span<const CodecRule> rules,
                                                  const PlanRequest& request) {
  if (rules.empty()) return std::vector<CodecSet>();
  std::vector<CodecSet> sets(profile.storages.size(), kAnyCodec);
  for (const CodecRule& rule : rules) {
    const Storage* refused = nullptr;
    bool followed = false;
    for (std::size_t s = 0; s < sets.size(); ++s) {
      const Storage& storage = profile.storages[s];
      if (!is_movable(storage) || !matches_pattern(rule.pattern, profile.text(storage.name)))
        continue;
      if (rule.codec != Codec::kNone && !permits(request, rule.codec, storage.tag)) {
        if (refused == nullptr) refused = &storage;
        continue;
      }
      followed = true;
      sets[s] = bit_of(rule.codec);
    }
    if (followed) continue;
    if (refused == nullptr) return wrong(rule, "no storage that may move has such a name");
    return wrong(rule,
                 "'" + std::string(profile.text(refused->name)) +
                     "' may not take it: " + refusal(rule.codec, refused->tag, request));
  }
  return sets;
}

double relative_error_bound(Codec codec) {
  const CodecErrorBound bound = error_bound(codec);
  return std::max(bound.relative, bound.of_group_max);
}

CodecSet allowed_codecs(const Profile& profile, std::uint32_t storage, const PlanRequest& request) {
  const CodecSet wanted = storage < request.codecs.size() ? request.codecs[storage] : kAnyCodec;
  const Tag& tag = profile.storages[storage].tag;
  CodecSet set = 0;
  for (int i = 1; i < kCodecCount; ++i) {
    const auto codec = static_cast<Codec>(i);
    if ((wanted & bit_of(codec)) != 0 && permits(request, codec, tag))
      set = static_cast<CodecSet>(set | bit_of(codec));
  }
  return set;
}

Codec best_codec(const Profile& profile,
                 std::uint32_t storage,
                 const PlanRequest& request,
                 bool exact) {
  const Storage& info = profile.storages[storage];
  const bool named = storage < request.codecs.size() && request.codecs[storage] != kAnyCodec;
  const CodecSet set = allowed_codecs(profile, storage, request);
  Codec best = Codec::kNone;
  std::uint64_t best_bytes = info.bytes;
  for (int i = 1; i < kCodecCount; ++i) {
    const auto codec = static_cast<Codec>(i);
    if ((set & bit_of(codec)) == 0 || (exact && !keeps_values(codec, info.tag))) continue;
    if (codec == Codec::kInt4 && !named) continue;
    const std::uint64_t bytes = payload_bytes(codec, info.tag.dtype, info.bytes);
    if (bytes >= best_bytes) continue;
    best = codec;
    best_bytes = bytes;
  }
  return best;
}

Status check_codecs(const Profile& profile, const Plan& plan, const PlanRequest& request) {
  for (const Instruction& instruction : plan.program) {
    if (instruction.kind != InstructionKind::kCompress ||
        instruction.target >= profile.storages.size())
      continue;
    if ((allowed_codecs(profile, instruction.target, request) & bit_of(instruction.codec)) != 0)
      continue;
    return {Code::kInvalidArgument,
            "'" + std::string(profile.text(profile.storages[instruction.target].name)) +
                "' is compressed by " + std::string(name_of(instruction.codec)) +
                ", which --codec or --max-error forbids"};
  }
  return {};
}

}  // namespace spillway
