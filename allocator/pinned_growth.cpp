// SPDX-License-Identifier: Apache-2.0
// Slabs come and go: mapped, touched, registered; unregistered outside of steps. A slab's bytes are
// charged against the cap before the driver hears of them and discharged after it has let go.
#include "allocator/parallel_chunks.hpp"
#include "allocator/pinned_effort.hpp"
#include "allocator/pinned_pool.hpp"
#include "core/check.hpp"
#include "core/thread.hpp"
#include "core/units.hpp"
#include "device/driver_error.hpp"

#include <algorithm>
#include <utility>

namespace spillway {
namespace {

using Block = PinnedBlocks::Block;

std::uint64_t round_down(std::uint64_t bytes, std::uint64_t unit) { return bytes / unit * unit; }

/// REQUIRES: bytes + unit does not overflow.
std::uint64_t round_up(std::uint64_t bytes, std::uint64_t unit) {
  return round_down(bytes + unit - 1, unit);
}

Status check_options(const PinnedPoolOptions& options) {
  const auto refuse = [](const char* what) {
    return Status(Code::kInvalidArgument, std::string("pinned pool: ") + what);
  };
  const std::uint64_t quantum = options.quantum_bytes;
  if (quantum < 64 || quantum > host_page_bytes() || (quantum & (quantum - 1)) != 0)
    return refuse("the quantum must be a power of two from 64 to the page size");
  if (options.slab_bytes == 0 || options.slab_bytes > std::uint64_t{1} << 46)
    return refuse("slab_bytes must be from 1 to 64 TiB");
  if (options.cap_bytes > std::uint64_t{1} << 60) return refuse("the cap is above 1 EiB");
  if (options.prefault_chunk_bytes == 0) return refuse("prefault_chunk_bytes is 0");
  if (options.threads > 1024) return refuse("more than 1024 threads");
  return {};
}

}  // namespace

// ---- life

PinnedPool::PinnedPool(const Context& context, const PinnedPoolOptions& options)
    : context_(&context),
      driver_(&context.driver()),
      options_(options),
      calls_(options.page_calls == nullptr ? &system_page_calls() : options.page_calls),
      page_bytes_(options.huge_pages == HugePages::kOff ? host_page_bytes() : kHugePageBytes),
      events_(context.driver()),
      mutex_("pinned pool") {}

Result<std::unique_ptr<PinnedPool>> PinnedPool::create(const Context& context,
                                                       const PinnedPoolOptions& options) {
  SPW_RETURN_IF_ERROR(check_options(options));
  std::unique_ptr<PinnedPool> pool(new PinnedPool(context, options));
  if (options.threads != 0) {
    TaskQueueOptions threads;
    threads.name = "pinned pool";
    threads.threads = options.threads;
    SPW_ASSIGN_OR_RETURN(pool->queue_, TaskQueue::start(threads));
  }
  return pool;
}

PinnedPool::~PinnedPool() {
  {
    const LockGuard lock(mutex_);
    closing_ = true;
  }
  queue_.reset();
  const Result<ScopedContext> entered = ScopedContext::enter(*context_);
  std::vector<PinnedBlocks::Fence*> held;
  std::vector<SlabMemory> slabs;
  {
    const LockGuard lock(mutex_);
    SPW_CHECK_EQ(blocks_.live_count(), std::size_t{0});
    blocks_.hold_pending_fences(true, ~std::size_t{0}, &held);
    for (auto& [begin, memory] : memory_) slabs.push_back(std::move(memory));
    memory_.clear();
  }
  // A copy that still runs would lose its memory. Of a context that is lost, nothing runs any more.
  for (const PinnedBlocks::Fence* fence : held)
    static_cast<void>(fence->recorded.synchronize().ok());
  const Result<RelaxedCapture> relaxed = RelaxedCapture::enter(*driver_);
  for (SlabMemory& slab : slabs) {
    const cu::Result ended = driver_->cuMemHostUnregister(slab.registered.release());
    // What the driver keeps pinned must stay mapped.
    if (ended != cu::Result::kSuccess && !is_gone(ended) && !cu::is_sticky(ended))
      slab.mapping.leak();
  }
}

// ---- growth

std::uint64_t PinnedPool::reserved() const {
  return blocks_.slab_bytes() + stats_.registering_bytes + stats_.releasing_bytes;
}

std::uint64_t PinnedPool::slab_size(std::uint64_t bytes) const {
  if (bytes > options_.cap_bytes) return 0;
  const std::uint64_t allowed = options_.cap_bytes - reserved();
  const std::uint64_t wanted = round_up(std::max(bytes, options_.slab_bytes), page_bytes_);
  if (wanted <= allowed) return wanted;
  // The rest of the cap, in the largest pages that fit.
  for (const std::uint64_t page : {page_bytes_, std::uint64_t{host_page_bytes()}}) {
    const std::uint64_t least = round_up(bytes, page);
    if (least > allowed) continue;
    return bytes > options_.slab_bytes ? least : round_down(allowed, page);
  }
  return 0;
}

std::uint64_t PinnedPool::begin_growth(std::uint64_t slab_bytes, std::uint64_t spare_bytes) {
  stats_.registering_bytes += slab_bytes;
  stats_.reserved_bytes_peak = std::max(stats_.reserved_bytes_peak, reserved());
  growing_.emplace(++growth_number_, spare_bytes);
  return growth_number_;
}

Block* PinnedPool::end_growth(std::uint64_t number,
                              std::uint64_t slab_bytes,
                              Result<SlabMemory> made) {
  stats_.registering_bytes -= slab_bytes;
  growing_.erase(number);
  changed_.notify_all();
  if (!made.ok()) {
    refused_bytes_ = std::min(refused_bytes_, slab_bytes);
    return nullptr;
  }
  ++stats_.slabs_registered;
  if (step_depth_ != 0) ++stats_.registrations_in_step;
  return add_slab(std::move(made).value());
}

Block* PinnedPool::add_slab(SlabMemory memory) {
  const auto begin = reinterpret_cast<std::uintptr_t>(memory.mapping.data());
  const std::uint64_t bytes = memory.mapping.bytes();
  memory_.emplace(begin, std::move(memory));
  return blocks_.add_slab(begin, bytes);
}

Result<PinnedPool::Attempt> PinnedPool::grow(const Request& request, Effort* effort) {
  const std::int64_t begin_ns = host_now_ns();
  std::uint64_t bytes = 0;
  std::uint64_t number = 0;
  {
    UniqueLock lock(mutex_);
    for (auto& [under_way, spare_bytes] : growing_) {
      if (spare_bytes < request.bytes) continue;
      spare_bytes -= request.bytes;  // so that not everybody waits for the same bytes
      const std::uint64_t awaited = under_way;
      changed_.wait(lock, [&]() SPW_NO_THREAD_SAFETY { return growing_.count(awaited) == 0; });
      effort->add_wait(host_now_ns() - begin_ns);
      Attempt attempt;
      attempt.again = true;
      return attempt;
    }
    bytes = slab_size(request.bytes);
    if (bytes == 0 && releasing_count_ != 0) {
      // Bytes on their way out are still charged: a moment later there is room.
      const std::uint64_t serial = release_serial_;
      changed_.wait(lock, [&]() SPW_NO_THREAD_SAFETY { return release_serial_ != serial; });
      effort->add_wait(host_now_ns() - begin_ns);
      Attempt attempt;
      attempt.again = true;
      return attempt;
    }
    if (bytes == 0) return Attempt{};
    if (step_depth_ != 0 && bytes >= refused_bytes_) {
      if (effort->growth.ok())
        effort->growth = Status(
            Code::kOutOfMemory,
            "registering " + format_bytes(bytes) + ": not tried again, it has failed in this step");
      return Attempt{};
    }
    number = begin_growth(bytes, bytes - request.bytes);
  }
  Result<SlabMemory> made = make_slab(bytes);
  const Status status = made.status();
  const LockGuard lock(mutex_);
  effort->add_wait(host_now_ns() - begin_ns);
  Block* block = end_growth(number, bytes, std::move(made));
  if (block != nullptr) {
    block = blocks_.take(block, request.bytes, request.stream_id, request.capture_id);
    return Attempt{hand_out(block, *effort), false};
  }
  effort->growth = status;
  // No memory: there are other ways. A driver that is gone: there are none.
  if (status.code() != Code::kOutOfMemory) return status;
  return Attempt{};
}

Result<PinnedPool::SlabMemory> PinnedPool::make_slab(std::uint64_t bytes) {
  HostMappingOptions wishes{options_.huge_pages, options_.numa_node};
  SPW_ASSIGN_OR_RETURN(HostMapping mapping, HostMapping::create(*calls_, bytes, wishes));
  Status touched = populate(mapping);
  if (!touched.ok() && mapping.huge_pages() == HugePages::kExplicit) {
    // The machine's huge pages may be on another node than the wished one.
    mapping = HostMapping();
    wishes.huge_pages = HugePages::kTransparent;
    SPW_ASSIGN_OR_RETURN(mapping, HostMapping::create(*calls_, bytes, wishes));
    touched = populate(mapping);
  }
  const auto with_limits = [&](const Status& status) {
    return Status(status.code(),
                  "registering " + format_bytes(bytes) + ": " + status.message() +
                      " (limits: " + describe(find_host_limits(options_.limit_sources)) + ")");
  };
  if (!touched.ok()) return with_limits(touched);
  SPW_ASSIGN_OR_RETURN(const RelaxedCapture relaxed, RelaxedCapture::enter(*driver_));
  Result<PinnedBuffer> registered =
      PinnedBuffer::pin(*driver_, mapping.data(), mapping.bytes(), options_.register_flags);
  if (!registered.ok()) return with_limits(registered.status());
  return SlabMemory{std::move(mapping), std::move(registered).value()};
}

Status PinnedPool::populate(const HostMapping& mapping) {
  if (!options_.prefault) return {};
  const std::uint64_t chunk =
      round_up(std::min<std::uint64_t>(options_.prefault_chunk_bytes, mapping.bytes()),
               mapping.huge_pages() == HugePages::kOff ? host_page_bytes() : kHugePageBytes);
  const std::size_t count = (mapping.bytes() + chunk - 1) / chunk;
  return parallel_chunks(queue_.get(), options_.threads, count, [&](std::size_t index) {
    const std::uint64_t offset = index * chunk;
    return mapping.populate(offset, std::min<std::uint64_t>(chunk, mapping.bytes() - offset));
  });
}

// ---- ahead of need

Result<std::uint64_t> PinnedPool::reserve_ahead(std::uint64_t bytes,
                                                std::uint64_t largest_block_bytes) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> begun;  // number, bytes
  std::uint64_t ready = 0;
  {
    const LockGuard lock(mutex_);
    ready = largest_block_bytes <= blocks_.largest_free_bytes() ? blocks_.free_bytes() : 0;
    for (const auto& [number, spare_bytes] : growing_) ready += spare_bytes;
    while (ready < bytes) {
      const std::uint64_t size = slab_size(std::max<std::uint64_t>(largest_block_bytes, 1));
      if (size == 0) break;
      begun.emplace_back(begin_growth(size, size), size);
      ++ahead_count_;
      ready += size;
    }
  }
  for (const auto& slab : begun) {
    Task task([this, slab] { register_ahead(slab.first, slab.second); });
    // Without threads, or when the queue refuses, it is done here.
    if (queue_ == nullptr || !queue_->try_post(task)) register_ahead(slab.first, slab.second);
  }
  return std::min(ready, bytes);
}

