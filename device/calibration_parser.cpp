// SPDX-License-Identifier: Apache-2.0
// Reads calibration texts and checks every field: a wrong unit or a missing source is an error, so
// that no number enters unexplained. Form: docs/calibration.md.
#include "core/printable.hpp"
#include "device/calibration.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

namespace spillway {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kTextBytesMax = std::size_t{1} << 20;
constexpr std::string_view kSchema1 = "spillway.calibration/1";  // roofline only
constexpr std::string_view kSchema2 = "spillway.calibration/2";  // with DeviceTiming

struct Unit {
  std::string_view name;
  double factor;  // to bytes, bytes/s, flop/s or ns
};
constexpr Unit kByteUnits[] = {
    {"B", 1}, {"KiB", 1024.0}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}, {"GB", 1e9}};
constexpr Unit kRateUnits[] = {{"MB/s", 1e6}, {"GB/s", 1e9}, {"TB/s", 1e12}};
constexpr Unit kFlopUnits[] = {{"GFLOPS", 1e9}, {"TFLOPS", 1e12}, {"PFLOPS", 1e15}};
constexpr Unit kTimeUnits[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}};
constexpr Unit kPerGibUnits[] = {{"ns/GiB", 1}, {"us/GiB", 1e3}, {"ms/GiB", 1e6}};
constexpr Unit kSmUnits[] = {{"SMs", 1}};
constexpr Unit kVersionUnits[] = {{"major.minor", 10}};
constexpr Unit kEngineUnits[] = {{"engines", 1}};
constexpr Unit kLaunchUnits[] = {{"launches", 1}};

// A call that takes a day is a typing error; it also keeps sums of times far from overflow.
constexpr double kNsMax = 86400e9;
constexpr double kCountMax = 1e6;

// Every key that "numbers" may have in schema 2.
constexpr std::string_view kNumberKeys[] = {"memory",
                                            "page",
                                            "memory_bandwidth",
                                            "fp32",
                                            "tf32",
                                            "bf16",
                                            "fp16",
                                            "fp8",
                                            "fused_attention",
                                            "h2d",
                                            "d2h",
                                            "h2d_while_d2h",
                                            "d2h_while_h2d",
                                            "shared_link",
                                            "h2d_pageable",
                                            "d2h_pageable",
                                            "h2d_by_kernel",
                                            "d2h_by_kernel",
                                            "d2d",
                                            "peer",
                                            "copy_latency",
                                            "d2d_latency",
                                            "memset_latency",
                                            "launch_latency",
                                            "kernel_start",
                                            "multiprocessors",
                                            "compute_capability",
                                            "copy_engines",
                                            "launch_queue",
                                            "host",
                                            "vmm",
                                            "memory_calls"};

class CalibrationParser {
 public:
  explicit CalibrationParser(std::string_view source_name) : source_name_(source_name) {}

  Result<Calibration> parse(std::string_view text) {
    if (text.size() > kTextBytesMax) {
      return bad("expected at most 1 MiB of JSON, found " + std::to_string(text.size()) + " bytes");
    }
    Json root;
    try {
      root = Json::parse(text.begin(), text.end());
    } catch (const Json::parse_error& error) {
      return Status(Code::kBadInput,
                    source_name_ + ": offset " + std::to_string(error.byte) +
                        ": expected JSON, found a syntax error");
    } catch (const Json::exception&) {
      return bad("expected JSON, found a number out of range");
    }
    if (!root.is_object())
      return bad("expected a JSON object, found " + std::string(root.type_name()));
    SPW_ASSIGN_OR_RETURN(const std::string schema, text_field(root, "schema", ""));
    if (schema != kSchema1 && schema != kSchema2) {
      return bad("schema: expected " + std::string(kSchema1) + " or " + std::string(kSchema2) +
                 ", found \"" + printable(schema) + "\"");
    }
    SPW_ASSIGN_OR_RETURN(out_.name, text_field(root, "name", ""));
    SPW_ASSIGN_OR_RETURN(out_.title, text_field(root, "title", ""));
    SPW_ASSIGN_OR_RETURN(out_.kind, text_field(root, "calibration", ""));
    if (out_.kind != "published" && out_.kind != "measured") {
      return bad("calibration: expected published or measured, found \"" + printable(out_.kind) +
                 "\"");
    }
    SPW_RETURN_IF_ERROR(read_aliases(root));
    const auto numbers = root.find("numbers");
    if (numbers == root.end() || !numbers->is_object())
      return bad("numbers: expected an object, found none");
    SPW_RETURN_IF_ERROR(read_numbers(*numbers));
    if (schema == kSchema2) {
      SPW_RETURN_IF_ERROR(only_keys(*numbers, "numbers", kNumberKeys));
      SPW_RETURN_IF_ERROR(read_timing(*numbers));
      SPW_RETURN_IF_ERROR(read_measured_on(root));
    }
    return std::move(out_);
  }

