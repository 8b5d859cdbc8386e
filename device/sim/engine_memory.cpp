// SPDX-License-Identifier: Apache-2.0
// Where memory meets streams: is an access inside its block, may the device go there, is it ordered
// after everything before it; guards of pinned pages; lifetime events; what a pool reports.
#include "device/sim/engine.hpp"
#include "device/sim/memory_layout.hpp"
#include "device/sim/race_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace spillway::sim {
namespace {

constexpr std::uint32_t kFreshByte = 0xff;
constexpr std::uint32_t kFreedByte = 0xde;
// Mapped addresses have a history of their own besides that of the memory behind them: unmapping
// one of two aliases concerns only what went through that one.
constexpr std::uint64_t kAddressSpace = std::uint64_t{1} << 63;

Access wanted(AccessMode mode) {
  return mode == AccessMode::kRead ? Access::kRead : Access::kReadWrite;
}

AccessKind kind_of(AccessMode mode) {
  return mode == AccessMode::kRead ? AccessKind::kRead : AccessKind::kWrite;
}

}  // namespace

Place Engine::place_of(std::uint64_t address) const {
  if (memory->owns(address))
    return memory->find(address).kind == MemoryKind::kPinned ? Place::kPinned : Place::kDevice;
  return memory->find(address).kind == MemoryKind::kRegistered ? Place::kPinned : Place::kPageable;
}

std::byte* Engine::bytes_of(const Operand& operand) const {
  return memory->mirror(operand.address);
}

bool Engine::reachable(const Operand& operand, std::uint64_t bytes, int device) {
  if (operand.place == Place::kStaged || operand.place == Place::kPageable) return true;
  // Rights are checked at enqueue, by device; here it counts that there is memory at all.
  return memory
      ->translate(operand.address,
                  bytes,
                  static_cast<std::uint32_t>(device),
                  Access::kRead,
                  [](std::uint64_t, std::uint64_t) {})
      .ok();
}

std::string Engine::place_text(std::uint64_t address) const {
  const AddressInfo info = memory->find(address);
  const auto at = [&](const char* what, std::uint64_t begin) {
    return fmt::format("{} + {:#x}", what, address - begin);
  };
  switch (info.kind) {
    case MemoryKind::kPlain:
      return at(
          fmt::format("device allocation {} ({} bytes)", info.serial, info.range.bytes).c_str(),
          info.range.begin);
    case MemoryKind::kPinned:
      return at(
          fmt::format("pinned allocation {} ({} bytes)", info.serial, info.range.bytes).c_str(),
          info.range.begin);
    case MemoryKind::kManaged:
      return at(
          fmt::format("managed allocation {} ({} bytes)", info.serial, info.range.bytes).c_str(),
          info.range.begin);
    case MemoryKind::kReserved:
      return fmt::format("{}reserved range at base + {:#x}, offset {:#x}",
                         info.mapping.bytes == 0 ? "the unmapped part of the " : "the ",
                         info.range.begin - memory->base(),
                         address - info.range.begin);
    case MemoryKind::kRegistered:
      return at("registered host memory", info.range.begin);
    case MemoryKind::kNone:
      break;
  }
  if (memory->owns(address))
    return fmt::format("base + {:#x} (nothing is allocated there)", address - memory->base());
  return "host memory that the driver does not know";
}

std::string Engine::flat_text(Range range) const {
  const std::uint64_t bytes = range.end - range.begin;
  if (range.begin >= kAddressSpace)
    return fmt::format(
        "{} bytes of {}", bytes, place_text(memory->base() + (range.begin - kAddressSpace)));
  const MemoryLayout& layout = memory->layout();
  if (range.begin < layout.linear_end())
    return fmt::format("{} bytes of {}", bytes, place_text(memory->base() + range.begin));
  if (range.begin < layout.foreign_begin())
    return fmt::format("{} bytes of the physical memory of device {} at {:#x}",
                       bytes,
                       layout.physical_device(range.begin),
                       range.begin - layout.physical_begin(layout.physical_device(range.begin)));
  return fmt::format("{} bytes of registered host memory", bytes);
}

// ---- accesses of operations

