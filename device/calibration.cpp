// SPDX-License-Identifier: Apache-2.0
// The calibration files that are built in, by name, and the arithmetic on their numbers.
#include "device/calibration.hpp"

#include "core/printable.hpp"
#include "device/embedded_calib.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <optional>
#include <utility>

namespace spillway {
namespace {

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

std::uint64_t CallCost::ns(std::uint64_t bytes) const {
  // The clamp keeps llround defined; 2^62 ns are 146 years.
  const double part = std::min(static_cast<double>(bytes) / 0x1p30 * ns_per_gib, 0x1p62);
  return fixed_ns + static_cast<std::uint64_t>(std::llround(part));
}

double Calibration::matmul_flops_per_s(MathMode mode) const {
  const double rate = math_flops_per_s[static_cast<std::size_t>(mode)].achieved;
  return rate > 0 ? rate : vector_flops_per_s();
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
