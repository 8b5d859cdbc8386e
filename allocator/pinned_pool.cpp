// SPDX-License-Identifier: Apache-2.0
// Allocation and freeing. What registers and unregisters is in pinned_growth.cpp.
#include "allocator/pinned_pool.hpp"

#include "allocator/pinned_effort.hpp"
#include "core/check.hpp"
#include "core/units.hpp"
#include "device/driver_error.hpp"

#include <algorithm>
#include <utility>

namespace spillway {
namespace {

using Block = PinnedBlocks::Block;
using Fence = PinnedBlocks::Fence;
using State = PinnedBlocks::State;

// Rounds in which others may take what a request has just made free; then it fails.
constexpr int kRoundsMax = 64;
// Events asked about per stream and round; the newest of more would hardly be done.
constexpr std::size_t kQueriesPerStreamMax = 64;

std::uintptr_t address_of(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer); }

std::string hex(std::uintptr_t address) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string text;
  for (; address != 0; address /= 16) text.insert(text.begin(), kDigits[address % 16]);
  return "0x" + (text.empty() ? "0" : text);
}

}  // namespace

Result<PinnedBlock> PinnedPool::allocate(std::uint64_t bytes, StreamRef stream, WaitPolicy policy) {
  SPW_RETURN_IF_ERROR(check_stream(stream));
  SPW_ASSIGN_OR_RETURN(const std::uint64_t capture_id, capture_of(stream));
  return serve({bytes, stream, stream.id(), capture_id, policy});
}

Result<PinnedBlock> PinnedPool::allocate(std::uint64_t bytes, WaitPolicy policy) {
  if (policy == WaitPolicy::kStream)
    return Status(Code::kInvalidArgument, "pinned pool: the host has no stream that could wait");
  return serve({bytes, std::nullopt, kNoStream, 0, policy});
}

Result<PinnedBlock> PinnedPool::serve(Request request) {
  if (request.bytes == 0)
    return Status(Code::kInvalidArgument, "pinned pool: an allocation of 0 bytes");
  Effort effort;
  const std::uint64_t quantum = options_.quantum_bytes;
  effort.too_large = request.bytes > options_.cap_bytes || request.bytes > ~quantum;
  if (!effort.too_large) {
    request.bytes = (request.bytes + quantum - 1) / quantum * quantum;
    for (int round = 0; round < kRoundsMax; ++round) {
      SPW_ASSIGN_OR_RETURN(const Attempt attempt, serve_once(request, &effort));
      if (attempt.block.data != nullptr) return attempt.block;
      if (!attempt.again) break;
    }
  }
  const LockGuard lock(mutex_);
  ++stats_.failures;
  return Status(Code::kOutOfMemory, out_of_memory_text(request, effort));
}

Result<PinnedPool::Attempt> PinnedPool::serve_once(const Request& request, Effort* effort) {
  SPW_ASSIGN_OR_RETURN(Attempt attempt, look(request, effort));
  if (attempt.block.data != nullptr) return attempt;
  SPW_ASSIGN_OR_RETURN(const bool reclaimed, reclaim());
  if (reclaimed) {
    SPW_ASSIGN_OR_RETURN(attempt, look(request, effort));
    if (attempt.block.data != nullptr) return attempt;
  }
  if (request.policy == WaitPolicy::kStream) {
    SPW_ASSIGN_OR_RETURN(attempt, take_run(request, true, effort));
    if (attempt.block.data != nullptr) return attempt;
  }
  SPW_ASSIGN_OR_RETURN(attempt, grow(request, effort));
  if (attempt.block.data != nullptr || attempt.again) return attempt;
  SPW_ASSIGN_OR_RETURN(attempt.again, make_room(request, effort));
  if (!attempt.again && request.policy == WaitPolicy::kHost) {
    SPW_ASSIGN_OR_RETURN(attempt.again, wait_on_host(request));
  }
  return attempt;
}

Result<PinnedPool::Attempt> PinnedPool::look(const Request& request, Effort* effort) {
  {
    const LockGuard lock(mutex_);
    Block* found = blocks_.best_free(request.bytes);
    if (request.stream) {
      Block* own = blocks_.best_pending(request.stream_id, request.capture_id, request.bytes);
      // Of equals its own, so that free memory is left to those who have nothing else.
      if (own != nullptr && (found == nullptr || own->bytes <= found->bytes)) found = own;
    }
    if (found != nullptr)
      return Attempt{
          hand_out(blocks_.take(found, request.bytes, request.stream_id, request.capture_id),
                   *effort),
          false};
  }
  if (!request.stream) return Attempt{};
  return take_run(request, false, effort);
}

