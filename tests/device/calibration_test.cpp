// SPDX-License-Identifier: Apache-2.0
// Built-in calibration files are complete and sourced; hostile ones are refused with the field's
// name.
#include "device/calibration.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

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

Json sized(double us) { return {{"fixed", number(us, "us")}, {"per_gib", number(0, "us/GiB")}}; }

// The same GPU in schema 2, with everything that the timed model needs.
Json whole_file() {
  Json file = small_file();
  file["schema"] = "spillway.calibration/2";
  file["machine"] = "a test bench";
  file["driver"] = "580.1";
  file["date"] = "2026-11-22";
  Json& numbers = file["numbers"];
  for (const char* key : {"h2d_while_d2h",
                          "d2h_while_h2d",
                          "shared_link",
                          "h2d_pageable",
                          "d2h_pageable",
                          "h2d_by_kernel",
                          "d2h_by_kernel",
                          "d2d"})
    numbers[key] = number(5, "GB/s");
  for (const char* key : {"d2d_latency", "memset_latency", "kernel_start"})
    numbers[key] = number(1, "us");
  numbers["multiprocessors"] = number(4, "SMs");
  numbers["compute_capability"] = number(8.9, "major.minor");
  numbers["copy_engines"] = number(2, "engines");
  numbers["launch_queue"] = number(1024, "launches");
  for (const char* key : {"launch",
                          "memcpy_async",
                          "memset_async",
                          "event_record",
                          "stream_wait_event",
                          "event_query",
                          "event_create",
                          "event_destroy",
                          "host_func",
                          "synchronize",
                          "stream_create",
                          "mem_alloc_async",
                          "mem_free_async",
                          "mem_get_info",
                          "other"})
    numbers["host"][key] = number(2, "us");
  for (const char* key :
       {"reserve", "address_free", "create", "map", "set_access", "unmap", "release"})
    numbers["vmm"][key] = sized(3);
  for (const char* key :
       {"alloc", "free", "host_alloc", "host_free", "host_register", "host_unregister"})
    numbers["memory_calls"][key] = sized(4);
  numbers["memory_calls"]["host_alloc"]["per_gib"] = number(250, "ms/GiB");
  return file;
}