 private:
  [[nodiscard]] Status bad(const std::string& what) const {
    return Status(Code::kBadInput, source_name_ + ": " + what);
  }

  [[nodiscard]] Result<std::string> text_field(const Json& object,
                                               const char* key,
                                               const std::string& where) const {
    const auto found = object.find(key);
    if (found == object.end() || !found->is_string())
      return bad(where + key + ": expected a text, found none");
    const auto& text = found->get_ref<const std::string&>();
    if (text.empty()) return bad(where + key + ": expected a text, found an empty one");
    for (const char c : text) {
      if (static_cast<unsigned char>(c) < ' ' || c == '\x7f')
        return bad(where + key + ": expected one line of text, found a control character");
    }
    return text;
  }

  Status read_aliases(const Json& root) {
    const auto found = root.find("aliases");
    if (found == root.end()) return Status();
    if (!found->is_array()) return bad("aliases: expected a list of texts");
    for (const Json& alias : *found) {
      if (!alias.is_string())
        return bad("aliases: expected texts, found " + std::string(alias.type_name()));
      out_.aliases.push_back(alias.get<std::string>());
    }
    return Status();
  }

  enum class Zero { kRefused, kAllowed };

  // One {"value", "unit", "source", "kind"} in base units, above 0 unless zero is allowed.
  template <std::size_t N>
  Result<double> number(const Json& object,
                        const std::string& key,
                        const Unit (&units)[N],
                        Zero zero = Zero::kRefused) {
    if (!object.is_object()) return bad(key + ": expected {value, unit, source, kind}");
    const auto value = object.find("value");
    if (value == object.end() || !value->is_number()) return bad(key + ".value: expected a number");
    SourcedNumber entry;
    entry.key = key;
    entry.value = value->get<double>();
    SPW_ASSIGN_OR_RETURN(entry.unit, text_field(object, "unit", key + "."));
    SPW_ASSIGN_OR_RETURN(entry.source, text_field(object, "source", key + "."));
    SPW_ASSIGN_OR_RETURN(entry.kind, text_field(object, "kind", key + "."));
    if (entry.kind != "published" && entry.kind != "derived" && entry.kind != "measured" &&
        entry.kind != "assumed") {
      return bad(key + ".kind: expected published, derived, measured or assumed, found \"" +
                 printable(entry.kind) + "\"");
    }
    std::string known;
    for (const Unit& unit : units) {
      if (unit.name == entry.unit) {
        const double base = entry.value * unit.factor;
        const bool low = zero == Zero::kAllowed ? !(base >= 0) : !(base > 0);
        if (low || !(base < 1e18)) {
          return bad(key + ".value: expected a number " +
                     (zero == Zero::kAllowed ? "of 0 or more" : "above 0") + " and in range");
        }
        out_.numbers.push_back(std::move(entry));
        return base;
      }
      known += (known.empty() ? "" : ", ") + std::string(unit.name);
    }
    return bad(key + ".unit: expected one of " + known + ", found \"" + printable(entry.unit) +
               "\"");
  }

  template <std::size_t N>
  Status required(const Json& numbers, const char* key, const Unit (&units)[N], double* value) {
    const auto found = numbers.find(key);
    if (found == numbers.end())
      return bad("numbers." + std::string(key) + ": expected, found none");
    SPW_ASSIGN_OR_RETURN(*value, number(*found, key, units));
    return Status();
  }