// The stream is made to wait outside of the lock, while nobody else can have the run.
Result<PinnedPool::Attempt> PinnedPool::take_run(const Request& request,
                                                 bool foreign,
                                                 Effort* effort) {
  PinnedBlocks::Run run;
  std::vector<Fence*> fences;
  {
    const LockGuard lock(mutex_);
    run = blocks_.best_run(request.bytes, request.stream_id, request.capture_id, foreign);
    if (run.first == nullptr) return Attempt{};
    blocks_.claim(run);
    for (const Block* block = run.first;; block = block->right) {
      Fence* fence = block->fence;
      if (fence != nullptr && !fence->done &&
          std::find(fences.begin(), fences.end(), fence) == fences.end()) {
        PinnedBlocks::hold(fence);
        fences.push_back(fence);
      }
      if (block == run.last) break;
    }
  }
  Status status;
  std::uint64_t waits = 0;
  for (std::size_t i = 0; status.ok() && i < fences.size(); ++i) {
    if (fences[i]->stream_id == request.stream_id) continue;
    status = fences[i]->recorded.make_wait(*request.stream);
    ++waits;
  }
  RecordedEvent after_all;
  if (status.ok() && fences.size() > 1) {
    Result<RecordedEvent> recorded = events_.record(*request.stream);
    status = recorded.status();
    if (recorded.ok()) after_all = std::move(recorded).value();
  }

  const LockGuard lock(mutex_);
  Attempt attempt;
  if (!status.ok()) {
    blocks_.unclaim(run);
  } else {
    Fence* fence = fences.empty() ? nullptr : fences.front();
    Fence* made = nullptr;
    if (!after_all.empty())
      fence = made = blocks_.make_fence(std::move(after_all), request.stream_id);
    attempt.block = hand_out(
        blocks_.merge(run, request.bytes, request.stream_id, request.capture_id, fence), *effort);
    blocks_.drop(made);
    stats_.stream_waits += waits;
  }
  for (Fence* fence : fences) blocks_.drop(fence);
  if (!status.ok()) return status;
  return attempt;
}

Result<bool> PinnedPool::reclaim() {
  std::vector<Fence*> held;
  {
    const LockGuard lock(mutex_);
    blocks_.hold_pending_fences(false, kQueriesPerStreamMax, &held);
  }
  if (held.empty()) return false;
  // Queries are forbidden while anybody captures, unless they are said to be harmless.
  Status status;
  std::vector<Fence*> done;
  if (Result<RelaxedCapture> relaxed = RelaxedCapture::enter(*driver_); relaxed.ok()) {
    std::uint64_t stopped_at = kNoStream;  // later frees of that stream are not done either
    for (std::size_t i = 0; status.ok() && i < held.size(); ++i) {
      if (held[i]->stream_id == stopped_at) continue;
      const Result<bool> is_done = held[i]->recorded.is_done();
      status = is_done.status();
      if (is_done.ok() && is_done.value())
        done.push_back(held[i]);
      else
        stopped_at = held[i]->stream_id;
    }
  } else {
    status = relaxed.status();
  }
  const LockGuard lock(mutex_);
  for (Fence* fence : done) fence->done = true;
  const std::uint64_t freed = done.empty() ? 0 : blocks_.sweep();
  for (Fence* fence : held) blocks_.drop(fence);
  if (!status.ok()) return status;
  return freed != 0;
}

Result<bool> PinnedPool::wait_on_host(const Request& request) {
  std::vector<Fence*> held;
  {
    const LockGuard lock(mutex_);
    // In a capture, what the stream freed before it is like what others freed.
    const std::uint64_t stream_id = request.capture_id == 0 ? request.stream_id : kNoStream;
    const PinnedBlocks::Run run = blocks_.best_run(request.bytes, stream_id, 0, true);
    if (run.first == nullptr || run.foreign_count == 0) return false;
    for (const Block* block = run.first;; block = block->right) {
      if (block->fence != nullptr && block->stream_id != stream_id && !block->fence->done) {
        PinnedBlocks::hold(block->fence);
        held.push_back(block->fence);
      }
      if (block == run.last) break;
    }
  }
  Status status;
  std::uint64_t waits = 0;
  if (Result<RelaxedCapture> relaxed = RelaxedCapture::enter(*driver_); relaxed.ok()) {
    for (; status.ok() && waits < held.size(); ++waits)
      status = held[waits]->recorded.synchronize();
  } else {
    status = relaxed.status();
  }
  const LockGuard lock(mutex_);
  if (status.ok())
    for (Fence* fence : held) fence->done = true;
  blocks_.sweep();
  for (Fence* fence : held) blocks_.drop(fence);
  stats_.host_waits += waits;
  if (!status.ok()) return status;
  return true;
}

