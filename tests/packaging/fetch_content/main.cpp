// SPDX-License-Identifier: Apache-2.0
// A user's program that needs only the deciding half: names an action and prints the version.
#include "core/version.hpp"
#include "policy/plan.hpp"

#include <cstdio>
#include <string_view>

int main() {
  if (spillway::name_of(spillway::Action::kRecompute) != "recompute") return 1;

  const std::string_view version = spillway::version_text();
  std::printf("spillway %.*s\n", static_cast<int>(version.size()), version.data());
  return 0;
}
