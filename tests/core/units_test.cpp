// SPDX-License-Identifier: Apache-2.0
// Bytes, times and budgets: what is read, what is printed, what is refused.
#include "core/units.hpp"

#include "core/random.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace spillway;

TEST_SUITE("unit") {
  TEST_CASE("bytes are read in binary and decimal units") {
    CHECK(parse_bytes("512").value() == 512);
    CHECK(parse_bytes("20GiB").value() == 20ull << 30);
    CHECK(parse_bytes("20G").value() == 20ull << 30);
    CHECK(parse_bytes("1.5 KiB").value() == 1536);
    CHECK(parse_bytes("1.5GB").value() == 1'500'000'000);
    CHECK(parse_bytes("64k").value() == 65536);
    CHECK(parse_bytes(" 7 b ").value() == 7);
    CHECK(parse_bytes("18446744073709551615").value() == 18446744073709551615ull);
  }

  TEST_CASE("what is not a number of bytes is refused with the text that was found") {
    for (const char* text :
         {"", "GiB", "-1", "1e3x", "nan", "inf", "12 QiB", "1..2", "9999999EiB", "0x10"}) {
      CAPTURE(text);
      const auto bytes = parse_bytes(text);
      REQUIRE(!bytes.ok());
      CHECK(bytes.status().code() == Code::kInvalidArgument);
      CHECK(bytes.status().message().find(text) != std::string::npos);
    }
  }

  TEST_CASE("budgets name what they are a part of") {
    BudgetBasis basis;
    basis.keep_all_peak_bytes = 1000;
    basis.unmovable_bytes = 300;
    basis.activation_bytes = 500;
    basis.device_bytes = 2000;
    CHECK(resolve(parse_budget("60%").value(), basis).value() == 600);
    CHECK(resolve(parse_budget("40%act").value(), basis).value() == 500);
    CHECK(resolve(parse_budget("80%gpu").value(), basis).value() == 1600);
    CHECK(resolve(parse_budget("123").value(), basis).value() == 123);
    basis.device_bytes = 0;
    CHECK(resolve(parse_budget("80%gpu").value(), basis).status().code() == Code::kInvalidArgument);
    for (const char* text : {"", "%", "60%foo", "x%", "-5%", "60%%", "1e9%"}) {
      CAPTURE(text);
      CHECK(!parse_budget(text).ok());
    }
  }

  TEST_CASE("a printed budget is read back as the same budget") {
    Random random(11);
    for (int i = 0; i < 2000; ++i) {
      CAPTURE(i);
      Budget budget;
      budget.unit = static_cast<Budget::Unit>(random.below(4));
      if (budget.unit == Budget::Unit::kBytes) {
        budget.bytes = random.next() >> random.below(64);
      } else {
        budget.ratio = static_cast<double>(random.below(1'000'000)) / 1000 / 100;
      }
      const auto again = parse_budget(format_budget(budget));
      REQUIRE_MESSAGE(again.ok(), format_budget(budget));
      CHECK(again.value() == budget);
    }
  }

  TEST_CASE("people read three figures") {
    CHECK(format_bytes(0) == "0 B");
    CHECK(format_bytes(1023) == "1023 B");
    CHECK(format_bytes(1536) == "1.50 KiB");
    CHECK(format_bytes(20ull << 30) == "20.0 GiB");
    CHECK(format_bytes(1023ull << 20) == "1023 MiB");
    CHECK(format_bytes((1024ull << 20) - 1) == "1.00 GiB");
    CHECK(format_ns(981) == "981 ns");
    CHECK(format_ns(12'300'000) == "12.3 ms");
    CHECK(format_ns(192'000'000'000) == "3 min 12 s");
    CHECK(format_percent(0.1234) == "12.3 %");
    CHECK(format_percent(0.05, true) == "+5.0 %");
  }

  TEST_CASE("times are read with their unit") {
    CHECK(parse_time_ns("5ms").value() == 5'000'000);
    CHECK(parse_time_ns("200us").value() == 200'000);
    CHECK(parse_time_ns("30").value() == 30'000'000'000);
    CHECK(parse_time_ns("2min").value() == 120'000'000'000);
    CHECK(!parse_time_ns("5 parsec").ok());
    CHECK(!parse_time_ns("-1s").ok());
  }
}
