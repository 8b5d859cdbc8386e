// SPDX-License-Identifier: Apache-2.0
// spillway calibrate: measures a GPU and writes a calibration file that says where and when.
#include "core/clock.hpp"
#include "device/context.hpp"
#include "device/cuda/load_driver.hpp"
#include "device/measure/calibration_text.hpp"
#include "device/measure/measurements.hpp"
#include "integration/cli/command.hpp"
#include "integration/cli/output_name.hpp"
#include "integration/cli/progress.hpp"
#include "integration/report/clean_text.hpp"
#include "integration/trace/atomic_file.hpp"

#include <fmt/core.h>

#include <ctime>
#include <fstream>
#include <memory>
#include <unistd.h>

namespace spillway::cli {
namespace {

struct Options {
  int gpu = 0;
  bool quick = false;
  std::string output;
};

/// First line of a system file that holds `key`; empty when there is none.
std::string line_with(const char* path, const std::string& key) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    if (line.find(key) != std::string::npos) return clean_text(line);
  }
  return "";
}

std::string machine_text() {
  const std::string line = line_with("/proc/cpuinfo", "model name");
  const std::size_t colon = line.find(": ");
  const std::string processor =
      colon == std::string::npos ? "unknown processor" : line.substr(colon + 2);
  return fmt::format("{}, {} cores", processor, ::sysconf(_SC_NPROCESSORS_ONLN));
}

std::string driver_text(const Driver& driver) {
  int version = 0;
  if (driver.cuDriverGetVersion(&version) != cu::Result::kSuccess) version = 0;
  const std::string kernel = line_with("/proc/driver/nvidia/version", "NVRM version");
  return "CUDA " + driver_version_text(version) + (kernel.empty() ? "" : "; " + kernel);
}

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  return fmt::format("{:04}-{:02}-{:02}", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday);
}

Status run(const Options& options) {
  std::string output;
  if (!options.output.empty()) {
    SPW_ASSIGN_OR_RETURN(output, expand_output_name(options.output));
  }
  SPW_ASSIGN_OR_RETURN(const Driver driver, load_cuda_driver());
  SPW_RETURN_IF_ERROR(init_driver(driver).status());
  SPW_ASSIGN_OR_RETURN(const DeviceCapabilities device, query_device(driver, options.gpu));
  SPW_ASSIGN_OR_RETURN(const Context context, Context::retain_primary(driver, options.gpu));
  SPW_ASSIGN_OR_RETURN(const ScopedContext scope, ScopedContext::enter(context));

  measure::MeasureOptions how;
  how.quick = options.quick;
  Progress progress;
  const SystemClock clock;
  SPW_ASSIGN_OR_RETURN(const measure::Measurements measurements,
                       measure::measure_device(driver, clock, device, how, [&](const char* what) {
                         progress.show("measuring " + device.name + ": " + what);
                       }));
  progress.clear();

  const Result<Calibration> published = load_calibration(device.name);
  const MeasuredOn where{machine_text(), driver_text(driver), today()};
  SPW_ASSIGN_OR_RETURN(
      const std::string text,
      measure::calibration_text(
          device, measurements, where, published.ok() ? &published.value() : nullptr));
  if (output.empty()) {
    fmt::print("{}", text);
    return {};
  }
  SPW_RETURN_IF_ERROR(write_file(output, text));
  fmt::print("{}: {} numbers and {} observations of {}\n",
             output,
             measurements.numbers().size(),
             measurements.observations().size(),
             clean_text(device.name));
  return {};
}

}  // namespace

void add_calibrate(::CLI::App& app, Session& session) {
  auto options = std::make_shared<Options>();
  ::CLI::App* command = app.add_subcommand("calibrate", "measure a GPU, write a calibration file");
  command->add_option("--gpu", options->gpu, "which one, as the driver counts them")
      ->check(::CLI::Range(0, 1023));
  command->add_option("-o,--output", options->output, "output file; without it, standard output");
  command->add_flag("--quick", options->quick, "smaller buffers, fewer samples");
  command->callback([options, &session] { session.report(run(*options)); });
}

}  // namespace spillway::cli
