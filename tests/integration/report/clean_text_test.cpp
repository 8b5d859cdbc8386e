// SPDX-License-Identifier: Apache-2.0
// Cleaning of text from traces, against the table of well-formed UTF-8.
#include "integration/report/clean_text.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace spillway;

TEST_SUITE("unit") {
  TEST_CASE("well-formed UTF-8 of every length passes unchanged") {
    const std::string text =
        "plain \xC3\xA9 \xE2\x82\xAC \xED\x9F\xBF \xF0\x9F\x92\xA3 \xF4\x8F\xBF\xBF";
    CHECK(clean_text(text) == text);
  }

  TEST_CASE("overlong forms, surrogates, stray and cut bytes become U+FFFD") {
    const std::string bad = "\xEF\xBF\xBD";
    CHECK(clean_text("\xC0\x80") == bad + bad);
    CHECK(clean_text("\xE0\x9F\x80") == bad + bad + bad);
    CHECK(clean_text("\xED\xA0\x80") == bad + bad + bad);
    CHECK(clean_text("\xF4\x90\x80\x80") == bad + bad + bad + bad);
    CHECK(clean_text("a\x80"
                     "b") == "a" + bad + "b");
    CHECK(clean_text("a\xE2\x82") == "a" + bad + bad);
  }

  TEST_CASE("control characters cannot reach a terminal") {
    const std::string bad = "\xEF\xBF\xBD";
    CHECK(clean_text("a\x1b[0m\n") == "a" + bad + "[0m" + bad);
    CHECK(clean_text(std::string("\0\x7f", 2)) == bad + bad);
    CHECK(clean_text("\xC2\x9B"
                     "31m") == bad + "31m");
  }

  TEST_CASE("shortening counts code points and marks the cut") {
    CHECK(shorten("abcdef", 6) == "abcdef");
    CHECK(shorten("abcdefg", 6) == "abc...");
    CHECK(shorten("abcdefg", 6, true) == "...efg");
    CHECK(shorten("\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9", 4) == "\xC3\xA9...");
    CHECK(shorten("\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9", 4, true) == "...\xC3\xA9");
    CHECK(shorten("abcdef", 2) == "..");
    CHECK(shorten("abcdef", 0).empty());
  }
}
