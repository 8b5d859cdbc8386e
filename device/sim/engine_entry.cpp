// SPDX-License-Identifier: Apache-2.0
// Where a run begins and where every driver call does: the engine of a thread, reset, the checks
// that all calls share, reports.
#include "device/sim/engine.hpp"
#include "device/sim/race_text.hpp"

#include <fmt/format.h>

#include <atomic>
#include <pthread.h>
#include <utility>

namespace spillway::sim {
namespace {

constexpr std::size_t kReportsMax = 1000;
thread_local Engine* tls_engine = nullptr;
std::atomic<Engine*> process_engine{nullptr};

/// By name, so that a longer table does not change the fingerprints of old programs.
std::uint32_t hash_of(Api api) {
  static const std::vector<std::uint32_t> kHashes = [] {
    std::vector<std::uint32_t> all;
    for (std::uint16_t i = 0; i < static_cast<std::uint16_t>(Api::kCount); ++i) {
      std::uint32_t hash = 0x811c9dc5u;
      for (const char* c = name_of(static_cast<Api>(i)); *c != 0; ++c)
        hash = (hash ^ static_cast<unsigned char>(*c)) * 0x01000193u;
      all.push_back(hash);
    }
    return all;
  }();
  return kHashes[static_cast<std::size_t>(api)];
}

}  // namespace

Engine* current_engine() {
  return tls_engine != nullptr ? tls_engine : process_engine.load(std::memory_order_acquire);
}

Engine* set_current_engine(Engine* engine) { return std::exchange(tls_engine, engine); }

void set_process_engine(Engine* engine) { process_engine.store(engine, std::memory_order_release); }

const char* name_of(Api api) {
  static constexpr const char* kNames[] = {
#define SPW_SIM_API_NAME(member, symbol, version, parameters) #member,
      SPW_DRIVER_FUNCTIONS(SPW_SIM_API_NAME)
#undef SPW_SIM_API_NAME
  };
  return api < Api::kCount ? kNames[static_cast<std::size_t>(api)] : "?";
}

// ---- entry

namespace {

// Set in the child of a fork, where the driver's threads and mappings are gone.
std::atomic<bool> g_forked{false};

void watch_forks() {
  static const int kInstalled = pthread_atfork(nullptr, nullptr, [] { g_forked = true; });
  static_cast<void>(kInstalled);
}

bool needs_no_context(Api api) {
  switch (api) {
    case Api::cuInit:
    case Api::cuDriverGetVersion:
    case Api::cuDeviceGet:
    case Api::cuDeviceGetCount:
    case Api::cuDeviceGetName:
    case Api::cuDeviceGetAttribute:
    case Api::cuDeviceTotalMem:
    case Api::cuDeviceGetUuid:
    case Api::cuDeviceGetPCIBusId:
    case Api::cuDeviceCanAccessPeer:
    case Api::cuDevicePrimaryCtxRetain:
    case Api::cuDevicePrimaryCtxRelease:
    case Api::cuDevicePrimaryCtxGetState:
    case Api::cuDevicePrimaryCtxReset:
    case Api::cuDeviceGetDefaultMemPool:
    case Api::cuCtxGetCurrent:
    case Api::cuCtxSetCurrent:
    case Api::cuCtxPushCurrent:
    case Api::cuCtxPopCurrent:
    case Api::cuThreadExchangeStreamCaptureMode:
    // The driver takes these with or without a current context.
    case Api::cuMemAddressReserve:
    case Api::cuMemAddressFree:
    case Api::cuMemCreate:
    case Api::cuMemRelease:
    case Api::cuMemMap:
    case Api::cuMemUnmap:
    case Api::cuMemSetAccess:
    case Api::cuMemGetAccess:
    case Api::cuMemGetAllocationGranularity:
    case Api::cuMemGetAllocationPropertiesFromHandle:
    case Api::cuMemRetainAllocationHandle:
    case Api::cuMemPoolCreate:
    case Api::cuMemPoolDestroy:
    case Api::cuMemPoolSetAttribute:
    case Api::cuMemPoolGetAttribute:
    case Api::cuMemPoolTrimTo:
    case Api::cuPointerGetAttributes:
    case Api::cuLibraryLoadData:
    case Api::cuLibraryUnload:
    case Api::cuLibraryGetKernel:
      return true;
    default:
      return false;
  }
}

bool needs_no_init(Api api) { return api == Api::cuInit || api == Api::cuDriverGetVersion; }

}  // namespace

bool in_forked_child() { return g_forked.load(std::memory_order_relaxed); }

Engine::Engine() : threads(*this) { watch_forks(); }
Engine::~Engine() = default;

Status Engine::reset(const Options& wanted) {
  threads.reset();
  const bool same_memory = memory != nullptr && wanted.devices == options.devices &&
                           wanted.memory_bytes == options.memory_bytes &&
                           wanted.granularity_bytes == options.granularity_bytes &&
                           wanted.contents == options.contents;
  options = wanted;
  if (same_memory) {
    if (memory->any_faults()) static_cast<void>(memory->take_faults(&host_faults_));
    memory->reset();
  } else {
    MemoryOptions sizes;
    sizes.device_count = static_cast<std::uint32_t>(options.devices);
    sizes.memory_bytes = options.memory_bytes;
    sizes.granularity_bytes = options.granularity_bytes;
    sizes.contents = options.contents;
    SPW_ASSIGN_OR_RETURN(memory, Memory::create(sizes));
  }
  memory->pinned().set_limit_bytes(options.pinned_limit_bytes);
  memory->set_immediate_reuse(has(Semantic::kImmediateReuse));
  if (is_timed()) SPW_RETURN_IF_ERROR(timed.reset(options));
  Options choosing = options;
  if (!has(Semantic::kAnyOrder) && !is_timed()) choosing.mode = options.mode = Mode::kLazy;
  schedule.reset(choosing);
  clocks.reset();
  blocks.reset();
  value_clocks.clear();
  pools.reset(options.devices);
  faults.reset(options);
  reports.clear();
  for (std::size_t i = 0; i < stream_count; ++i) streams[i]->queue.clear();
  stream_count = 0;
  stream_handles.reset();
  events.reset();
  contexts.reset();
  modules.reset();
  captures.reset();
  enqueue_whole = false;
  primary_context.assign(static_cast<std::size_t>(options.devices), kNone);
  thread_states.clear();
  foreign.reset();
  foreign_clock.clear();
  foreign_now_ns = 0;
  initialized = false;
  sticky = cu::Result::kSuccess;
  op_count = call_count = steps = 0;
  next_stream_id = next_event_serial = 0;
  fingerprint = 0xcbf29ce484222325ull;
  guards_.clear();
  conflicts_.clear();
  host_faults_.clear();
  force_stack_.clear();
  callbacks_.clear();
  callback_host_thread_ = kNone;
  virtual_ns_ = 0;
  yields_ = 0;
  return Status();
}

cu::Result Engine::enter(Api api, std::uint64_t bytes) {
  if (in_forked_child() && has(Semantic::kForkCheck)) return cu::Result::kNotInitialized;
  ++call_count;
  mix(hash_of(api));
  ThreadState& me = self();
  if (me.in_callback && has(Semantic::kCallbackThread)) {
    report(ReportKind::kCallback,
           fmt::format("{} was called inside a host function: the driver forbids all of its calls "
                       "there",
                       name_of(api)));
    return cu::Result::kNotPermitted;
  }
  if (foreign_threads()) {
    clocks.join(me.agent, foreign_clock);
    me.now_ns = std::max(me.now_ns, foreign_now_ns);
  }
  if (!initialized && !needs_no_init(api)) return cu::Result::kNotInitialized;
  if (sticky != cu::Result::kSuccess) return sticky;
  if (me.contexts.empty() && !needs_no_context(api)) return cu::Result::kInvalidContext;
  if (has(Semantic::kLockAcrossCall) && held_lock_count() > 0) {
    report(ReportKind::kLockHeld,
           fmt::format("{} was called while host thread {} holds {} lock{}: any driver call may "
                       "block until work is done that needs the lock",
                       name_of(api),
                       current_thread(),
                       held_lock_count(),
                       held_lock_count() == 1 ? "" : "s"));
  }
  if (is_timed()) timed.charge(*this, api, bytes);
  if (memory->any_faults()) collect_host_faults(nullptr, nullptr);
  point(name_of(api));
  if (sticky != cu::Result::kSuccess) return sticky;
  if (captures.active())
    if (const cu::Result r = captures.admit(*this, api); r != cu::Result::kSuccess) return r;
  if (faults.any()) return faults.apply(*this, api, bytes, &self().injected);
  return cu::Result::kSuccess;
}

void Engine::leave() {
  const ThreadState& me = self();
  if (me.in_callback) return;
  clocks.release(me.agent, foreign_clock);
  foreign_now_ns = std::max(foreign_now_ns, me.now_ns);
}

// ---- reports

void Engine::report_conflicts() {
  std::uint64_t last_op = 0;
  for (const Conflict& conflict : conflicts_) {
    if (conflict.earlier.op == last_op && last_op != 0) continue;  // one report per pair
    last_op = conflict.earlier.op;
    const bool lifetime = is_lifetime(conflict.later.kind) || is_lifetime(conflict.earlier.kind);
    report(lifetime ? ReportKind::kLifetime : ReportKind::kRace,
           race_text(conflict, clocks, flat_text(conflict.range)));
  }
  conflicts_.clear();
}

std::string Engine::describe(const StreamState& stream) const {
  if (stream.legacy) return "the legacy default stream";
  if (stream.internal) return fmt::format("stream {} (of a graph launch)", stream.id);
  return fmt::format("stream {}", stream.id);
}

void Engine::report(ReportKind kind, std::string text) {
  if (reports.size() >= kReportsMax) return;
  text += fmt::format("\n  schedule: {}, seed {}", name_of(options.mode), options.seed);
  if (!options.repeat_command.empty()) {
    std::string command = options.repeat_command;
    if (const std::size_t at = command.find("%s"); at != std::string::npos)
      command.replace(at, 2, std::to_string(options.seed));
    text += "\n  repeat: " + command;
  }
  reports.push_back({kind, std::move(text), steps});
}

void Engine::misuse(const char* call, const std::string& text) {
  if (has(Semantic::kStrictPreconditions))
    report(ReportKind::kMisuse, fmt::format("{}: {}", call, text));
}

}  // namespace spillway::sim
