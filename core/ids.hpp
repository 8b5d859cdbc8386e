// SPDX-License-Identifier: Apache-2.0
// Strong ids: 32-bit indices that do not convert into each other. kNone (all ones) means "no such
// thing".
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>

namespace spillway {

template <typename Kind>
struct Id {
  static constexpr std::uint32_t kNoneValue = 0xffffffffu;

  std::uint32_t value = kNoneValue;

  constexpr Id() = default;
  constexpr explicit Id(std::uint32_t v) : value(v) {}
  constexpr explicit Id(std::size_t v) : value(static_cast<std::uint32_t>(v)) {}

  static constexpr Id none() { return Id(); }
  [[nodiscard]] constexpr bool valid() const { return value != kNoneValue; }
  [[nodiscard]] constexpr std::size_t index() const { return value; }

  friend constexpr auto operator<=>(Id a, Id b) = default;
};

using StringId = Id<struct StringKind>;    // index into a StringTable; 0 is ""
using StackId = Id<struct StackKind>;      // node of a call tree; 0 is its root
using StorageId = Id<struct StorageKind>;  // index into Profile::storages
using TensorId = Id<struct TensorKind>;    // index into Profile::tensors (roots and views)
using OpId = Id<struct OpKindTag>;         // index into Profile::ops, in step order

}  // namespace spillway