void PinnedPool::register_ahead(std::uint64_t number, std::uint64_t bytes) {
  bool closing = false;
  {
    const LockGuard lock(mutex_);
    closing = closing_;
  }
  Result<SlabMemory> made = Status(Code::kInternal, "the pool is being destroyed");
  if (!closing) {
    const Result<ScopedContext> entered = ScopedContext::enter(*context_);
    made = entered.ok() ? make_slab(bytes) : Result<SlabMemory>(entered.status());
  }
  const LockGuard lock(mutex_);
  if (!made.ok() && ahead_failure_.ok()) ahead_failure_ = made.status();
  end_growth(number, bytes, std::move(made));
  --ahead_count_;
}

Status PinnedPool::finish_ahead() {
  UniqueLock lock(mutex_);
  changed_.wait(lock, [&]() SPW_NO_THREAD_SAFETY { return ahead_count_ == 0; });
  return std::exchange(ahead_failure_, Status());
}

// ---- steps and the way back

void PinnedPool::begin_step() {
  UniqueLock lock(mutex_);
  if (step_depth_++ == 0) refused_bytes_ = kNothingRefused;  // from here on no release begins
  changed_.wait(lock, [&]() SPW_NO_THREAD_SAFETY { return releasing_count_ == 0; });
}

Status PinnedPool::end_step() {
  const LockGuard lock(mutex_);
  if (step_depth_ == 0)
    return {Code::kInvalidArgument, "pinned pool: a step ends that did not begin"};
  --step_depth_;
  return {};
}

