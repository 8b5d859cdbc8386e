// SPDX-License-Identifier: Apache-2.0
// Built-in calibration files are complete and sourced; hostile ones are refused with the field's
// name.
#include "device/calibration.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <string>

using namespace spillway;
using Json = nlohmann::json;

namespace {

Json number(double value, const char* unit) {
  return {{"value", value}, {"unit", unit}, {"source", "a test"}, {"kind", "derived"}};
}

Json small_file() {
  Json rate = {{"peak", number(2, "TFLOPS")}, {"achieved", number(1, "TFLOPS")}};
  return {{"schema", "spillway.calibration/1"},
          {"name", "tiny"},
          {"title", "A tiny GPU"},
          {"calibration", "measured"},
          {"numbers",
           {{"memory", number(4, "GiB")},
            {"page", number(64, "KiB")},
            {"memory_bandwidth", {{"peak", number(100, "GB/s")}, {"achieved", number(80, "GB/s")}}},
            {"fp32", rate},
            {"fused_attention", number(1, "TFLOPS")},
            {"h2d", number(10, "GB/s")},
            {"d2h", number(9, "GB/s")},
            {"peer", number(9, "GB/s")},
            {"copy_latency", number(3, "us")},
            {"launch_latency", number(2, "us")}}}};
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("every built-in GPU loads by its own name and states a source for every number") {
    const auto names = calibration_names();
    REQUIRE(names.size() >= 9);
    CHECK(std::is_sorted(names.begin(), names.end()));
    for (const std::string& name : names) {
      CAPTURE(name);
      const auto gpu = load_calibration(name);
      REQUIRE(gpu.ok());
      CHECK(gpu.value().name == name);
      CHECK(gpu.value().kind == "published");
      CHECK(gpu.value().numbers.size() >= 14);
      for (const SourcedNumber& entry : gpu.value().numbers) {
        CAPTURE(entry.key);
        CHECK_FALSE(entry.source.empty());
        CHECK(entry.value > 0);
      }
      CHECK(gpu.value().memory_bytes_per_s.achieved < gpu.value().memory_bytes_per_s.peak);
      CHECK(gpu.value().matmul_flops_per_s(MathMode::kFp16) >= gpu.value().vector_flops_per_s());
    }
  }

  TEST_CASE(
      "the H200's numbers arrive in bytes, bytes per second, flops per second and nanoseconds") {
    const auto gpu = load_calibration("h200");
    REQUIRE(gpu.ok());
    CHECK(gpu.value().memory_bytes == std::uint64_t{143771} << 20);
    CHECK(gpu.value().page_bytes == std::uint64_t{2} << 20);
    CHECK(gpu.value().memory_bytes_per_s.peak == doctest::Approx(4.8e12));
    CHECK(gpu.value().matmul_flops_per_s(MathMode::kBf16) == doctest::Approx(794.5e12));
    CHECK(gpu.value().h2d_bytes_per_s == doctest::Approx(52e9));
    CHECK(gpu.value().copy_latency_ns == 2200);
    CHECK(gpu.value().launch_latency_ns == 1400);
    CHECK(gpu.value().link_source.find("nvbandwidth") != std::string::npos);
  }

  TEST_CASE("product names find their GPU by whole words and the longest match") {
    CHECK(load_calibration("NVIDIA H200").value().name == "h200");
    CHECK(load_calibration("NVIDIA H100 80GB HBM3").value().name == "h100");
    CHECK(load_calibration("NVIDIA A100-SXM4-40GB").value().name == "a100-40");
    CHECK(load_calibration("NVIDIA A100-SXM4-80GB").value().name == "a100-80");
    CHECK(load_calibration("A100").value().name == "a100-80");
    CHECK(load_calibration("Tesla V100-SXM2-32GB").value().name == "v100");
    CHECK(load_calibration("NVIDIA TITAN V").value().name == "titan-v");
    CHECK(load_calibration("GeForce RTX 4090").value().name == "rtx4090");
    const auto grace = load_calibration("NVIDIA GH200 480GB");
    REQUIRE_FALSE(grace.ok());
    CHECK(grace.status().code() == Code::kNotFound);
    CHECK(grace.status().message().find("h200") != std::string::npos);
    CHECK_FALSE(load_calibration("").ok());
    CHECK_FALSE(load_calibration("---").ok());
  }

  TEST_CASE("a mode that a GPU lacks runs at its fp32 rate") {
    const auto gpu = load_calibration("p100");
    REQUIRE(gpu.ok());
    CHECK(gpu.value().matmul_flops_per_s(MathMode::kBf16) == gpu.value().vector_flops_per_s());
    CHECK(gpu.value().matmul_flops_per_s(MathMode::kFp16) > gpu.value().vector_flops_per_s());
  }

  TEST_CASE("a user's file is read with its units") {
    const auto gpu = parse_calibration(small_file().dump(), "mine.json");
    REQUIRE(gpu.ok());
    CHECK(gpu.value().memory_bytes == std::uint64_t{4} << 30);
    CHECK(gpu.value().kind == "measured");
    CHECK(gpu.value().d2h_bytes_per_s == doctest::Approx(9e9));
    CHECK(gpu.value().h2d_while_d2h_bytes_per_s == 0);
  }
}

TEST_SUITE("fault") {
  TEST_CASE("each missing field is refused by name") {
    const Json whole = small_file();
    for (const char* key : {"schema", "name", "title", "calibration", "numbers"}) {
      CAPTURE(key);
      Json broken = whole;
      broken.erase(key);
      const auto gpu = parse_calibration(broken.dump(), "mine.json");
      REQUIRE_FALSE(gpu.ok());
      CHECK(gpu.status().code() == Code::kBadInput);
      CHECK(gpu.status().message().find(key) != std::string::npos);
    }
    for (const auto& item : whole["numbers"].items()) {
      CAPTURE(item.key());
      Json broken = whole;
      broken["numbers"].erase(item.key());
      const auto gpu = parse_calibration(broken.dump(), "mine.json");
      REQUIRE_FALSE(gpu.ok());
      CHECK(gpu.status().message().find("mine.json: ") == 0);
      CHECK(gpu.status().message().find(item.key()) != std::string::npos);
    }
  }

  TEST_CASE("wrong units, signs, sizes, kinds and types are refused") {
    const auto refused = [](const char* pointer, const Json& value) {
      Json broken = small_file();
      broken[Json::json_pointer(pointer)] = value;
      const auto gpu = parse_calibration(broken.dump(), "mine.json");
      CAPTURE(pointer);
      CHECK_FALSE(gpu.ok());
      CHECK(gpu.status().code() == Code::kBadInput);
    };
    refused("/numbers/h2d/unit", "furlongs");
    refused("/numbers/h2d/value", -1);
    refused("/numbers/h2d/value", 0);
    refused("/numbers/h2d/value", 1e300);
    refused("/numbers/h2d/value", "10");
    refused("/numbers/h2d/source", "");
    refused("/numbers/h2d/kind", "guessed");
    refused("/title", "two\nlines");
    refused("/numbers/h2d/unit", "\xc3\xa9\n");
    refused("/numbers/h2d", 10);
    refused("/numbers/page/value", 1e9);
    refused("/numbers/fp32/achieved/value", 3);
    refused("/numbers", Json::array());
    refused("/schema", "spillway.calibration/2");
    refused("/aliases", Json::array({1}));
    refused("/calibration", "assumed");
  }

  TEST_CASE("text that is not JSON is refused with its offset") {
    const auto cut = parse_calibration("{\"schema\": ", "mine.json");
    REQUIRE_FALSE(cut.ok());
    CHECK(cut.status().message().find("mine.json: offset ") == 0);
    CHECK_FALSE(parse_calibration("", "mine.json").ok());
    CHECK_FALSE(parse_calibration("[]", "mine.json").ok());
    CHECK_FALSE(parse_calibration("\xff\xfe", "mine.json").ok());
    CHECK_FALSE(parse_calibration("{\"x\": 1e999}", "mine.json").ok());
    const std::string deep(100000, '[');
    CHECK_FALSE(parse_calibration(deep, "mine.json").ok());
    CHECK_FALSE(parse_calibration(std::string((1u << 20) + 1, ' '), "mine.json").ok());
  }
}