PinnedBlock PinnedPool::hand_out(Block* block, const Effort& effort) {
  if (effort.waited_ns == kDidNotWait) {
    ++stats_.hits;
  } else {
    ++stats_.misses;
    stats_.miss_wait_ns += effort.waited_ns;
  }
  stats_.allocated_bytes_peak = std::max(stats_.allocated_bytes_peak, blocks_.live_bytes());
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the books are kept in addresses
  return {reinterpret_cast<void*>(block->begin), block->bytes};
}

std::string PinnedPool::out_of_memory_text(const Request& request, const Effort& effort) const {
  if (options_.cap_bytes == 0) return "pinned pool: the cap is 0, nothing may be pinned";
  std::string text = "pinned pool: no room for " + format_bytes(request.bytes);
  if (request.stream) text += " on stream " + std::to_string(request.stream_id);
  text += ": cap " + format_bytes(options_.cap_bytes) + ", reserved " + format_bytes(reserved()) +
          ": in use " + format_bytes(blocks_.live_bytes()) + " (" +
          std::to_string(blocks_.live_count()) + " blocks), freed and awaited " +
          format_bytes(blocks_.pending_bytes()) + ", free " + format_bytes(blocks_.free_bytes()) +
          " (largest hole " + format_bytes(blocks_.largest_free_bytes()) + ")";
  if (effort.too_large) return text + "; the request is larger than the cap";
  text += "; tried: events of freed blocks; ";
  text += effort.growth.ok() ? "registering more: the cap is reached" : effort.growth.message();
  text += effort.in_step ? "; idle slabs stay registered inside a step"
                         : "; idle slabs: not enough to make room";
  return text;
}

// ---- free

Result<PinnedPool::Freeing> PinnedPool::begin_free(void* pointer) {
  const LockGuard lock(mutex_);
  Block* block = blocks_.find(address_of(pointer));
  if (block == nullptr || block->state != State::kLive) return refuse_free(address_of(pointer));
  blocks_.set_busy(block);
  Fence* inherited = block->fence;
  if (inherited != nullptr && inherited->done) inherited = nullptr;
  return Freeing{block, block->stream_id, block->capture_id, inherited};
}

Status PinnedPool::refuse_free(std::uintptr_t address) const {
  const std::string what = "pinned pool: free of " + hex(address) + ": ";
  const Block* block = address == 0 ? nullptr : blocks_.around(address);
  if (block == nullptr) return {Code::kInvalidArgument, what + "not memory of this pool"};
  if (block->state == State::kFree || block->state == State::kPending)
    return {Code::kInvalidArgument, what + "freed already, or never allocated"};
  if (block->begin == address)
    return {Code::kInvalidArgument, what + "another thread is freeing it"};
  return {Code::kInvalidArgument,
          what + "inside the block of " + format_bytes(block->bytes) + " that begins at " +
              hex(block->begin)};
}

Status PinnedPool::free(void* pointer, StreamRef stream) {
  SPW_RETURN_IF_ERROR(check_stream(stream));
  SPW_ASSIGN_OR_RETURN(const Freeing freeing, begin_free(pointer));
  Status status = order_free(freeing, stream);
  if (!status.ok()) {
    const LockGuard lock(mutex_);
    blocks_.set_live(freeing.block);
  }
  return status;
}

// What used the memory before its last owner may still run: its last owner was given it by a stream
// that comes after that, so another stream must be made to come after it too, or its event would
// promise too much.
Status PinnedPool::order_free(const Freeing& freeing, StreamRef stream) {
  bool park = false;
  if (freeing.inherited != nullptr) {
    SPW_ASSIGN_OR_RETURN(const std::uint64_t capture_id, capture_of(stream));
    if (capture_id == freeing.capture_id) {
      if (stream.id() != freeing.stream_id)
        SPW_RETURN_IF_ERROR(freeing.inherited->recorded.make_wait(stream));
    } else if (freeing.capture_id == 0) {
      // A capture cannot wait for work outside of it. The memory is the capture's now, and when
      // that is forgotten it still waits for the work.
      const LockGuard lock(mutex_);
      blocks_.make_pending(freeing.block, kNoStream, capture_id, freeing.inherited);
      return {};
    } else if (capture_id == 0) {
      park = true;  // an earlier use of it belongs to a capture
    } else {
      return {Code::kUnsupported,
              "pinned pool: memory that belongs to capture " + std::to_string(freeing.capture_id) +
                  " is freed in capture " + std::to_string(capture_id)};
    }
  }
  SPW_ASSIGN_OR_RETURN(RecordedEvent recorded, events_.record(stream));
  const LockGuard lock(mutex_);
  const std::uint64_t recorded_in = recorded.capture_id();
  Fence* fence = blocks_.make_fence(std::move(recorded), stream.id());
  if (park)
    blocks_.make_pending(freeing.block, kNoStream, freeing.capture_id, fence);
  else
    blocks_.make_pending(freeing.block, stream.id(), recorded_in, fence);
  blocks_.drop(fence);
  return {};
}