std::vector<PinnedPool::SlabMemory> PinnedPool::take_idle(std::uint64_t bytes) {
  std::vector<SlabMemory> taken;
  std::uint64_t taken_bytes = 0;
  auto& slabs = blocks_.slabs();
  for (auto it = slabs.begin(); it != slabs.end() && taken_bytes < bytes;) {
    PinnedBlocks::Slab* slab = &it->second;
    ++it;
    if (!slab->idle()) continue;
    auto node = memory_.extract(slab->begin);
    taken_bytes += slab->bytes;
    blocks_.remove_slab(slab);
    taken.push_back(std::move(node.mapped()));
  }
  stats_.releasing_bytes += taken_bytes;
  if (!taken.empty()) ++releasing_count_;
  return taken;
}

Result<std::uint64_t> PinnedPool::release(std::vector<SlabMemory> slabs) {
  if (slabs.empty()) return std::uint64_t{0};
  std::uint64_t released_bytes = 0;
  std::uint64_t released_count = 0;
  std::vector<SlabMemory> kept;
  Status status;
  {
    const Result<RelaxedCapture> relaxed = RelaxedCapture::enter(*driver_);
    for (SlabMemory& slab : slabs) {
      void* const data = slab.registered.release();
      const cu::Result ended = driver_->cuMemHostUnregister(data);
      if (ended == cu::Result::kSuccess || is_gone(ended)) {
        released_bytes += slab.mapping.bytes();
        ++released_count;
        slab.mapping = HostMapping();
        continue;
      }
      if (status.ok())
        status = driver_status(ended, "cuMemHostUnregister(pointer)", __FILE__, __LINE__);
      slab.registered = PinnedBuffer::adopt_registered(*driver_, data, slab.mapping.bytes());
      kept.push_back(std::move(slab));
    }
  }
  const LockGuard lock(mutex_);
  stats_.releasing_bytes -= released_bytes;
  stats_.slabs_released += released_count;
  for (SlabMemory& slab : kept) {
    stats_.releasing_bytes -= slab.mapping.bytes();
    add_slab(std::move(slab));
  }
  --releasing_count_;
  ++release_serial_;
  changed_.notify_all();
  if (!status.ok()) return status;
  return released_bytes;
}

