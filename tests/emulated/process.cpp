// SPDX-License-Identifier: Apache-2.0
#include "tests/emulated/process.hpp"

#include "core/units.hpp"
#include "device/sim/faults.hpp"
#include "device/sim/simulator.hpp"

#include <atomic>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unistd.h>

namespace spillway::emulated {
namespace {

constexpr std::uint64_t kMemoryBytes = std::uint64_t{1} << 30;

// Never destroyed: other threads and later exit handlers may still call.
struct Process {
  std::mutex mutex;
  std::atomic<bool> ended{false};
  sim::Simulator* simulator = nullptr;
  std::string report_path;
  std::atomic<pid_t> owner{0};  // a fork's child has no machine and reports nothing
};

Process& process() {
  static auto* const kProcess = new Process;
  return *kProcess;
}

std::string_view variable(const char* name) {
  const char* text = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): as every getenv
  return text == nullptr ? std::string_view() : std::string_view(text);
}

/// Appends: a program and those that it starts may share the file.
void write_report(const std::string& path, const std::string& text) {
  if (path.empty()) return;
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (file < 0) return;
  for (std::size_t at = 0; at < text.size();) {
    const ssize_t written = ::write(file, text.data() + at, text.size() - at);
    if (written <= 0) break;
    at += static_cast<std::size_t>(written);
  }
  ::close(file);
}

Status bad(const char* name, const char* expected, std::string_view found) {
  return Status(
      Code::kBadInput,
      std::string(name) + ": expected " + expected + ", found `" + std::string(found) + "`");
}

Status read_number(const char* name, const char* expected, std::uint64_t* value) {
  const std::string_view text = variable(name);
  if (text.empty()) return Status();
  const auto read = std::from_chars(text.data(), text.data() + text.size(), *value);
  if (read.ec != std::errc() || read.ptr != text.data() + text.size())
    return bad(name, expected, text);
  return Status();
}

Result<sim::Options> options_from_environment() {
  sim::Options options;
  options.mode = sim::Mode::kEager;
  options.foreign_threads = true;
  options.memory_bytes = kMemoryBytes;
  SPW_RETURN_IF_ERROR(read_number("SPILLWAY_SIM_SEED", "a whole number", &options.seed));
  std::uint64_t devices = 1;
  SPW_RETURN_IF_ERROR(read_number("SPILLWAY_SIM_DEVICES", "1 to 32", &devices));
  if (devices < 1 || devices > 32)
    return bad("SPILLWAY_SIM_DEVICES", "1 to 32", variable("SPILLWAY_SIM_DEVICES"));
  options.devices = static_cast<int>(devices);
  if (const std::string_view text = variable("SPILLWAY_SIM_MODE"); !text.empty()) {
    bool known = false;
    for (const sim::Mode mode : {sim::Mode::kEager,
                                 sim::Mode::kLazy,
                                 sim::Mode::kRandom,
                                 sim::Mode::kPct,
                                 sim::Mode::kTimed}) {
      if (text != sim::name_of(mode)) continue;
      options.mode = mode;
      known = true;
    }
    if (!known) return bad("SPILLWAY_SIM_MODE", "eager, lazy, random, pct or timed", text);
  }
  if (const std::string_view text = variable("SPILLWAY_SIM_MEMORY"); !text.empty()) {
    const Result<std::uint64_t> bytes = parse_bytes(text);
    if (!bytes.ok()) return bad("SPILLWAY_SIM_MEMORY", "a size like 1GiB", text);
    options.memory_bytes = bytes.value();
  }
  SPW_ASSIGN_OR_RETURN(options.faults, sim::faults_from_environment());
  options.repeat_command = "SPILLWAY_SIM_MODE=" + std::string(sim::name_of(options.mode)) +
                           " SPILLWAY_SIM_SEED=%s before the same program";
  return options;
}

Result<std::unique_ptr<sim::Simulator>> make_simulator() {
  SPW_ASSIGN_OR_RETURN(const sim::Options options, options_from_environment());
  return sim::Simulator::create(options);
}

void end_process() {
  Process& p = process();
  if (::getpid() == p.owner) write_report(p.report_path, p.simulator->end_process());
  p.ended.store(true, std::memory_order_release);
}

}  // namespace

cu::Result alive() {
  return process().ended.load(std::memory_order_acquire) ? cu::Result::kDeinitialized
                                                         : cu::Result::kSuccess;
}

cu::Result start() {
  Process& p = process();
  // Of a parent's other threads one may have held the lock when it forked.
  if (p.owner != 0 && p.owner != ::getpid()) return cu::Result::kNotInitialized;
  const std::lock_guard lock(p.mutex);
  if (p.simulator != nullptr) return cu::Result::kSuccess;
  p.report_path = variable("SPILLWAY_SIM_REPORT");
  Result<std::unique_ptr<sim::Simulator>> made = make_simulator();
  if (!made.ok()) {
    write_report(p.report_path, made.status().message() + "\n");
    return cu::Result::kInvalidValue;
  }
  p.simulator = made.value().release();
  p.owner = ::getpid();
  p.simulator->serve_process();
  // Registered now, so that what was constructed after cuInit is destroyed before the end.
  if (std::atexit(&end_process) != 0) return cu::Result::kOperatingSystem;
  return cu::Result::kSuccess;
}

void add_kernel(const KernelSpec& spec) {
  Process& p = process();
  const std::lock_guard lock(p.mutex);
  std::unique_lock<std::mutex> calls;
  if (p.simulator != nullptr) calls = p.simulator->lock_process();
  register_kernel(spec);
}

}  // namespace spillway::emulated