// Every leaf of `object` as a JSON pointer.
void leaves(const Json& object, const std::string& at, std::vector<std::string>* out) {
  for (const auto& item : object.items()) {
    const std::string path = at + "/" + item.key();
    if (item.value().is_object() && !item.value().contains("value"))
      leaves(item.value(), path, out);
    else
      out->push_back(path);
  }
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
      CHECK(gpu.value().numbers.size() >= 60);
      for (const SourcedNumber& entry : gpu.value().numbers) {
        CAPTURE(entry.key);
        CHECK_FALSE(entry.source.empty());
        CHECK(entry.kind != "measured");
        const bool may_be_zero = entry.key.find(".per_gib") != std::string::npos;
        CHECK((entry.value > 0 || (may_be_zero && entry.kind == "assumed")));
        const bool unpublished = entry.source.rfind("none that we found", 0) == 0;
        if (unpublished) CHECK((entry.kind == "derived" || entry.kind == "assumed"));
        if (entry.kind == "assumed") CHECK(entry.source.size() > 20);
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

  TEST_CASE("every built-in GPU states what the timed model needs, in an order that makes sense") {
    for (const std::string& name : calibration_names()) {
      CAPTURE(name);
      const auto loaded = load_calibration(name);
      REQUIRE(loaded.ok());
      const Calibration& gpu = loaded.value();
      CHECK_FALSE(gpu.measured_on.has_value());
      REQUIRE(gpu.timing.has_value());
      const DeviceTiming& t = *gpu.timing;
      CHECK(t.copy_engine_count >= 1);
      CHECK(t.multiprocessor_count >= 50);
      CHECK(t.launch_queue_count == 1024);
      CHECK(gpu.h2d_while_d2h_bytes_per_s <= gpu.h2d_bytes_per_s);
      CHECK(t.d2h_while_h2d_bytes_per_s <= gpu.d2h_bytes_per_s);
      CHECK(t.h2d_pageable_bytes_per_s < gpu.h2d_bytes_per_s);
      CHECK(t.d2d_bytes_per_s < gpu.memory_bytes_per_s.peak);
      CHECK(t.d2d_bytes_per_s > gpu.h2d_bytes_per_s);
      CHECK(t.vmm.create.ns(gpu.page_bytes) > t.vmm.map.ns(gpu.page_bytes));
      CHECK(t.memory.host_register.ns(std::uint64_t{1} << 30) > 100'000'000);
    }
  }

  TEST_CASE("the H100 and A100 carry what was published about their copies and mappings") {
    const auto h100 = load_calibration("h100");
    REQUIRE(h100.ok());
    REQUIRE(h100.value().timing.has_value());
    CHECK(h100.value().timing->copy_engine_count == 3);
    CHECK(h100.value().timing->compute_capability == 90);
    CHECK(h100.value().timing->multiprocessor_count == 132);
    CHECK(h100.value().h2d_while_d2h_bytes_per_s + h100.value().timing->d2h_while_h2d_bytes_per_s ==
          doctest::Approx(83.4e9));
    CHECK(h100.value().timing->host.launch_ns == 5500);
    const auto a100 = load_calibration("a100-80");
    REQUIRE(a100.ok());
    REQUIRE(a100.value().timing.has_value());
    const VmmCosts& vmm = a100.value().timing->vmm;
    const std::uint64_t page = std::uint64_t{2} << 20;
    CHECK(static_cast<double>(vmm.create.ns(page)) == doctest::Approx(193e3).epsilon(0.001));
    CHECK(vmm.map.ns(page) == 1450);
    CHECK(vmm.set_access.ns(page) == 36000);
    CHECK(vmm.unmap.ns(page) == 25600);
    CHECK(vmm.reserve.ns(std::uint64_t{8} << 30) == 19000);
  }

  TEST_CASE("the cost of a call grows with its bytes and never wraps") {
    const CallCost cost{100, 1000};
    CHECK(cost.ns(0) == 100);
    CHECK(cost.ns(std::uint64_t{1} << 30) == 1100);
    CHECK(cost.ns(std::uint64_t{1} << 29) == 600);
    const CallCost dear{0, 8.64e13};
    CHECK(dear.ns(~std::uint64_t{0}) == std::uint64_t{1} << 62);
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
    CHECK_FALSE(gpu.value().timing.has_value());
    CHECK_FALSE(gpu.value().measured_on.has_value());
  }

  TEST_CASE("a user's measured file of schema 2 says where and when") {
    const auto gpu = parse_calibration(whole_file().dump(), "mine.json");
    REQUIRE(gpu.ok());
    REQUIRE(gpu.value().measured_on.has_value());
    CHECK(gpu.value().measured_on->machine == "a test bench");
    CHECK(gpu.value().measured_on->driver == "580.1");
    CHECK(gpu.value().measured_on->date == "2026-11-22");
    REQUIRE(gpu.value().timing.has_value());
    CHECK(gpu.value().timing->compute_capability == 89);
    CHECK(gpu.value().timing->host.other_ns == 2000);
    CHECK(gpu.value().timing->memory.host_alloc.ns(std::uint64_t{2} << 30) == 500'004'000);
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

  TEST_CASE("schema 2 refuses each missing number by name") {
    const Json whole = whole_file();
    std::vector<std::string> paths;
    leaves(whole["numbers"], "/numbers", &paths);
    CHECK(paths.size() > 50);
    for (const std::string& path : paths) {
      CAPTURE(path);
      Json broken = whole;
      const std::size_t cut = path.rfind('/');
      broken[Json::json_pointer(path.substr(0, cut))].erase(path.substr(cut + 1));
      const auto gpu = parse_calibration(broken.dump(), "mine.json");
      REQUIRE_FALSE(gpu.ok());
      const std::string& text = gpu.status().message();
      CHECK(text.rfind("mine.json: numbers.", 0) == 0);
      CHECK(text.find(path.substr(cut + 1)) != std::string::npos);
      CHECK(text.find('\n') == std::string::npos);
    }
    for (const char* key : {"machine", "driver", "date"}) {
      CAPTURE(key);
      Json broken = whole;
      broken.erase(key);
      const auto gpu = parse_calibration(broken.dump(), "mine.json");
      REQUIRE_FALSE(gpu.ok());
      CHECK(gpu.status().message().find(key) != std::string::npos);
    }
  }

  TEST_CASE("schema 2 refuses what it does not know, wrong counts and costs out of range") {
    const auto refused = [](const char* pointer, const Json& value, const char* expected) {
      Json broken = whole_file();
      broken[Json::json_pointer(pointer)] = value;
      const auto gpu = parse_calibration(broken.dump(), "mine.json");
      CAPTURE(pointer);
      REQUIRE_FALSE(gpu.ok());
      CHECK(gpu.status().code() == Code::kBadInput);
      const std::string& text = gpu.status().message();
      CAPTURE(text);
      CHECK(text.find(expected) != std::string::npos);
    };
    refused("/numbers/h2dd", number(1, "GB/s"), "numbers.h2dd: unknown key");
    refused("/numbers/host/launches", number(1, "us"), "numbers.host.launches: unknown key");
    refused("/numbers/vmm/pin", sized(1), "numbers.vmm.pin: unknown key");
    refused("/numbers/host", 3, "numbers.host: expected an object");
    refused("/numbers/vmm/map", number(1, "us"), "numbers.vmm.map: expected {fixed, per_gib}");
    refused("/numbers/copy_engines/value", 2.5, "copy_engines.value: expected a whole number");
    refused("/numbers/copy_engines/value", 0, "copy_engines.value");
    refused("/numbers/copy_engines/value", 1e7, "copy_engines.value");
    refused("/numbers/multiprocessors/unit", "GB/s", "multiprocessors.unit");
    refused("/numbers/host/launch/value", 1e12, "host.launch.value: expected at most a day");
    refused("/numbers/copy_latency/value", 1e12, "copy_latency.value: expected at most a day");
    refused("/numbers/vmm/map/per_gib/value", -1, "vmm.map.per_gib.value");
    refused("/numbers/vmm/map/per_gib/unit", "us", "vmm.map.per_gib.unit");
    refused("/numbers/vmm/map/fixed/value", 0, "vmm.map.fixed.value");
    refused("/numbers/d2d/kind", "guessed", "d2d.kind");
    refused("/date", "two\nlines", "date");
    Json published = whole_file();
    published["calibration"] = "published";
    CHECK(parse_calibration(published.dump(), "mine.json").ok());
    published["numbers"]["d2d"]["kind"] = "measured";
    const auto gpu = parse_calibration(published.dump(), "mine.json");
    REQUIRE_FALSE(gpu.ok());
    CHECK(gpu.status().message().find("d2d.kind: measured, so the file needs") !=
          std::string::npos);
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
    refused("/schema", "spillway.calibration/3");
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
