// SPDX-License-Identifier: Apache-2.0
// The inside of the simulated GPU: streams and their queues, events, contexts, the clocks of the
// race checker, memory, host threads, and the loop that decides who goes next. The api_*.cpp files
// are the driver's functions over it. One host thread is inside at any time.
#pragma once

#include "device/driver.hpp"
#include "device/memory_observer.hpp"
#include "device/sim/blocks.hpp"
#include "device/sim/captures.hpp"
#include "device/sim/faults.hpp"
#include "device/sim/foreign_threads.hpp"
#include "device/sim/handles.hpp"
#include "device/sim/happens_before.hpp"
#include "device/sim/host_threads.hpp"
#include "device/sim/memory.hpp"
#include "device/sim/op.hpp"
#include "device/sim/options.hpp"
#include "device/sim/pools.hpp"
#include "device/sim/report.hpp"
#include "device/sim/schedule.hpp"
#include "device/sim/timed_run.hpp"

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace spillway::sim {

/// Index of a driver function in the table.
enum class Api : std::uint16_t {
#define SPW_SIM_API(member, symbol, version, parameters) member,
  SPW_DRIVER_FUNCTIONS(SPW_SIM_API)
#undef SPW_SIM_API
      kCount
};
const char* name_of(Api api);

struct StreamState {
  std::uint32_t index = 0;
  std::uint64_t id = 0;  // cuStreamGetId
  cu::Stream handle = nullptr;
  std::uint32_t context = 0;
  AgentId agent = 0;
  int priority = 0;
  bool blocking = true;  // joined by the legacy stream
  bool legacy = false;
  bool live = true;           // not destroyed
  bool internal = false;      // a lane of a graph launch
  std::uint64_t capture = 0;  // the capture that it takes part in; 0 none

  // INVARIANT: completed <= enqueued; queue from head on holds exactly seq completed + 1 ..
  // enqueued.
  std::uint64_t enqueued = 0;
  std::uint64_t completed = 0;
  std::int64_t completed_ns = 0;  // when the newest completed one did
  std::vector<Op> queue;
  std::size_t head = 0;
  std::vector<std::uint32_t> waiters;  // timed: streams whose head waits for this one
  std::uint64_t lied_about = 0;        // the tail that queries lie about
  std::uint32_t lies_left = 0;

  [[nodiscard]] bool idle() const { return head == queue.size(); }
  [[nodiscard]] StreamPoint tail() const { return {index, enqueued}; }
};

struct EventState {
  std::uint64_t serial = 0;  // tells a recycled slot apart
  std::uint32_t context = 0;
  unsigned int flags = 0;
  std::uint64_t records = 0;  // how often recorded; 0 never
  StreamPoint point;          // of the newest record
  VectorClock clock;          // of the newest record
  std::int64_t completed_ns = -1;
  std::uint32_t lies_left = 0;                // how often a query still says not ready
  std::uint64_t captured_in = 0;              // capture of the newest record; 0: none
  std::vector<std::uint32_t> captured_after;  // nodes that this record comes after
};

struct ContextState {
  int device = 0;
  std::uint32_t retained = 0;
  std::uint32_t legacy_stream = 0;
  std::vector<std::uint32_t> peers;  // devices this context may reach
};

/// What the engine knows of a host thread beyond HostThreads.
struct ThreadState {
  AgentId agent = 0;
  bool known = false;
  std::vector<std::uint32_t> contexts;  // stack; the current one last
  std::uint32_t per_thread_stream = 0xffffffffu;
  cu::StreamCaptureMode capture_mode = cu::StreamCaptureMode::kGlobal;
  bool in_callback = false;
  Injected injected;  // into what the present call enqueues
  std::int64_t now_ns = 0;
};

struct ModuleState {};

class Engine final : public HostEnvironment, public MemoryObserver {
 public:
  Engine();
  ~Engine() override;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// A fresh machine; the calling thread is host thread 0.
  Status reset(const Options& options);

  // -- entry of every API call ------------------------------------------------------------------
  /// What the call returns at once instead of being served, or kSuccess. Runs the scheduler.
  cu::Result enter(Api api, std::uint64_t bytes);
  /// The end of a call of a foreign thread.
  void leave();

  // -- state --------------------------------------------------------------------------------------
  Options options;
  Schedule schedule;
  HappensBefore clocks;
  std::unique_ptr<Memory> memory;
  Blocks blocks;
  std::map<std::uint64_t, VectorClock> value_clocks;  // address of a written value -> its writers
  Pools pools;
  Faults faults;
  TimedRun timed;
  Captures captures;
  std::vector<Report> reports;

  std::vector<std::unique_ptr<StreamState>> streams;  // by index; [0, stream_count) of this run
  std::size_t stream_count = 0;
  HandleTable<std::uint32_t> stream_handles;  // slot -> stream index
  HandleTable<EventState> events;
  HandleTable<ContextState> contexts;
  HandleTable<ModuleState> modules;
  std::vector<std::uint32_t> primary_context;  // by device; kNone
  std::deque<ThreadState> thread_states;       // by thread number; references stay valid
  bool initialized = false;
  cu::Result sticky = cu::Result::kSuccess;
  std::uint64_t op_count = 0;
  std::uint64_t call_count = 0;
  std::uint64_t steps = 0;
  std::uint64_t next_stream_id = 0;
  std::uint64_t next_event_serial = 0;
  std::uint64_t fingerprint = 0;  // FNV-1a of calls and steps in their order
  static constexpr std::uint32_t kNone = 0xffffffffu;

  void mix(std::uint32_t value) {
    for (int i = 0; i < 4; ++i)
      fingerprint = (fingerprint ^ (value >> (8 * i) & 0xffu)) * 0x100000001b3ull;
  }
  [[nodiscard]] bool has(Semantic s) const { return options.semantics.has(s); }
  [[nodiscard]] bool is_timed() const { return options.mode == Mode::kTimed; }
  [[nodiscard]] bool has_contents() const { return options.contents == Contents::kFull; }

  // -- threads and contexts -----------------------------------------------------------------------
  ThreadState& self() { return thread(current_thread()); }
  std::uint32_t current_thread();
  ThreadState& thread(std::uint32_t number);
  AgentId self_agent() { return self().agent; }
  /// The current context, or kNone.
  std::uint32_t current_context();
  /// Programs of the emulated libraries bring threads of their own: calls then serialise here, and
  /// each thread of the operating system is a host thread of the run.
  [[nodiscard]] bool foreign_threads() const { return options.foreign_threads; }
  std::mutex foreign_mutex;
  ForeignThreads foreign;
  /// Of the last foreign call that ended. The locks of such programs are not seen, so each call
  /// counts as made after all that ended before it, whoever made them.
  VectorClock foreign_clock;
  std::int64_t foreign_now_ns = 0;
  /// The thread that runs host functions of foreign programs; does not return.
  void serve_foreign_callbacks();
  std::unique_lock<std::mutex> observer_lock() {
    return foreign_threads() ? std::unique_lock(foreign_mutex) : std::unique_lock<std::mutex>();
  }

  // -- streams ------------------------------------------------------------------------------------
  /// Resolves a handle, the default ones included. kInvalidHandle (and a report) for a stale or
  /// foreign one.
  cu::Result find_stream(cu::Stream handle, const char* call, StreamState** out);
  cu::Result find_event(cu::Event handle, const char* call, EventState** out, std::uint32_t* index);
  StreamState& make_stream(std::uint32_t context, unsigned int flags, int priority, bool internal);
  /// Whether the next handle or address is the one that was freed last.
  bool reuse_now() { return has(Semantic::kImmediateReuse); }
  [[nodiscard]] int device_of(const StreamState& stream) const {
    return contexts[stream.context].device;
  }

  // -- operations ---------------------------------------------------------------------------------
  /// Enqueues: takes its place in the clocks, checks its accesses. kInvalidValue when a copy or
  /// fill names an address without memory. May block (full queue).
  cu::Result submit(StreamState& stream, Op&& op);
  /// The end of submit: runs what the mode wants at once, blocks while the queue is full.
  void let_run(StreamState& stream);
  bool enqueue_whole = false;  // submit leaves let_run to its caller
  /// What a call returns after a wait that failed: the context's error, or a timeout when the whole
  /// run was given up.
  [[nodiscard]] cu::Result lost() const {
    return sticky != cu::Result::kSuccess ? sticky : cu::Result::kLaunchTimeout;
  }
  /// Makes the current host thread wait. False when it can never happen (reported).
  bool wait_for(StreamPoint point, const char* call);
  [[nodiscard]] bool is_complete(StreamPoint point) const {
    return streams[point.stream]->completed >= point.seq;
  }
  cu::Result synchronize_stream(StreamState& stream, const char* call);
  /// Everything enqueued so far in all streams of the context (kNone: of all).
  cu::Result synchronize_all(std::uint32_t context, const char* call);
  /// The host now knows what `from` knows; lifts the page guards that this releases.
  void host_join(const VectorClock& from);
  /// The calling thread has synchronised with that step: no query may deny it any more.
  bool host_knows(Epoch epoch);
  /// Runs what a query asks for as far as it can run without the caller.
  void nudge(StreamPoint point);
  /// The first of the op's dependencies that is not complete.
  bool first_missing(const Op& op, StreamPoint* missing) const;

  // -- memory (engine_memory.cpp) -----------------------------------------------------------------
  [[nodiscard]] Place place_of(std::uint64_t address) const;
  [[nodiscard]] std::byte* bytes_of(const Operand& operand) const;
  [[nodiscard]] bool reachable(const Operand& operand, std::uint64_t bytes, int device);
  /// "device memory block 3 + 0x40", never a raw address.
  [[nodiscard]] std::string place_text(std::uint64_t address) const;
  /// A lifetime event of the calling thread over [address, address + bytes).
  void host_lifetime(std::uint64_t address, std::uint64_t bytes, AccessKind kind, const char* call);
  /// A mapping begins or ends at [address, address + bytes): work that goes through these addresses
  /// must be ordered; work through another mapping of the same memory need not.
  void address_lifetime(std::uint64_t address,
                        std::uint64_t bytes,
                        AccessKind kind,
                        const char* call);
  /// An announced access of the host to pinned memory.
  void host_access(const void* address, std::uint64_t bytes, AccessKind kind, const char* call);
  /// kDocumented: nothing. kObserved: the call waits for the device, as drivers have been seen to.
  void observed_synchronization(const char* call);
  /// A refusal of Memory, as a report (kStrictPreconditions) and a driver code.
  cu::Result refuse(MemoryError error, const char* call);
  /// A block of a pool begins or ends at this point of the stream: checked for order, poisoned.
  void enqueue_lifetime(StreamState& stream,
                        std::uint64_t address,
                        std::uint64_t bytes,
                        AccessKind kind,
                        std::uint32_t poison,
                        const char* call);
  /// Drops guards that lie in memory that is about to go.
  void forget_guards(ByteRange range);

  // -- reports ------------------------------------------------------------------------------------
  void report(ReportKind kind, std::string text);
  void report_conflicts();
  /// kStrictPreconditions only.
  void misuse(const char* call, const std::string& text);
  /// "stream 3", "the legacy default stream".
  [[nodiscard]] std::string describe(const StreamState& stream) const;
  void fail_sticky(cu::Result result);

  /// End of the program: runs out what is queued, reports what is still alive.
  void finish();

  // -- HostEnvironment ----------------------------------------------------------------------------
  void point(const char* what) override;
  void yielded() override;
  void wait_until(bool (*ready)(void*), void* argument, const char* what) override;
  std::int64_t now_ns() override;
  void acquire(std::uint32_t thread, const VectorClock& from) override;
  void release(std::uint32_t thread, VectorClock& into) override;
  void thread_born(std::uint32_t thread, std::uint32_t parent) override;
  void thread_entered(std::uint32_t thread) override;
  std::uint32_t thread_ended(std::uint32_t thread) override;
  void misuse(const char* what, const char* name) override;

  // -- MemoryObserver -----------------------------------------------------------------------------
  void arena_begin(cu::DevicePtr pointer, std::size_t bytes) override;
  void arena_end(cu::DevicePtr pointer, std::size_t bytes) override;
  void block_allocated(cu::DevicePtr pointer, std::size_t bytes, cu::Stream stream) override;
  void block_freed(cu::DevicePtr pointer, cu::Stream stream) override;
  void host_reads(const void* pointer, std::size_t bytes) override;
  void host_writes(void* pointer, std::size_t bytes) override;

  // -- device steps (engine.cpp, execute.cpp) -----------------------------------------------------
  [[nodiscard]] bool eligible(const StreamState& stream);
  /// One step of the stream's head: a piece of a copy, a kernel. REQUIRES: eligible(stream).
  void step(StreamState& stream);
  void complete_head(StreamState& stream, std::int64_t at_ns);
  /// The effect of the next piece on the bytes.
  void execute(StreamState& stream, Op& op);
  void start_callback(StreamState& stream);
  /// Nothing can run any more and somebody waits: the context is lost to a timeout, reported. False
  /// when no stream has anything left.
  bool give_up_streams();
  /// Runs one thing that is not the calling thread; false when there is none.
  bool run_one_other();
  /// As run_one_other, by turns where the schedule has favourites.
  bool take_turn();

  AccessList access_list;  // scratch of launches

 private:
  void gather(bool with_self);
  void set_now(std::int64_t now_ns);
  /// Neither a thread nor the device can go on now: time moves to the next deadline; without one
  /// the context is lost to a timeout, or the whole run is given up.
  void let_time_pass();
  [[nodiscard]] std::string flat_text(Range range) const;
  bool force(StreamPoint target);
  bool run_towards(StreamPoint target);
  [[nodiscard]] bool others_may_help() const;
  void run_kernel(StreamState& stream, Op& op);
  void check_kernel(const StreamState& stream,
                    const Op& op,
                    const void* const* parameters,
                    const PointerResolver& resolver);
  bool check_reachable(const Op& op, const StreamState& stream);
  bool value_arrived(const Op& op);
  bool check_accesses(const Op& op, const StreamState& stream);
  bool check_access(const Op& op, const StreamState& stream, const KernelAccess& access);
  void guard_operands(const Op& op);
  void guard_operand(const Operand& operand, std::uint64_t bytes, bool device_writes, const Op& op);
  [[nodiscard]] std::string guard_text(const HostFault& fault);
  void lift_guards();
  void collect_host_faults(const Op* op, const StreamState* stream);
  void block_event(cu::DevicePtr pointer,
                   std::uint64_t bytes,
                   AccessKind kind,
                   std::uint32_t poison,
                   cu::Stream stream,
                   const char* call);
  void report_leaks();
  static void callback_thread(void* engine);
  void serve_callback();

  struct Guard {
    ByteRange range;
    Epoch epoch;
    GuardKind kind = GuardKind::kNoAccess;
    const char* call = "";
    std::uint64_t op = 0;
  };
  std::vector<Guard> guards_;
  std::vector<std::uint32_t> entities_;
  std::vector<Conflict> conflicts_;
  std::vector<HostFault> host_faults_;
  std::vector<StreamPoint> force_stack_;
  std::int64_t virtual_ns_ = 0;  // adversarial modes: counts steps
  std::uint64_t yields_ = 0;     // whose turn it is when a thread polls

  // Host callbacks waiting for the callback thread, by stream.
  std::vector<std::uint32_t> callbacks_;
  std::uint32_t callback_host_thread_ = kNone;

 public:
  // Last: its destructor lets host threads unwind, which still use everything above.
  HostThreads threads;
};

/// The engine that the calling thread's driver calls go to; null when there is none.
Engine* current_engine();
/// The calling thread's own, which goes before that of the process; returns the one before.
Engine* set_current_engine(Engine* engine);
/// True in the child of a fork of a process that had an engine.
bool in_forked_child();
/// For threads that no engine knows: the emulated libraries serve the whole process from one.
void set_process_engine(Engine* engine);

}  // namespace spillway::sim