bool Engine::check_accesses(const Op& op, const StreamState& stream) {
  const auto check = [&](const Operand& operand, AccessMode mode) {
    if (operand.place == Place::kStaged || operand.place == Place::kPageable) return true;
    return check_access(op, stream, {operand.address, op.bytes, mode});
  };
  switch (op.kind) {
    case OpKind::kCopy: {
      // Both are checked even if the first is wrong.
      const bool source = check(op.source, AccessMode::kRead);
      const bool target = check(op.target, AccessMode::kWrite);
      return source && target;
    }
    case OpKind::kFill:
    case OpKind::kWriteValue:
      return check(op.target, AccessMode::kWrite);
    case OpKind::kWaitValue:
      return true;  // meant to look while others write; an address without memory shows when it
                    // runs
    case OpKind::kKernel:
      // A launch with a bad address succeeds; the kernel runs into it.
      for (const KernelAccess& access : op.accesses) check_access(op, stream, access);
      return true;
    case OpKind::kPoison:
      if (has(Semantic::kCheckLifetime))
        static_cast<void>(memory->translate(
            op.target.address,
            op.bytes,
            static_cast<std::uint32_t>(device_of(stream)),
            Access::kRead,
            [&](std::uint64_t flat, std::uint64_t bytes) {
              clocks.access(
                  {flat, flat + bytes}, op.lifetime, op.epoch, op.call, op.number, conflicts_);
            }));
      report_conflicts();
      return true;
    case OpKind::kMarker:
    case OpKind::kHostFunc:
      return true;
  }
  return true;
}

bool Engine::check_access(const Op& op, const StreamState& stream, const KernelAccess& access) {
  const auto who = [&] {
    return fmt::format("{}{} (op {}) on {} {} {} bytes at {}",
                       op.kind == OpKind::kKernel ? "kernel `" : "",
                       op.kind == OpKind::kKernel ? std::string(op.call) + "`" : op.call,
                       op.number,
                       describe(stream),
                       access.mode == AccessMode::kRead ? "reads" : "writes",
                       access.bytes,
                       place_text(access.pointer));
  };
  ByteRange hit;
  switch (blocks.check({access.pointer, access.bytes}, &hit)) {
    case Blocks::Verdict::kOk:
      break;
    case Blocks::Verdict::kFreed:
      report(ReportKind::kUseAfterFree, who() + ": that block was freed before");
      break;
    case Blocks::Verdict::kOutOfBounds:
      report(ReportKind::kOutOfBounds,
             fmt::format("{}: the block there has {} bytes", who(), hit.bytes));
      break;
    case Blocks::Verdict::kNoBlock:
      report(ReportKind::kOutOfBounds, who() + ": inside a pool, but in none of its blocks");
      break;
  }
  if (pools.block_count() != 0) {
    std::uint64_t bytes = 0;
    const AddressInfo info = memory->find(access.pointer);
    switch (pools.check(info, access.pointer, access.bytes, &bytes)) {
      case Pools::Verdict::kOk:
        break;
      case Pools::Verdict::kFreed:
        report(ReportKind::kUseAfterFree,
               who() + ": that stream-ordered allocation was freed before");
        break;
      case Pools::Verdict::kOutOfBounds:
        report(ReportKind::kOutOfBounds,
               fmt::format("{}: the stream-ordered allocation there has {} bytes", who(), bytes));
        break;
    }
  }
  const Translation there = memory->translate(
      access.pointer,
      access.bytes,
      // Each side of a peer copy is reached by the device that it belongs to.
      op.is_peer ? memory->find(access.pointer).device
                 : static_cast<std::uint32_t>(device_of(stream)),
      wanted(access.mode),
      [&](std::uint64_t flat, std::uint64_t bytes) {
        clocks.access(
            {flat, flat + bytes}, kind_of(access.mode), op.epoch, op.call, op.number, conflicts_);
      });
  if (has(Semantic::kCheckLifetime) && memory->owns(access.pointer) &&
      access.pointer - memory->base() >= memory->layout().reserve_begin()) {
    const std::uint64_t at = kAddressSpace + (access.pointer - memory->base());
    // A read: two kernels may use a mapping at once, only its end may not be overtaken.
    clocks.access(
        {at, at + access.bytes}, AccessKind::kRead, op.epoch, op.call, op.number, conflicts_);
  }
  if (!conflicts_.empty()) report_conflicts();
  if (there.ok()) return true;
  if (has(Semantic::kFaultUnmapped)) {
    ReportKind kind = ReportKind::kUnmapped;
    if (there.error == MemoryError::kOutOfBounds) kind = ReportKind::kOutOfBounds;
    if (there.error == MemoryError::kFreed) kind = ReportKind::kUseAfterFree;
    report(kind,
           fmt::format(
               "{}: {} at {}", who(), memory_error_name(there.error), place_text(there.address)));
    return false;
  }
  return true;
}

