// SPDX-License-Identifier: Apache-2.0
#include "device/measure/calibration_text.hpp"

#include "core/printable.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <map>
#include <string_view>
#include <vector>

namespace spillway::measure {
namespace {

using Json = nlohmann::ordered_json;

// Six digits are more than any clock here knows; counts and sizes stay whole.
double rounded(double value) {
  if (!std::isfinite(value) || value == std::floor(value)) return value;
  const double scale = std::pow(10.0, 5 - std::floor(std::log10(std::abs(value))));
  const double whole = std::round(value * scale);
  return std::isfinite(whole) ? whole / scale : value;
}

Json entry(double value, const std::string& unit, const std::string& source, const char* kind) {
  Json out;
  out["value"] = value;
  out["unit"] = unit;
  out["source"] = source;
  out["kind"] = kind;
  return out;
}

// "vmm.create.fixed" is numbers["vmm"]["create"]["fixed"].
Json& place(Json& numbers, std::string_view key) {
  Json* at = &numbers;
  for (;;) {
    const std::size_t dot = key.find('.');
    at = &(*at)[std::string(key.substr(0, dot))];
    if (dot == std::string_view::npos) return *at;
    key.remove_prefix(dot + 1);
  }
}

std::string file_name_of(const std::string& title) {
  std::string out;
  for (const char c : title) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0) {
      out.push_back(static_cast<char>(std::tolower(byte)));
    } else if (!out.empty() && out.back() != '-') {
      out.push_back('-');
    }
  }
  while (!out.empty() && out.back() == '-') out.pop_back();
  return out.empty() ? "gpu" : out;
}

// What a GPU without a published file needs beside what was measured.
void assume_rest(const Measurements& m, Json& numbers) {
  const auto from = [&](const char* key, const char* measured, const std::string& unit) {
    Json& at = place(numbers, key);
    if (!at.is_null()) return;
    at = entry(rounded(m.value_of(measured)),
               unit,
               std::string("not measured and no published file of this GPU; as ") + measured,
               "assumed");
  };
  from("memory_bandwidth.peak", "memory_bandwidth.achieved", "GB/s");
  from("fp32.peak", "fp32.achieved", "TFLOPS");
  from("fused_attention", "fp32.achieved", "TFLOPS");
  from("shared_link", "h2d", "GB/s");
  from("peer", "d2h", "GB/s");
  if (place(numbers, "launch_queue").is_null()) {
    numbers["launch_queue"] =
        entry(1024, "launches", "no launch waited; launches are seen to block at 1024", "assumed");
  }
  for (const char* key : {"host.mem_alloc_async", "host.mem_free_async"})
    from(key, "host.event_record", "us");
}

// A rate above its data-sheet peak: the sheet is of another variant, or the clock was higher.
void raise_peaks(Json& numbers) {
  for (auto& [key, value] : numbers.items()) {
    if (!value.contains("peak") || !value.contains("achieved")) continue;
    // Compared only where the units are the same, as in every file of ours.
    if (value["peak"]["unit"] != value["achieved"]["unit"]) continue;
    const double achieved = value["achieved"]["value"].template get<double>();
    if (value["peak"]["value"].template get<double>() >= achieved) continue;
    value["peak"] = entry(achieved,
                          value["peak"]["unit"].template get<std::string>(),
                          "measured above the data sheet; as achieved",
                          "derived");
  }
}

}  // namespace

Result<std::string> calibration_text(const DeviceCapabilities& device,
                                     const Measurements& measurements,
                                     const MeasuredOn& where,
                                     const Calibration* base) {
  const std::string title = printable(device.name.empty() ? "unnamed GPU" : device.name);
  Json root;
  root["schema"] = "spillway.calibration/2";
  root["name"] = base != nullptr ? base->name : file_name_of(title);
  root["title"] = title;
  root["aliases"] = base != nullptr ? base->aliases : std::vector<std::string>{};
  root["calibration"] = "measured";
  root["machine"] = where.machine;
  root["driver"] = where.driver;
  root["date"] = where.date;
  Json numbers = Json::object();
  if (base != nullptr) {
    for (const SourcedNumber& one : base->numbers)
      place(numbers, one.key) = entry(one.value, one.unit, one.source, one.kind.c_str());
  }
  for (const Measured& one : measurements.numbers()) {
    place(numbers, one.key) =
        entry(rounded(one.value), one.unit, "spillway calibrate: " + one.how, "measured");
  }
  if (base == nullptr) assume_rest(measurements, numbers);
  raise_peaks(numbers);
  root["numbers"] = std::move(numbers);
  Json observations = Json::array();
  for (const Observation& one : measurements.observations()) {
    Json line;
    line["what"] = one.what;
    line["value"] = rounded(one.value);
    line["unit"] = one.unit;
    observations.push_back(std::move(line));
  }
  root["observations"] = std::move(observations);
  std::string text;
  try {
    text = root.dump(1) + "\n";
  } catch (const Json::exception&) {
    return Status(Code::kInternal, "calibrate: a text of the result is not UTF-8");
  }
  const auto parsed = parse_calibration(text, "calibrate");
  if (!parsed.ok()) {
    return Status(Code::kInternal,
                  "the measured numbers make no calibration: " + parsed.status().message());
  }
  return text;
}

}  // namespace spillway::measure
