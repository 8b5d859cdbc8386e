// SPDX-License-Identifier: Apache-2.0
// Parses calibration files and checks every field: a wrong unit or a missing source is an error, so
// that no number enters unexplained.
#include "device/calibration.hpp"

#include "core/printable.hpp"
#include "device/embedded_calib.hpp"

#include <nlohmann/json.hpp>

#include <cctype>
#include <cmath>
#include <optional>

namespace spillway {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kTextBytesMax = std::size_t{1} << 20;
constexpr std::string_view kSchema = "spillway.calibration/1";

struct Unit {
  std::string_view name;
  double factor;  // to bytes, bytes/s, flop/s or ns
};
constexpr Unit kByteUnits[] = {
    {"B", 1}, {"KiB", 1024.0}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}, {"GB", 1e9}};
constexpr Unit kRateUnits[] = {{"MB/s", 1e6}, {"GB/s", 1e9}, {"TB/s", 1e12}};
constexpr Unit kFlopUnits[] = {{"GFLOPS", 1e9}, {"TFLOPS", 1e12}, {"PFLOPS", 1e15}};
constexpr Unit kTimeUnits[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}};

// Lower case, every run of other characters one '-', a '-' at both ends: a name then matches whole
// words only.
std::string canonical(std::string_view text) {
  std::string out = "-";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0) {
      out.push_back(static_cast<char>(std::tolower(byte)));
    } else if (out.back() != '-') {
      out.push_back('-');
    }
  }
  if (out.back() != '-') out.push_back('-');
  return out;
}

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
    if (schema != kSchema)
      return bad("schema: expected " + std::string(kSchema) + ", found \"" + printable(schema) +
                 "\"");
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

  // One {"value", "unit", "source", "kind"} in base units. Every number must be above 0 and below
  // 1e30.
  template <std::size_t N>
  Result<double> number(const Json& object, const std::string& key, const Unit (&units)[N]) {
    if (!object.is_object()) return bad(key + ": expected {value, unit, source, kind}");
    const auto value = object.find("value");
    if (value == object.end() || !value->is_number()) return bad(key + ".value: expected a number");
    SourcedNumber entry;
    entry.key = key;
    entry.value = value->get<double>();
    SPW_ASSIGN_OR_RETURN(entry.unit, text_field(object, "unit", key + "."));
    SPW_ASSIGN_OR_RETURN(entry.source, text_field(object, "source", key + "."));
    SPW_ASSIGN_OR_RETURN(entry.kind, text_field(object, "kind", key + "."));
    if (entry.kind != "published" && entry.kind != "measured" && entry.kind != "derived") {
      return bad(key + ".kind: expected published, measured or derived, found \"" +
                 printable(entry.kind) + "\"");
    }
    std::string known;
    for (const Unit& unit : units) {
      if (unit.name == entry.unit) {
        const double base = entry.value * unit.factor;
        if (!(base > 0) || !(base < 1e18))
          return bad(key + ".value: expected a number above 0 and in range");
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

  std::string source_name_;
  Calibration out_;
};

}  // namespace

std::string_view name_of(MathMode mode) {
  switch (mode) {
    case MathMode::kFp32:
      return "fp32";
    case MathMode::kTf32:
      return "tf32";
    case MathMode::kBf16:
      return "bf16";
    case MathMode::kFp16:
      return "fp16";
    case MathMode::kFp8:
      return "fp8";
  }
  return "";
}

double Calibration::matmul_flops_per_s(MathMode mode) const {
  const double rate = math_flops_per_s[static_cast<std::size_t>(mode)].achieved;
  return rate > 0 ? rate : vector_flops_per_s();
}

Result<Calibration> parse_calibration(std::string_view json_text, std::string_view source_name) {
  return CalibrationParser(source_name).parse(json_text);
}

Result<Calibration> load_calibration(std::string_view name) {
  const std::string wanted = canonical(name.substr(0, 256));
  std::size_t best_length = 0;
  std::optional<Calibration> best;
  std::string known;
  for (const EmbeddedFile& file : embedded::calib()) {
    SPW_ASSIGN_OR_RETURN(Calibration one, parse_calibration(file.text, file.name));
    known += (known.empty() ? "" : ", ") + one.name;
    std::vector<std::string> names = one.aliases;
    names.push_back(one.name);
    for (const std::string& candidate : names) {
      const std::string form = canonical(candidate);
      if (form.size() > best_length && form.size() > 2 && wanted.find(form) != std::string::npos) {
        best_length = form.size();
        best = one;
      }
    }
  }
  if (!best) return Status(Code::kNotFound, "no GPU \"" + printable(name) + "\"; known: " + known);
  return *std::move(best);
}

std::vector<std::string> calibration_names() {
  std::vector<std::string> names;
  for (const EmbeddedFile& file : embedded::calib()) {
    names.emplace_back(file.name.substr(0, file.name.rfind('.')));
  }
  return names;
}

}  // namespace spillway
