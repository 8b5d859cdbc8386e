// SPDX-License-Identifier: Apache-2.0
#include "device/sim/simulator.hpp"

#include "device/sim/api.hpp"
#include "device/sim/engine.hpp"

#include <utility>

namespace spillway::sim {
namespace {

class VirtualClock final : public Clock {
 public:
  [[nodiscard]] std::int64_t now_ns() const override {
    Engine* engine = current_engine();
    return engine == nullptr ? 0 : engine->now_ns();
  }
};

Status check(const Options& o) {
  const auto bad = [](const char* text) { return Status(Code::kInvalidArgument, text); };
  if (o.devices < 1 || o.devices > 32) return bad("simulator: devices must be 1 to 32");
  if (o.launch_queue < 1) return bad("simulator: launch_queue must be at least 1");
  if (o.copy_pieces < 1) return bad("simulator: copy_pieces must be at least 1");
  if (o.pct_depth < 1) return bad("simulator: pct_depth must be at least 1");
  if (o.devices_per_root < 1) return bad("simulator: devices_per_root must be at least 1");
  return Status();
}

}  // namespace

Simulator::Simulator(std::unique_ptr<Engine> engine) : engine_(std::move(engine)) {}
Simulator::~Simulator() = default;

Result<std::unique_ptr<Simulator>> Simulator::create(const Options& options) {
  std::unique_ptr<Simulator> made(new Simulator(std::make_unique<Engine>()));
  SPW_RETURN_IF_ERROR(made->reset(options));
  return made;
}

Status Simulator::reset(const Options& options) {
  SPW_RETURN_IF_ERROR(check(options));
  return engine_->reset(options);
}

const Driver& Simulator::driver() const { return api::table(); }
MemoryObserver& Simulator::observer() { return *engine_; }

const Clock& Simulator::clock() const {
  static const VirtualClock kClock;
  return kClock;
}

void Simulator::run(const std::function<void()>& program) {
  Engine* const before = set_current_engine(engine_.get());
  {
    const HostSchedulerScope scope(engine_->foreign_threads() ? nullptr : &engine_->threads);
    try {
      program();
    } catch (const ThreadsAbandoned&) {
      // A deadlock, reported; everything has unwound to here.
    }
    engine_->finish();
  }
  set_current_engine(before);
}

void Simulator::serve_process() { set_process_engine(engine_.get()); }

void Simulator::serve_nobody() { set_process_engine(nullptr); }

std::string Simulator::end_process() {
  if (in_forked_child()) return {};
  const std::unique_lock lock = lock_process();
  if (engine_->self().in_callback) return {};
  engine_->finish();
  return report_text();
}

std::unique_lock<std::mutex> Simulator::lock_process() {
  return std::unique_lock(engine_->foreign_mutex);
}

std::span<const Report> Simulator::reports() const { return engine_->reports; }

bool Simulator::has_report(ReportKind kind) const {
  for (const Report& report : engine_->reports)
    if (report.kind == kind) return true;
  return false;
}

std::string Simulator::report_text() const {
  std::string text;
  for (const Report& report : engine_->reports)
    text += std::string(name_of(report.kind)) + ": " + report.text + "\n";
  return text;
}

Counters Simulator::counters() const {
  Counters c;
  c.calls = engine_->call_count;
  c.operations = engine_->op_count;
  c.steps = engine_->steps;
  c.now_ns = engine_->now_ns();
  const PhysicalMemory& physical = engine_->memory->physical();
  for (int d = 0; d < engine_->options.devices; ++d) {
    c.device_bytes_used += physical.used_bytes(static_cast<std::uint32_t>(d));
    c.device_bytes_peak += physical.peak_bytes(static_cast<std::uint32_t>(d));
  }
  const PinnedMemory& pinned = engine_->memory->pinned();
  c.pinned_bytes_used = pinned.pinned_bytes();
  c.pinned_bytes_peak = pinned.pinned_bytes_peak();
  c.fingerprint = engine_->fingerprint;
  return c;
}

std::vector<std::pair<std::uint32_t, std::uint32_t>> Simulator::choices() const {
  std::vector<std::pair<std::uint32_t, std::uint32_t>> all;
  for (const Schedule::Branch& branch : engine_->schedule.branches())
    all.emplace_back(branch.taken, branch.count);
  return all;
}

}  // namespace spillway::sim