Status PinnedPool::free(void* pointer) {
  SPW_ASSIGN_OR_RETURN(const Freeing freeing, begin_free(pointer));
  const LockGuard lock(mutex_);
  if (freeing.inherited == nullptr)
    blocks_.make_free(freeing.block);
  else
    blocks_.make_pending(freeing.block,
                         freeing.capture_id == 0 ? freeing.inherited->stream_id : kNoStream,
                         freeing.capture_id,
                         freeing.inherited);
  return {};
}

void PinnedPool::forget_capture(std::uint64_t capture_id) {
  {
    const LockGuard lock(mutex_);
    blocks_.forget_capture(capture_id);
  }
  events_.forget_capture(capture_id);
}

Result<std::uint64_t> PinnedPool::capture_of(StreamRef stream) const {
  auto status = cu::StreamCaptureStatus::kNone;
  unsigned long long capture_id = 0;
  SPW_CU_TRY(driver_->cuStreamGetCaptureInfo(
      stream.handle(), &status, &capture_id, nullptr, nullptr, nullptr));
  return status == cu::StreamCaptureStatus::kNone ? std::uint64_t{0} : capture_id;
}

Status PinnedPool::check_stream(StreamRef stream) {
  Atomic<std::uint64_t>& known = known_streams_[stream.id() % kKnownStreams];
  if (known.load(std::memory_order_relaxed) == stream.id() + 1) return {};
  cu::Context context = nullptr;
  SPW_CU_TRY(driver_->cuStreamGetCtx(stream.handle(), &context));
  if (context != context_->handle())
    return {Code::kInvalidArgument,
            "pinned pool: stream " + std::to_string(stream.id()) + " is of another context"};
  known.store(stream.id() + 1, std::memory_order_relaxed);
  return {};
}

// ---- what it tells

PinnedStats PinnedPool::stats() const {
  const LockGuard lock(mutex_);
  PinnedStats stats = stats_;
  stats.cap_bytes = options_.cap_bytes;
  stats.allocated_bytes = blocks_.live_bytes();
  stats.pending_bytes = blocks_.pending_bytes();
  stats.free_bytes = blocks_.free_bytes();
  stats.largest_free_bytes = blocks_.largest_free_bytes();
  stats.registered_bytes = blocks_.slab_bytes();
  stats.reserved_bytes = reserved();
  stats.live_count = blocks_.live_count();
  stats.pending_count = blocks_.pending_count();
  stats.free_count = blocks_.free_count();
  stats.slab_count = blocks_.slabs().size();
  return stats;
}

std::vector<PinnedSlabInfo> PinnedPool::slabs() const {
  const LockGuard lock(mutex_);
  std::vector<PinnedSlabInfo> all;
  for (const auto& [begin, slab] : blocks_.slabs()) {
    const HostMapping& mapping = memory_.at(begin).mapping;
    PinnedSlabInfo& info = all.emplace_back();
    info.data = mapping.data();
    info.bytes = slab.bytes;
    info.huge_pages = mapping.huge_pages();
    info.numa_node = mapping.numa_node();
    for (const Block* block = slab.first; block != nullptr; block = block->right)
      info.pieces.push_back({block->begin - begin, block->bytes, block->state});
  }
  return all;
}

Status PinnedPool::check_invariants() const {
  const PinnedStats s = stats();
  const auto broken = [](const char* what) {
    return Status(Code::kInternal, std::string("pinned pool: ") + what);
  };
  if (s.allocated_bytes + s.pending_bytes + s.free_bytes != s.registered_bytes)
    return broken("allocated + pending + free != registered");
  if (s.registered_bytes + s.registering_bytes + s.releasing_bytes != s.reserved_bytes)
    return broken("registered + registering + releasing != reserved");
  if (s.reserved_bytes_peak > s.cap_bytes || s.reserved_bytes > s.reserved_bytes_peak)
    return broken("reserved <= its peak <= cap does not hold");
  if (s.allocated_bytes > s.allocated_bytes_peak) return broken("allocated above its peak");
  const LockGuard lock(mutex_);
  if (memory_.size() != blocks_.slabs().size()) return broken("slabs without memory");
  for (const auto& [begin, slab] : blocks_.slabs()) {
    const auto found = memory_.find(begin);
    if (found == memory_.end() || found->second.mapping.bytes() != slab.bytes ||
        found->second.registered.empty())
      return broken("a slab whose memory is not registered");
  }
  return blocks_.check_invariants();
}

}  // namespace spillway