// ---- guards of pinned pages

void Engine::guard_operands(const Op& op) {
  if (!has_contents() || !has(Semantic::kGuardPinned) || is_timed()) return;
  switch (op.kind) {
    case OpKind::kCopy:
      guard_operand(op.source, op.bytes, false, op);
      guard_operand(op.target, op.bytes, true, op);
      break;
    case OpKind::kFill:
    case OpKind::kWriteValue:
      guard_operand(op.target, op.bytes, true, op);
      break;
    case OpKind::kKernel:
      for (const KernelAccess& access : op.accesses)
        guard_operand({access.pointer, place_of(access.pointer)},
                      access.bytes,
                      access.mode != AccessMode::kRead,
                      op);
      break;
    default:
      break;
  }
}

void Engine::guard_operand(const Operand& operand,
                           std::uint64_t bytes,
                           bool device_writes,
                           const Op& op) {
  if (operand.place != Place::kPinned || !memory->owns(operand.address)) return;
  const GuardKind kind = device_writes ? GuardKind::kNoAccess : GuardKind::kReadOnly;
  if (memory->guard(operand.address, bytes, kind) == MemoryError::kOk)
    guards_.push_back({{operand.address, bytes}, op.epoch, kind, op.call, op.number});
}

/// A page is the host's again when the running thread knows that the operation has ended.
void Engine::lift_guards() {
  if (guards_.empty()) return;
  if (memory->any_faults())
    collect_host_faults(nullptr, nullptr);  // while it is known whose they are
  const VectorClock& known = clocks.clock(self_agent());
  std::erase_if(guards_, [&](const Guard& guard) {
    if (!known.covers(guard.epoch)) return false;
    static_cast<void>(memory->unguard(guard.range.begin, guard.range.bytes, guard.kind));
    return true;
  });
}

void Engine::forget_guards(ByteRange range) {
  // Memory::free lifts the page guards of the block itself.
  std::erase_if(guards_, [&](const Guard& guard) {
    return guard.range.begin < range.end() && range.begin < guard.range.end();
  });
}

/// Who may still use the byte: "cuMemcpyDtoHAsync on stream 2 (op 5) may still write". Empty when
/// only another part of the page is in use, which page protection cannot tell.
std::string Engine::guard_text(const HostFault& fault) {
  const AgentId agent = self_agent();
  for (auto guard = guards_.rbegin(); guard != guards_.rend(); ++guard) {
    if (fault.address < guard->range.begin || fault.address >= guard->range.end()) continue;
    if (clocks.comes_after_function(guard->epoch, agent)) continue;
    return fmt::format("{} may still {}",
                       site_text({guard->call, guard->op, guard->epoch, AccessKind::kRead},
                                 clocks.agent(guard->epoch.agent)),
                       guard->kind == GuardKind::kNoAccess ? "write" : "read");
  }
  return {};
}

void Engine::collect_host_faults(const Op* op, const StreamState* stream) {
  host_faults_.clear();
  static_cast<void>(memory->take_faults(&host_faults_));
  for (const HostFault& fault : host_faults_) {
    const char* verb = fault.write ? "wrote" : "read";
    switch (fault.kind) {
      case HostFaultKind::kDeviceAddress:
        report(ReportKind::kHostTouch,
               fmt::format("the host {} {}: device memory has no address on the host",
                           verb,
                           place_text(fault.address)));
        break;
      case HostFaultKind::kGuarded: {
        const std::string user = guard_text(fault);
        if (user.empty()) break;
        report(ReportKind::kHostTouch,
               fmt::format("the host {} {} while {} it: synchronise with an event recorded after "
                           "that operation first",
                           verb,
                           place_text(fault.address),
                           user));
        break;
      }
      case HostFaultKind::kNotAllocated:
        report(ReportKind::kUseAfterFree,
               fmt::format("the host {} {}: no pinned memory is allocated there",
                           verb,
                           place_text(fault.address)));
        break;
      case HostFaultKind::kKernel:
        report(ReportKind::kUndeclared,
               fmt::format("kernel `{}`{} {} {}, which it does not declare or which is not mapped",
                           op == nullptr ? "?" : op->call,
                           stream == nullptr ? "" : " on " + describe(*stream),
                           verb,
                           place_text(fault.address)));
        break;
    }
  }
}