  template <std::size_t N>
  Status rate(const Json& numbers,
              const std::string& key,
              const Unit (&units)[N],
              AchievableRate* value) {
    const auto found = numbers.find(key);
    if (found == numbers.end()) return Status();
    if (!found->is_object() || !found->contains("peak") || !found->contains("achieved")) {
      return bad("numbers." + key + ": expected {peak, achieved}");
    }
    SPW_ASSIGN_OR_RETURN(value->peak, number((*found)["peak"], key + ".peak", units));
    SPW_ASSIGN_OR_RETURN(value->achieved, number((*found)["achieved"], key + ".achieved", units));
    if (value->achieved > value->peak) return bad("numbers." + key + ": achieved is above peak");
    return Status();
  }

  Status read_numbers(const Json& numbers) {
    double bytes = 0;
    SPW_RETURN_IF_ERROR(required(numbers, "memory", kByteUnits, &bytes));
    out_.memory_bytes = static_cast<std::uint64_t>(bytes);
    SPW_RETURN_IF_ERROR(required(numbers, "page", kByteUnits, &bytes));
    out_.page_bytes = static_cast<std::uint64_t>(bytes);
    if (out_.page_bytes == 0 || out_.memory_bytes < out_.page_bytes) {
      return bad("numbers.page: expected from 1 byte to the memory's size");
    }
    SPW_RETURN_IF_ERROR(rate(numbers, "memory_bandwidth", kRateUnits, &out_.memory_bytes_per_s));
    if (out_.memory_bytes_per_s.achieved <= 0)
      return bad("numbers.memory_bandwidth: expected, found none");
    for (int i = 0; i < kMathModeCount; ++i) {
      const std::string key(name_of(static_cast<MathMode>(i)));
      SPW_RETURN_IF_ERROR(
          rate(numbers, key, kFlopUnits, &out_.math_flops_per_s[static_cast<std::size_t>(i)]));
    }
    if (out_.vector_flops_per_s() <= 0) return bad("numbers.fp32: expected, found none");
    SPW_RETURN_IF_ERROR(
        required(numbers, "fused_attention", kFlopUnits, &out_.attention_flops_per_s));
    SPW_RETURN_IF_ERROR(required(numbers, "h2d", kRateUnits, &out_.h2d_bytes_per_s));
    out_.link_source = out_.numbers.back().source;
    SPW_RETURN_IF_ERROR(required(numbers, "d2h", kRateUnits, &out_.d2h_bytes_per_s));
    if (numbers.contains("h2d_while_d2h")) {
      SPW_RETURN_IF_ERROR(
          required(numbers, "h2d_while_d2h", kRateUnits, &out_.h2d_while_d2h_bytes_per_s));
    }
    SPW_RETURN_IF_ERROR(required(numbers, "peer", kRateUnits, &out_.peer_bytes_per_s));
    double ns = 0;
    SPW_RETURN_IF_ERROR(required(numbers, "copy_latency", kTimeUnits, &ns));
    out_.copy_latency_ns = static_cast<std::uint64_t>(std::llround(ns));
    SPW_RETURN_IF_ERROR(required(numbers, "launch_latency", kTimeUnits, &ns));
    out_.launch_latency_ns = static_cast<std::uint64_t>(std::llround(ns));
    return Status();
  }

  template <std::size_t N>
  [[nodiscard]] Status only_keys(const Json& object,
                                 const std::string& where,
                                 const std::string_view (&keys)[N]) const {
    for (const auto& item : object.items()) {
      if (std::find(std::begin(keys), std::end(keys), item.key()) == std::end(keys))
        return bad(where + "." + printable(item.key()) + ": unknown key");
    }
    return Status();
  }

  Result<const Json*> group(const Json& numbers, const char* key) const {
    const auto found = numbers.find(key);
    if (found == numbers.end())
      return bad("numbers." + std::string(key) + ": expected, found none");
    if (!found->is_object()) return bad("numbers." + std::string(key) + ": expected an object");
    return &*found;
  }

