// SPDX-License-Identifier: Apache-2.0
// The twenty behaviours of docs/simulation.md. Each has a program that shows it, and shows it no
// longer when the behaviour is switched off: so it is this behaviour, and not chance, that does it.
#include "core/mutex.hpp"
#include "tests/support/sim_lab.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

namespace spillway::test {
namespace {

using sim::Contents;
using sim::Mode;
using sim::Options;
using sim::ReportKind;
using sim::Semantic;
using sim::Simulator;

constexpr std::size_t kBytes = 8192;

Simulator& simulator() {
  static const std::unique_ptr<Simulator> kOne = [] {
    auto made = Simulator::create(lab_options());
    REQUIRE(made.ok());
    return std::move(made).value();
  }();
  return *kOne;
}

/// Runs `program` once and returns its answer.
template <typename Answer>
Answer run(const Options& options, const std::function<Answer(Lab&)>& program) {
  Simulator& sim = simulator();
  REQUIRE(sim.reset(options).ok());
  Answer answer{};
  sim.run([&] {
    Lab lab(sim);
    answer = program(lab);
  });
  return answer;
}

/// Answers of `seeds` random schedules.
std::set<int> answers(Options options, int seeds, const std::function<int(Lab&)>& program) {
  std::set<int> all;
  options.mode = Mode::kRandom;
  for (int seed = 0; seed < seeds; ++seed) {
    options.seed = static_cast<std::uint64_t>(seed);
    all.insert(run<int>(options, program));
  }
  return all;
}

bool reported(ReportKind kind) { return simulator().has_report(kind); }

// ---- one function per behaviour: does a run with these options show it?
// ---------------------------

bool shows_late_start(Options options) {
  options.mode = Mode::kLazy;
  options.semantics.switch_off(Semantic::kGuardPinned);  // the host looks on purpose
  return run<bool>(options, [](Lab& lab) {
    std::uint8_t* host = lab.pinned(kBytes);
    const cu::DevicePtr x = lab.device(kBytes);
    const cu::Stream s = lab.stream();
    host[0] = 1;
    lab.fill(s, x, 2, kBytes);
    lab.d2h(s, host, x, kBytes);
    return host[0] == 1;  // nothing has happened yet
  });
}

bool shows_any_order(const Options& options) {
  const std::set<int> last = answers(options, 40, [](Lab& lab) {
    const cu::DevicePtr x = lab.device(kBytes);
    const cu::Stream a = lab.stream();
    const cu::Stream b = lab.stream();
    std::uint8_t* host = lab.pinned(kBytes);
    lab.fill(a, x, 1, kBytes);
    lab.fill(b, x, 2, kBytes);
    lab.cu.cuCtxSynchronize();
    lab.d2h(a, host, x, kBytes);
    lab.sync(a);
    return static_cast<int>(host[0]);
  });
  return last.size() == 2;
}

/// First and last byte of what a copy brought while its source was being changed.
std::set<int> torn_copies(const Options& options) {
  return answers(options, 60, [](Lab& lab) {
    const cu::DevicePtr from = lab.device(kBytes);
    const cu::DevicePtr to = lab.device(kBytes);
    const cu::Stream a = lab.stream();
    const cu::Stream b = lab.stream();
    std::uint8_t* host = lab.pinned(kBytes);
    lab.fill(a, from, 1, kBytes);
    lab.sync(a);
    lab.d2d(a, to, from, kBytes);
    lab.fill(b, from, 2, kBytes);
    lab.cu.cuCtxSynchronize();
    lab.d2h(a, host, to, kBytes);
    lab.sync(a);
    return host[0] * 256 + host[kBytes - 1];
  });
}

bool shows_piecewise_source(const Options& options) {
  return torn_copies(options).count(1 * 256 + 2) == 1;  // first piece old, last piece new
}

bool shows_garbage_in_flight(const Options& options) {
  const std::set<int> seen = answers(options, 60, [](Lab& lab) {
    const cu::DevicePtr from = lab.device(kBytes);
    const cu::DevicePtr to = lab.device(kBytes);
    const cu::DevicePtr early = lab.device(kBytes);
    const cu::Stream a = lab.stream();
    const cu::Stream b = lab.stream();
    std::uint8_t* host = lab.pinned(kBytes);
    lab.fill(a, from, 1, kBytes);
    lab.fill(a, to, 7, kBytes);
    lab.sync(a);
    lab.d2d(a, to, from, kBytes);
    lab.copy(b, early, to, kBytes);  // too early
    lab.cu.cuCtxSynchronize();
    lab.d2h(a, host, early, kBytes);
    lab.sync(a);
    return static_cast<int>(host[kBytes - 1]);
  });
  return seen.count(0xa5) == 1;
}

bool shows_guard_pinned(const Options& options) {
  run<bool>(options, [](Lab& lab) {
    volatile std::uint8_t* host = lab.pinned(kBytes);
    const cu::DevicePtr x = lab.device(kBytes);
    const cu::Stream s = lab.stream();
    lab.fill(s, x, 2, kBytes);
    lab.d2h(s, const_cast<std::uint8_t*>(host), x, kBytes);
    return host[0] == 2;  // before any synchronisation
  });
  return reported(ReportKind::kHostTouch);
}

bool shows_fault_unmapped(const Options& options) {
  const cu::Result later = run<cu::Result>(options, [](Lab& lab) {
    cu::DevicePtr reserved = 0;
    lab.note(lab.cu.cuMemAddressReserve(&reserved, kBytes, 0, 0, 0));
    lab.fill(lab.stream(), reserved, 1, kBytes);
    lab.cu.cuCtxSynchronize();
    lab.cu.cuMemAddressFree(reserved, kBytes);
    return lab.cu.cuCtxSynchronize();
  });
  return reported(ReportKind::kUnmapped) && later == cu::Result::kIllegalAddress;
}

bool shows_check_lifetime(Options options) {
  options.mode = Mode::kEager;  // the work is long done; only the edge is missing
  run<bool>(options, [](Lab& lab) {
    const cu::DevicePtr x = lab.device(kBytes);
    lab.fill(lab.stream(), x, 1, kBytes);
    lab.forget(x);
    return lab.cu.cuMemFree(x) == cu::Result::kSuccess;
  });
  return reported(ReportKind::kLifetime);
}

bool shows_poison(const Options& options) {
  return run<bool>(options, [](Lab& lab) {
    std::uint8_t* host = lab.pinned(kBytes);
    const cu::Stream s = lab.stream();
    const cu::DevicePtr x = lab.device(kBytes);
    lab.fill(s, x, 0x11, kBytes);
    lab.sync(s);
    lab.forget(x);
    lab.note(lab.cu.cuMemFree(x));
    const cu::DevicePtr y = lab.device(kBytes);
    lab.d2h(s, host, y, kBytes);
    lab.sync(s);
    return x == y && host[0] == 0xff && host[kBytes - 1] == 0xff;
  });
}

bool shows_immediate_reuse(const Options& options) {
  return run<bool>(options, [](Lab& lab) {
    const cu::DevicePtr x = lab.device(kBytes);
    lab.forget(x);
    lab.note(lab.cu.cuMemFree(x));
    const cu::Stream s = lab.stream();
    lab.forget(s);
    lab.note(lab.cu.cuStreamDestroy(s));
    return lab.device(kBytes) == x && lab.stream() == s;
  });
}

bool shows_wait_binds_at_call(const Options& options) {
  run<bool>(options, [](Lab& lab) {
    const cu::DevicePtr x = lab.device(kBytes);
    const cu::Stream a = lab.stream();
    const cu::Stream b = lab.stream();
    const cu::Event e = lab.event();
    lab.record(e, a);
    lab.fill(a, x, 1, kBytes);  // after the record
    lab.wait(b, e);
    lab.read(b, x, kBytes);
    return true;
  });
  return reported(ReportKind::kRace);
}

bool shows_legacy_stream_joins(const Options& options) {
  run<bool>(options, [](Lab& lab) {
    const cu::DevicePtr x = lab.device(kBytes);
    lab.fill(lab.stream(cu::kStreamDefault), x, 1, kBytes);
    lab.read(nullptr, x, kBytes);  // waits for blocking streams by itself
    return true;
  });
  return !reported(ReportKind::kRace);
}

bool shows_late_query(Options options) {
  options.mode = Mode::kEager;
  return run<bool>(options, [](Lab& lab) {
    const cu::Stream s = lab.stream();
    const cu::Event e = lab.event();
    lab.record(e, s);  // done at once
    return lab.cu.cuEventQuery(e) == cu::Result::kNotReady;
  });
}

struct Callback {
  Lab* lab;
  cu::Result result;
};

bool shows_callback_thread(const Options& options) {
  const cu::Result result = run<cu::Result>(options, [](Lab& lab) {
    Callback callback{&lab, cu::Result::kUnknown};
    const cu::Stream s = lab.stream();
    lab.note(lab.cu.cuLaunchHostFunc(
        s,
        [](void* user) {
          auto* c = static_cast<Callback*>(user);
          c->result = c->lab->cu.cuStreamQuery(nullptr);
        },
        &callback));
    lab.sync(s);
    return callback.result;
  });
  return reported(ReportKind::kCallback) && result == cu::Result::kNotPermitted;
}

bool shows_lock_across_call(const Options& options) {
  run<bool>(options, [](Lab& lab) {
    Mutex mutex("pool");
    const LockGuard lock(mutex);
    const cu::DevicePtr x = lab.device(kBytes);
    return x != 0;
  });
  return reported(ReportKind::kLockHeld);
}

bool shows_strict_preconditions(const Options& options) {
  const bool refused = run<bool>(options, [](Lab& lab) {
    const cu::DevicePtr x = lab.device(kBytes);
    lab.forget(x);
    lab.note(lab.cu.cuMemFree(x));
    return lab.cu.cuMemFree(x) == cu::Result::kInvalidValue;
  });
  REQUIRE(refused);  // with or without the report
  return reported(ReportKind::kMisuse);
}

bool shows_leak_check(const Options& options) {
  run<bool>(options, [](Lab& lab) {
    lab.forget(lab.device(kBytes));
    lab.forget(lab.event());
    return true;
  });
  return reported(ReportKind::kLeak);
}

bool shows_fork_check(const Options& options) {
  const int code = run<int>(options, [](Lab& lab) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(static_cast<int>(lab.cu.cuCtxSynchronize()));
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  });
  return code == static_cast<int>(cu::Result::kNotInitialized);
}

bool shows_faults(Options options) {
  sim::FaultRule rule;
  rule.effect = sim::FaultRule::Effect::kFail;
  rule.error = static_cast<int>(cu::Result::kOutOfMemory);
  rule.bytes_min = kBytes;
  options.faults.push_back(rule);
  return run<bool>(options, [](Lab& lab) {
    cu::DevicePtr x = 0;
    const cu::Result result = lab.cu.cuMemAlloc(&x, kBytes);
    if (result == cu::Result::kSuccess) lab.note(lab.cu.cuMemFree(x));
    return result == cu::Result::kOutOfMemory;
  });
}

bool shows_other_tenant(Options options) {
  // Takes nearly all of the device between the question and the allocation.
  sim::FaultRule rule;
  rule.effect = sim::FaultRule::Effect::kTakeMemory;
  rule.bytes = options.memory_bytes;
  rule.bytes_min = kBytes;
  options.faults.push_back(rule);
  return run<bool>(options, [](Lab& lab) {
    std::size_t free_bytes = 0;
    std::size_t total_bytes = 0;
    lab.note(lab.cu.cuMemGetInfo(&free_bytes, &total_bytes));
    REQUIRE(free_bytes >= kBytes);
    cu::DevicePtr x = 0;
    const cu::Result result = lab.cu.cuMemAlloc(&x, kBytes);
    if (result == cu::Result::kSuccess) lab.note(lab.cu.cuMemFree(x));
    return result == cu::Result::kOutOfMemory;
  });
}

bool shows_capture_rules(const Options& options) {
  const cu::Result result = run<cu::Result>(options, [](Lab& lab) {
    const cu::Stream s = lab.stream();
    lab.note(lab.cu.cuStreamBeginCapture(s, cu::StreamCaptureMode::kGlobal));
    const cu::Result synchronised = lab.cu.cuStreamSynchronize(s);
    cu::Graph graph = nullptr;
    lab.cu.cuStreamEndCapture(s, &graph);
    if (graph != nullptr) lab.cu.cuGraphDestroy(graph);
    return synchronised;
  });
  return result == cu::Result::kStreamCaptureUnsupported;
}

struct Behaviour {
  Semantic semantic;
  bool (*shows)(Options);
};

template <bool (*kShows)(const Options&)>
// NOLINTNEXTLINE(performance-unnecessary-value-param): the type of the table's functions
bool by_value(Options options) {
  return kShows(options);
}

const Behaviour kBehaviours[] = {
    {Semantic::kLateStart, shows_late_start},
    {Semantic::kAnyOrder, by_value<shows_any_order>},
    {Semantic::kPiecewiseSource, by_value<shows_piecewise_source>},
    {Semantic::kGarbageInFlight, by_value<shows_garbage_in_flight>},
    {Semantic::kGuardPinned, by_value<shows_guard_pinned>},
    {Semantic::kFaultUnmapped, by_value<shows_fault_unmapped>},
    {Semantic::kCheckLifetime, shows_check_lifetime},
    {Semantic::kPoison, by_value<shows_poison>},
    {Semantic::kImmediateReuse, by_value<shows_immediate_reuse>},
    {Semantic::kWaitBindsAtCall, by_value<shows_wait_binds_at_call>},
    {Semantic::kLegacyStreamJoins, by_value<shows_legacy_stream_joins>},
    {Semantic::kLateQuery, shows_late_query},
    {Semantic::kCallbackThread, by_value<shows_callback_thread>},
    {Semantic::kLockAcrossCall, by_value<shows_lock_across_call>},
    {Semantic::kFaults, shows_faults},
    {Semantic::kOtherTenant, shows_other_tenant},
    {Semantic::kStrictPreconditions, by_value<shows_strict_preconditions>},
    {Semantic::kLeakCheck, by_value<shows_leak_check>},
    {Semantic::kForkCheck, by_value<shows_fork_check>},
    {Semantic::kCaptureRules, by_value<shows_capture_rules>},
};

}  // namespace