// ---- lifetime events and host accesses

void Engine::host_lifetime(std::uint64_t address,
                           std::uint64_t bytes,
                           AccessKind kind,
                           const char* call) {
  if (!has(Semantic::kCheckLifetime)) return;
  const Epoch epoch = clocks.host_step(self_agent());
  for (std::uint64_t done = 0; done < bytes;) {
    const AddressInfo info = memory->find(address + done);
    std::uint64_t piece = bytes - done;
    if (info.kind == MemoryKind::kReserved) {
      if (info.mapping.bytes == 0) break;
      piece = std::min(piece, info.mapping.end() - (address + done));
    }
    if (info.kind == MemoryKind::kRegistered) {
      memory->foreign().flat_of(
          address, bytes, [&](std::uint64_t flat, std::uint64_t n, std::uint64_t) {
            clocks.access({flat, flat + n}, kind, epoch, call, op_count, conflicts_);
          });
    } else if (info.kind != MemoryKind::kNone) {
      clocks.access({info.flat, info.flat + piece}, kind, epoch, call, op_count, conflicts_);
    }
    done += piece;
  }
  report_conflicts();
}

void Engine::address_lifetime(std::uint64_t address,
                              std::uint64_t bytes,
                              AccessKind kind,
                              const char* call) {
  if (!has(Semantic::kCheckLifetime)) return;
  const std::uint64_t at = kAddressSpace + (address - memory->base());
  const Epoch epoch = clocks.host_step(self_agent());
  clocks.access({at, at + bytes}, kind, epoch, call, op_count, conflicts_);
  report_conflicts();
}

void Engine::host_access(const void* address,
                         std::uint64_t bytes,
                         AccessKind kind,
                         const char* call) {
  const auto begin = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(address));
  const Epoch epoch = clocks.host_step(self_agent());
  const Translation there =
      memory->translate(begin,
                        bytes,
                        0,
                        kind == AccessKind::kRead ? Access::kRead : Access::kReadWrite,
                        [&](std::uint64_t flat, std::uint64_t n) {
                          clocks.access({flat, flat + n}, kind, epoch, call, op_count, conflicts_);
                        });
  report_conflicts();
  if (!there.ok() && memory->owns(begin))
    report(ReportKind::kOutOfBounds,
           fmt::format(
               "{}: {} at {}", call, memory_error_name(there.error), place_text(there.address)));
}

void Engine::observed_synchronization(const char* call) {
  if (options.strictness == Strictness::kObserved) synchronize_all(kNone, call);
}

cu::Result Engine::refuse(MemoryError error, const char* call) {
  switch (error) {
    case MemoryError::kOk:
      return cu::Result::kSuccess;
    case MemoryError::kBadDevice:
      return cu::Result::kInvalidDevice;
    case MemoryError::kOutOfMemory:
    case MemoryError::kOutOfAddresses:
    case MemoryError::kTooManyMappings:
      return cu::Result::kOutOfMemory;
    case MemoryError::kAlreadyRegistered:
    case MemoryError::kOverlap:
      return cu::Result::kHostMemoryAlreadyRegistered;
    case MemoryError::kNotRegistered:
      return cu::Result::kHostMemoryNotRegistered;
    default:
      misuse(call, memory->describe_misuse());
      return cu::Result::kInvalidValue;
  }
}

// ---- what a pool reports

void Engine::arena_begin(cu::DevicePtr pointer, std::size_t bytes) {
  const std::unique_lock lock = observer_lock();
  if (!blocks.begin_arena({pointer, bytes}))
    misuse("arena_begin", "the range overlaps another arena");
}

