// SPDX-License-Identifier: Apache-2.0
// Access to the values of a parsed pickle.
#include "integration/trace/pickle_parser.hpp"

#include <limits>

namespace spillway {
namespace {

std::int64_t sign_extend_60(std::uint64_t payload) {
  return static_cast<std::int64_t>(payload << 4) >> 4;
}

}  // namespace

std::optional<bool> PickleDocument::as_bool(PickleValue value) const {
  if (value.kind() != PickleKind::kBool) return std::nullopt;
  return value.payload() != 0;
}

std::optional<std::int64_t> PickleDocument::as_int(PickleValue value) const {
  switch (value.kind()) {
    case PickleKind::kBool:
      return static_cast<std::int64_t>(value.payload());
    case PickleKind::kInt:
      return sign_extend_60(value.payload());
    case PickleKind::kWideInt: {
      const std::uint64_t bits = wide_ints_[value.payload()];
      const bool negative = wide_is_negative_[value.payload()];
      if (!negative && bits > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
        return std::nullopt;
      return static_cast<std::int64_t>(bits);
    }
    default:
      return std::nullopt;
  }
}

std::optional<std::uint64_t> PickleDocument::as_uint(PickleValue value) const {
  if (value.kind() == PickleKind::kWideInt) {
    if (wide_is_negative_[value.payload()]) return std::nullopt;
    return wide_ints_[value.payload()];
  }
  const auto number = as_int(value);
  if (!number || *number < 0) return std::nullopt;
  return static_cast<std::uint64_t>(*number);
}

std::optional<double> PickleDocument::as_float(PickleValue value) const {
  if (value.kind() == PickleKind::kFloat) return floats_[value.payload()];
  if (const auto number = as_int(value)) return static_cast<double>(*number);
  return std::nullopt;
}

std::optional<StringId> PickleDocument::as_string_id(PickleValue value) const {
  if (value.kind() != PickleKind::kString) return std::nullopt;
  return StringId(static_cast<std::uint32_t>(value.payload()));
}

std::optional<std::string_view> PickleDocument::as_string(PickleValue value) const {
  const auto id = as_string_id(value);
  if (!id) return std::nullopt;
  return strings_.view(*id);
}

std::optional<PickleValue> PickleDocument::find(PickleValue dict, std::string_view key_text) const {
  return find(dict, key_id(key_text));
}

}  // namespace spillway
