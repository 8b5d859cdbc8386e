// SPDX-License-Identifier: Apache-2.0
// spillway codec: what each codec makes of the user's own values.
#include "core/units.hpp"
#include "integration/cli/codec_trial.hpp"
#include "integration/cli/command.hpp"
#include "integration/report/clean_text.hpp"
#include "integration/report/json.hpp"
#include "kernels/host/host_kernels.hpp"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <memory>
#include <optional>
#include <thread>

namespace spillway::cli {
namespace {

using Json = nlohmann::ordered_json;

struct CodecOptions {
  std::string input;
  std::string dtype;
  std::string offset;
  int sparse_capacity = kDefaultSparseCapacity;
  int threads = 0;
  bool json = false;
};

std::string_view shown_name(Codec codec) {
  return codec == Codec::kNone ? std::string_view("copy") : name_of(codec);
}

double gbps(std::uint64_t bytes, std::int64_t ns) {
  return ns <= 0 ? 0 : static_cast<double>(bytes) / static_cast<double>(ns);
}

double ratio_of(const TrialResult& result, const CodecTrial& trial) {
  return static_cast<double>(result.bytes) / static_cast<double>(trial.payload_bytes);
}

/// Mask1 of numbers says where they are above 0: nothing to take a difference with.
bool has_errors(const CodecTrial& trial, Dtype dtype) {
  return trial.fits() && (trial.codec != Codec::kMask1 || dtype == Dtype::kBool);
}

std::optional<double> snr_db(const CodecTrial& trial) {
  if (!(trial.noise > 0) || !(trial.signal > 0) || !std::isfinite(trial.signal / trial.noise))
    return std::nullopt;
  return 10 * std::log10(trial.signal / trial.noise);
}

/// What comes back: "bits", "sign" (mask1 of numbers), "rounded", or "no" where it does not fit.
std::string_view comes_back(const CodecTrial& trial) {
  if (!trial.fits()) return "no";
  if (trial.codec == Codec::kMask1 && !trial.bit_exact) return trial.sign_exact ? "sign" : "wrong";
  if (trial.bit_exact) return "bits";
  return is_lossless(trial.codec) ? "wrong" : "rounded";
}

int threads_of(const CodecOptions& options) {
  if (options.threads > 0) return options.threads;
  const unsigned count = std::thread::hardware_concurrency();
  return count == 0 ? 1 : static_cast<int>(count);
}

Json or_null(std::optional<double> value) {
  return value && std::isfinite(*value) ? Json(*value) : Json(nullptr);
}

void print_json(const CodecOptions& options,
                std::uint64_t offset,
                Dtype dtype,
                const TrialResult& result) {
  Json out;
  out["schema"] = "spillway.codec/1";
  out["file"] = options.input;
  out["offset"] = offset;
  out["dtype"] = name_of(dtype);
  out["values"] = result.values;
  out["bytes"] = result.bytes;
  out["groups"] = result.groups;
  out["nonfinite_groups"] = result.nonfinite_groups;
  out["sparse_capacity"] = options.sparse_capacity;
  out["measured_on"] = {{"device", "host processor"},
                        {"instructions", name_of(best_host_isa())},
                        {"threads", threads_of(options)}};
  Json rows = Json::array();
  for (const CodecTrial& trial : result.codecs) {
    const bool errors = has_errors(trial, dtype);
    Json row;
    row["name"] = shown_name(trial.codec);
    row["ratio"] = ratio_of(result, trial);
    row["payload_bytes"] = trial.payload_bytes;
    row["lossless"] = is_lossless(trial.codec);
    row["fits"] = trial.fits();
    row["bit_exact"] = trial.fits() && trial.bit_exact;
    row["comes_back"] = comes_back(trial);
    row["max_error"] = errors ? or_null(trial.max_error) : Json(nullptr);
    row["error_bound"] = errors ? or_null(trial.error_bound) : Json(nullptr);
    row["above_bound"] = trial.above_bound;
    row["snr_db"] = errors ? or_null(snr_db(trial)) : Json(nullptr);
    row["escapes"] = trial.escapes;
    row["misfit_tiles"] = trial.misfit_tiles;
    row["encode_gbps"] = gbps(result.bytes, trial.encode_ns);
    row["decode_gbps"] = gbps(result.bytes, trial.decode_ns);
    row["memcpy_gbps"] = gbps(result.bytes, result.memcpy_ns);
    rows.push_back(std::move(row));
  }
  out["codecs"] = std::move(rows);
  fmt::print("{}", dump_json(out));
}

void print_text(const CodecOptions& options, Dtype dtype, const TrialResult& result) {
  fmt::print("{}  {} values of {}, {}; {} groups of 128",
             clean_text(options.input),
             result.values,
             name_of(dtype),
             format_bytes(result.bytes),
             result.groups);
  if (result.nonfinite_groups != 0)
    fmt::print(", {} with NaN or Inf left out of the errors", result.nonfinite_groups);
  fmt::print(
      "\nGB/s of these values on this machine's processor: {}, {} threads, memcpy {:.2f}\n\n",
      name_of(best_host_isa()),
      threads_of(options),
      gbps(result.bytes, result.memcpy_ns));
  fmt::print("{:<11}{:>6}  {:<8}{:>10}{:>11}{:>8}{:>10}{:>8}{:>8}\n",
             "codec",
             "ratio",
             "returns",
             "max error",
             "bound",
             "SNR dB",
             "escapes",
             "encode",
             "decode");
  for (const CodecTrial& trial : result.codecs) {
    const auto snr = snr_db(trial);
    const bool errors = has_errors(trial, dtype) && dtype != Dtype::kBool;
    fmt::print("{:<11}{:>6.3f}  {:<8}{:>10}{:>11}{:>8}{:>10}{:>8.2f}{:>8.2f}\n",
               shown_name(trial.codec),
               ratio_of(result, trial),
               comes_back(trial),
               errors ? fmt::format("{:.4g}", trial.max_error) : "-",
               errors ? fmt::format("{:.4g}", trial.error_bound) : "-",
               errors && snr ? fmt::format("{:.1f}", *snr) : "-",
               trial.escapes,
               gbps(result.bytes, trial.encode_ns),
               gbps(result.bytes, trial.decode_ns));
  }
  for (const CodecTrial& trial : result.codecs)
    if (!trial.fits())
      fmt::print(
          "{} does not fit: {} tiles of 2048 values have too many {}; the source would stay\n",
          shown_name(trial.codec),
          trial.misfit_tiles,
          trial.codec == Codec::kLossless12 ? "exponents outside the window"
          : trial.codec == Codec::kSparse   ? "values that are not zero"
                                            : "bytes that are neither 0 nor 1");
}

Status run(const CodecOptions& options) {
  TrialOptions how;
  how.dtype = parse_dtype(options.dtype);
  how.sparse_capacity = static_cast<std::uint8_t>(options.sparse_capacity);
  how.threads = options.threads;
  std::uint64_t offset = 0;
  if (!options.offset.empty()) {
    SPW_ASSIGN_OR_RETURN(offset, parse_bytes(options.offset));
  }
  SPW_ASSIGN_OR_RETURN(ValueFile file, ValueFile::open(options.input, how.dtype, offset));
  Progress progress;
  const Result<TrialResult> result = try_codecs(file, how, progress);
  progress.clear();
  if (!result.ok()) return result.status();
  options.json ? print_json(options, offset, how.dtype, result.value())
               : print_text(options, how.dtype, result.value());
  for (const CodecTrial& trial : result.value().codecs)
    if (comes_back(trial) == "wrong" || trial.above_bound != 0)
      return {Code::kInternal,
              fmt::format("codec {}: {} values are outside the error bound",
                          shown_name(trial.codec),
                          trial.above_bound)};
  return {};
}

}  // namespace

void add_codec(::CLI::App& app, Session& session) {
  auto options = std::make_shared<CodecOptions>();
  ::CLI::App* command = app.add_subcommand(
      "codec", "what each codec makes of your own values: size, error, speed on this machine");
  command->add_option("file", options->input, "raw little-endian values")
      ->required()
      ->type_name("FILE");
  command->add_option("--dtype", options->dtype, "of the values: bf16, fp16, fp32 or bool")
      ->required()
      ->check(::CLI::IsMember({"bf16", "fp16", "fp32", "bool"}));
  command->add_flag("--json", options->json, "one JSON object on standard output");
  command->add_option("--offset", options->offset, "bytes before the first value, such as a header")
      ->type_name("BYTES");
  command
      ->add_option("--sparse-capacity",
                   options->sparse_capacity,
                   "sixteenths of a tile that sparse may hold (default 10)")
      ->check(::CLI::Range(1, 16));
  command->add_option("--threads", options->threads, "default: one per processor")
      ->check(::CLI::Range(1, 256));
  command->callback([options, &session] { session.report(run(*options)); });
}

}  // namespace spillway::cli