  // A whole number of things.
  template <std::size_t N>
  Status count(const Json& numbers, const char* key, const Unit (&units)[N], std::uint32_t* value) {
    double found = 0;
    SPW_RETURN_IF_ERROR(required(numbers, key, units, &found));
    if (found < 1 || found > kCountMax || std::abs(found - std::round(found)) > 1e-6)
      return bad(std::string(key) + ".value: expected a whole number from 1 to a million");
    *value = static_cast<std::uint32_t>(std::llround(found));
    return Status();
  }

  Status time(const Json& object, const std::string& key, const char* leaf, std::uint64_t* value) {
    const auto found = object.find(leaf);
    if (found == object.end()) return bad("numbers." + key + ": expected, found none");
    SPW_ASSIGN_OR_RETURN(const double ns, number(*found, key, kTimeUnits));
    if (ns > kNsMax) return bad(key + ".value: expected at most a day");
    *value = static_cast<std::uint64_t>(std::llround(ns));
    return Status();
  }

  Status call_cost(const Json& object, const std::string& key, const char* leaf, CallCost* value) {
    const std::string where = key + "." + leaf;
    const auto found = object.find(leaf);
    if (found == object.end()) return bad("numbers." + where + ": expected, found none");
    if (!found->is_object() || !found->contains("fixed") || !found->contains("per_gib"))
      return bad("numbers." + where + ": expected {fixed, per_gib}");
    SPW_RETURN_IF_ERROR(time(*found, where + ".fixed", "fixed", &value->fixed_ns));
    SPW_ASSIGN_OR_RETURN(
        value->ns_per_gib,
        number((*found)["per_gib"], where + ".per_gib", kPerGibUnits, Zero::kAllowed));
    if (value->ns_per_gib > kNsMax) return bad(where + ".per_gib.value: expected at most a day");
    return Status();
  }

  Status read_timing(const Json& numbers) {
    DeviceTiming t;
    if (out_.h2d_while_d2h_bytes_per_s <= 0)
      return bad("numbers.h2d_while_d2h: expected, found none");
    const std::pair<const char*, double*> rates[] = {
        {"d2h_while_h2d", &t.d2h_while_h2d_bytes_per_s},
        {"shared_link", &t.shared_link_bytes_per_s},
        {"h2d_pageable", &t.h2d_pageable_bytes_per_s},
        {"d2h_pageable", &t.d2h_pageable_bytes_per_s},
        {"h2d_by_kernel", &t.h2d_by_kernel_bytes_per_s},
        {"d2h_by_kernel", &t.d2h_by_kernel_bytes_per_s},
        {"d2d", &t.d2d_bytes_per_s}};
    for (const auto& [key, value] : rates)
      SPW_RETURN_IF_ERROR(required(numbers, key, kRateUnits, value));
    const std::pair<const char*, std::uint64_t*> times[] = {
        {"d2d_latency", &t.d2d_latency_ns},
        {"memset_latency", &t.memset_latency_ns},
        {"kernel_start", &t.kernel_start_ns}};
    for (const auto& [key, value] : times) SPW_RETURN_IF_ERROR(time(numbers, key, key, value));
    SPW_RETURN_IF_ERROR(count(numbers, "multiprocessors", kSmUnits, &t.multiprocessor_count));
    SPW_RETURN_IF_ERROR(count(numbers, "compute_capability", kVersionUnits, &t.compute_capability));
    SPW_RETURN_IF_ERROR(count(numbers, "copy_engines", kEngineUnits, &t.copy_engine_count));
    SPW_RETURN_IF_ERROR(count(numbers, "launch_queue", kLaunchUnits, &t.launch_queue_count));
    SPW_RETURN_IF_ERROR(read_host_calls(numbers, &t.host));
    SPW_RETURN_IF_ERROR(read_sized_calls(numbers, &t));
    if (static_cast<double>(out_.copy_latency_ns) > kNsMax)
      return bad("copy_latency.value: expected at most a day");
    if (static_cast<double>(out_.launch_latency_ns) > kNsMax)
      return bad("launch_latency.value: expected at most a day");
    out_.timing = t;
    return Status();
  }