Result<std::uint64_t> PinnedPool::trim(std::uint64_t keep_bytes) {
  SPW_ASSIGN_OR_RETURN(const bool reclaimed, reclaim());
  static_cast<void>(reclaimed);
  std::vector<SlabMemory> idle;
  {
    const LockGuard lock(mutex_);
    if (step_depth_ != 0)
      return Status(Code::kInvalidArgument, "pinned pool: nothing is unregistered inside a step");
    if (reserved() > keep_bytes) idle = take_idle(reserved() - keep_bytes);
  }
  return release(std::move(idle));
}

// As much as the request lacks, and only if that is enough.
Result<bool> PinnedPool::make_room(const Request& request, Effort* effort) {
  std::vector<SlabMemory> idle;
  {
    const LockGuard lock(mutex_);
    effort->in_step = step_depth_ != 0;
    if (effort->in_step || request.bytes > options_.cap_bytes) return false;
    const std::uint64_t slab_bytes = round_up(request.bytes, host_page_bytes());
    const std::uint64_t allowed = options_.cap_bytes - reserved();
    std::uint64_t idle_bytes = 0;
    for (const auto& [begin, slab] : blocks_.slabs())
      if (slab.idle()) idle_bytes += slab.bytes;
    if (idle_bytes == 0 || slab_bytes > options_.cap_bytes) return false;
    if (slab_bytes > allowed && slab_bytes - allowed > idle_bytes) return false;
    // When the machine refused rather than the cap, all that is idle goes back to it.
    idle = take_idle(slab_bytes > allowed ? slab_bytes - allowed : idle_bytes);
  }
  SPW_ASSIGN_OR_RETURN(const std::uint64_t released, release(std::move(idle)));
  return released != 0;
}

}  // namespace spillway
