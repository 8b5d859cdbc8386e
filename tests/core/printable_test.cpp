// SPDX-License-Identifier: Apache-2.0
#include "core/printable.hpp"

#include <doctest/doctest.h>

using spillway::printable;

TEST_SUITE("unit") {
  TEST_CASE("a stranger's words become one short line of plain characters") {
    CHECK(printable("gpt2") == "gpt2");
    CHECK(printable("") == "");
    CHECK(printable("a\nb\tc\x1b[31m") == "a?b?c?[31m");
    CHECK(printable("\xff\xc3\xa9~") == "???~");
    CHECK(printable("abcdef", 3) == "abc...");
    CHECK(printable("abc", 3) == "abc");
  }
}
