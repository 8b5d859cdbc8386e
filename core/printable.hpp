// SPDX-License-Identifier: Apache-2.0
// Words of a stranger inside an error text: one short line of plain ASCII, whatever they were.
#pragma once

#include <string>
#include <string_view>

namespace spillway {

/// At most `length_max` characters of `text`, everything but printable ASCII as '?', "..." where it
/// was cut.
std::string printable(std::string_view text, std::size_t length_max = 64);

}  // namespace spillway