  Status read_host_calls(const Json& numbers, HostCallCosts* host) {
    static constexpr std::string_view kKeys[] = {"launch",
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
                                                 "other"};
    std::uint64_t* const values[] = {&host->launch_ns,
                                     &host->memcpy_async_ns,
                                     &host->memset_async_ns,
                                     &host->event_record_ns,
                                     &host->stream_wait_event_ns,
                                     &host->event_query_ns,
                                     &host->event_create_ns,
                                     &host->event_destroy_ns,
                                     &host->host_func_ns,
                                     &host->synchronize_ns,
                                     &host->stream_create_ns,
                                     &host->mem_alloc_async_ns,
                                     &host->mem_free_async_ns,
                                     &host->mem_get_info_ns,
                                     &host->other_ns};
    static_assert(std::size(kKeys) == std::size(values));
    SPW_ASSIGN_OR_RETURN(const Json* const calls, group(numbers, "host"));
    SPW_RETURN_IF_ERROR(only_keys(*calls, "numbers.host", kKeys));
    for (std::size_t i = 0; i < std::size(kKeys); ++i) {
      SPW_RETURN_IF_ERROR(
          time(*calls, "host." + std::string(kKeys[i]), kKeys[i].data(), values[i]));
    }
    return Status();
  }

  Status read_sized_calls(const Json& numbers, DeviceTiming* t) {
    static constexpr std::string_view kVmm[] = {
        "reserve", "address_free", "create", "map", "set_access", "unmap", "release"};
    CallCost* const vmm[] = {&t->vmm.reserve,
                             &t->vmm.address_free,
                             &t->vmm.create,
                             &t->vmm.map,
                             &t->vmm.set_access,
                             &t->vmm.unmap,
                             &t->vmm.release};
    static_assert(std::size(kVmm) == std::size(vmm));
    SPW_ASSIGN_OR_RETURN(const Json* const ranges, group(numbers, "vmm"));
    SPW_RETURN_IF_ERROR(only_keys(*ranges, "numbers.vmm", kVmm));
    for (std::size_t i = 0; i < std::size(kVmm); ++i)
      SPW_RETURN_IF_ERROR(call_cost(*ranges, "vmm", kVmm[i].data(), vmm[i]));

    static constexpr std::string_view kMemory[] = {
        "alloc", "free", "host_alloc", "host_free", "host_register", "host_unregister"};
    CallCost* const memory[] = {&t->memory.alloc,
                                &t->memory.free,
                                &t->memory.host_alloc,
                                &t->memory.host_free,
                                &t->memory.host_register,
                                &t->memory.host_unregister};
    static_assert(std::size(kMemory) == std::size(memory));
    SPW_ASSIGN_OR_RETURN(const Json* const calls, group(numbers, "memory_calls"));
    SPW_RETURN_IF_ERROR(only_keys(*calls, "numbers.memory_calls", kMemory));
    for (std::size_t i = 0; i < std::size(kMemory); ++i)
      SPW_RETURN_IF_ERROR(call_cost(*calls, "memory_calls", kMemory[i].data(), memory[i]));
    return Status();
  }

  // A measured file says where; a published one holds no number that was measured by us.
  Status read_measured_on(const Json& root) {
    if (out_.kind == "measured") {
      MeasuredOn on;
      SPW_ASSIGN_OR_RETURN(on.machine, text_field(root, "machine", ""));
      SPW_ASSIGN_OR_RETURN(on.driver, text_field(root, "driver", ""));
      SPW_ASSIGN_OR_RETURN(on.date, text_field(root, "date", ""));
      out_.measured_on = std::move(on);
      return Status();
    }
    for (const SourcedNumber& entry : out_.numbers) {
      if (entry.kind == "measured") {
        return bad(entry.key +
                   ".kind: measured, so the file needs \"calibration\": \"measured\", machine, "
                   "driver and date");
      }
    }
    return Status();
  }

  std::string source_name_;
  Calibration out_;
};

}  // namespace

Result<Calibration> parse_calibration(std::string_view json_text, std::string_view source_name) {
  return CalibrationParser(source_name).parse(json_text);
}

}  // namespace spillway