void Engine::arena_end(cu::DevicePtr pointer, std::size_t bytes) {
  const std::unique_lock lock = observer_lock();
  if (!blocks.end_arena({pointer, bytes})) misuse("arena_end", "no such arena");
}

void Engine::block_allocated(cu::DevicePtr pointer, std::size_t bytes, cu::Stream stream) {
  const std::unique_lock lock = observer_lock();
  if (!blocks.allocate({pointer, bytes})) {
    misuse("block_allocated", "the block lies outside every arena or overlaps a live block");
    return;
  }
  block_event(pointer, bytes, AccessKind::kAllocate, kFreshByte, stream, "block allocation");
}

void Engine::block_freed(cu::DevicePtr pointer, cu::Stream stream) {
  const std::unique_lock lock = observer_lock();
  const ByteRange block = blocks.free(pointer);
  if (block.bytes == 0) {
    misuse("block_freed", "no live block starts at " + place_text(pointer));
    return;
  }
  block_event(pointer, block.bytes, AccessKind::kFree, kFreedByte, stream, "block free");
}

void Engine::block_event(cu::DevicePtr pointer,
                         std::uint64_t bytes,
                         AccessKind kind,
                         std::uint32_t poison,
                         cu::Stream handle,
                         const char* call) {
  StreamState* stream = nullptr;
  if (find_stream(handle, call, &stream) != cu::Result::kSuccess) return;
  enqueue_lifetime(*stream, pointer, bytes, kind, poison, call);
}

void Engine::enqueue_lifetime(StreamState& stream,
                              std::uint64_t address,
                              std::uint64_t bytes,
                              AccessKind kind,
                              std::uint32_t poison,
                              const char* call) {
  Op op;
  op.kind = OpKind::kPoison;
  op.call = call;
  op.target = {address, Place::kDevice};
  op.bytes = bytes;
  op.value = poison;
  op.lifetime = kind;
  static_cast<void>(submit(stream, std::move(op)));
}

void Engine::host_reads(const void* pointer, std::size_t bytes) {
  const std::unique_lock lock = observer_lock();
  host_access(pointer, bytes, AccessKind::kRead, "host read");
}

void Engine::host_writes(void* pointer, std::size_t bytes) {
  const std::unique_lock lock = observer_lock();
  host_access(pointer, bytes, AccessKind::kWrite, "host write");
}

// ---- the end

void Engine::finish() {
  if (!threads.abandoned() && sticky == cu::Result::kSuccess) {
    // Work that the program did not wait for still runs, and may still go wrong.
    for (std::size_t i = 0; i < stream_count; ++i)
      if (!wait_for(streams[i]->tail(), "the end of the program")) break;
  }
  if (memory->any_faults()) collect_host_faults(nullptr, nullptr);
  if (has(Semantic::kLeakCheck) && !threads.abandoned()) report_leaks();
}

void Engine::report_leaks() {
  std::string text;
  const auto add = [&text](std::uint64_t count, const char* what) {
    if (count != 0)
      text +=
          fmt::format("{}{} {}{}", text.empty() ? "" : ", ", count, what, count == 1 ? "" : "s");
  };
  const MemoryInUse left = memory->in_use();
  add(left.plain_blocks - pools.block_count(), "device allocation");
  add(pools.live_count(), "stream-ordered allocation");
  add(pools.user_pool_count(), "memory pool");
  add(left.physical_handles, "physical handle");
  add(left.mappings, "mapping");
  add(left.reservations, "address reservation");
  add(left.pinned_blocks, "pinned or managed allocation");
  add(left.registrations, "host registration");
  add(stream_handles.live_count(), "stream");
  add(events.live_count(), "event");
  add(modules.live_count(), "module");
  add(captures.open_count(), "unfinished capture");
  add(captures.graphs.live_count() - captures.open_count(), "graph");
  add(captures.execs.live_count(), "instantiated graph");
  if (!text.empty()) report(ReportKind::kLeak, "still alive at the end: " + text);
  const std::string threads_left = threads.describe_leaks();
  if (!threads_left.empty()) report(ReportKind::kLeak, "still alive at the end: " + threads_left);
}

}  // namespace spillway::sim