TEST_SUITE("sim") {
  TEST_CASE("each of the twenty behaviours shows, and does not when it is switched off") {
    static_assert(std::size(kBehaviours) == sim::kSemanticCount);
    for (int i = 0; i < sim::kSemanticCount; ++i) {
      const Behaviour& behaviour = kBehaviours[i];
      const std::string name = sim::name_of(behaviour.semantic);
      CAPTURE(name);
      REQUIRE(static_cast<int>(behaviour.semantic) == i);
      Options options = lab_options();
      CHECK(behaviour.shows(options));
      options.semantics.switch_off(behaviour.semantic);
      CHECK_FALSE(behaviour.shows(options));
    }
  }

  TEST_CASE("a query does not deny what the host has synchronised with") {
    for (const Mode mode : {Mode::kEager, Mode::kLazy, Mode::kRandom, Mode::kPct}) {
      const std::string name = sim::name_of(mode);
      CAPTURE(name);
      Options options = lab_options(mode);
      for (options.seed = 0; options.seed < 20; ++options.seed) {
        const bool ready = run<bool>(options, [](Lab& lab) {
          const cu::Stream s = lab.stream();
          const cu::Event e = lab.event();
          lab.fill(s, lab.device(kBytes), 1, kBytes);
          lab.record(e, s);
          lab.sync(e);
          return lab.cu.cuEventQuery(e) == cu::Result::kSuccess &&
                 lab.cu.cuStreamQuery(s) == cu::Result::kSuccess;
        });
        CHECK(ready);
      }
    }
  }
}

}  // namespace spillway::test
