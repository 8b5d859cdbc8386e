// SPDX-License-Identifier: Apache-2.0
#include "device/sim/pools.hpp"

#include "device/sim/engine.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace spillway::sim {
namespace {

constexpr std::uint32_t kFreshByte = 0xff;
constexpr std::uint32_t kFreedByte = 0xde;
// What "used" counts in; the driver documents no unit.
constexpr std::uint64_t kUsedUnitBytes = 512;

std::uint64_t used_of(std::uint64_t bytes) { return round_up(bytes, kUsedUnitBytes); }

/// A larger block is given to a smaller request only when little is wasted.
bool fits(std::uint64_t capacity, std::uint64_t bytes) {
  return bytes <= capacity && capacity / 2 <= std::max(bytes, kPageBytes);
}

cu::Result submit_lifetime(Engine& e,
                           StreamState& stream,
                           std::uint64_t address,
                           std::uint64_t bytes,
                           AccessKind kind,
                           const StreamPoint* after,
                           const char* call) {
  Op op;
  op.kind = OpKind::kPoison;
  op.call = call;
  op.target = {address, Place::kDevice};
  op.bytes = bytes;
  op.value = kind == AccessKind::kAllocate ? kFreshByte : kFreedByte;
  op.lifetime = kind;
  if (after != nullptr) op.wait_for(*after);
  return e.submit(stream, std::move(op));
}

}  // namespace

void Pools::reset(int device_count) {
  handles_.reset();
  pools_.clear();
  blocks_.clear();
  unused_blocks_.clear();
  default_pools_.assign(static_cast<std::size_t>(device_count), kNone);
  live_ = cached_ = 0;
}

// ---- pools
// ---------------------------------------------------------------------------------------

std::uint32_t Pools::create(Engine& e, int device, std::uint64_t bytes_max) {
  const auto index = static_cast<std::uint32_t>(pools_.size());
  Pool& pool = pools_.emplace_back();
  pool.slot = handles_.create(e.reuse_now());
  pool.device = device;
  pool.bytes_max = bytes_max;
  handles_[pool.slot] = index;
  return index;
}

std::uint32_t Pools::default_pool(Engine& e, int device) {
  std::uint32_t& index = default_pools_[static_cast<std::size_t>(device)];
  if (index == kNone) {
    index = create(e, device, 0);
    pools_[index].is_default = true;
  }
  return index;
}

std::uint32_t Pools::find(Engine& e, cu::MemoryPool handle, const char* call) {
  std::uint32_t slot = 0;
  switch (handles_.find(handle, &slot)) {
    case HandleTable<std::uint32_t>::State::kLive:
      return handles_[slot];
    case HandleTable<std::uint32_t>::State::kDestroyed:
      e.misuse(call, std::string("the memory pool was destroyed"));
      return kNone;
    default:
      e.misuse(call, std::string("not a memory pool of this driver"));
      return kNone;
  }
}

cu::MemoryPool Pools::handle_of(std::uint32_t pool) const {
  const std::uint32_t slot = pools_[pool].slot;
  return slot == kNone ? nullptr : static_cast<cu::MemoryPool>(handles_.handle(slot));
}

cu::Result Pools::destroy(Engine& e, cu::MemoryPool handle) {
  const std::uint32_t index = find(e, handle, "cuMemPoolDestroy");
  if (index == kNone) return cu::Result::kInvalidValue;
  Pool& pool = pools_[index];
  if (pool.is_default) {
    e.misuse("cuMemPoolDestroy", std::string("a default pool cannot be destroyed"));
    return cu::Result::kInvalidValue;
  }
  handles_.destroy(pool.slot);
  pool.slot = kNone;
  pool.threshold_bytes = 0;  // what is cached goes as soon as its free is complete
  let_go(e, pool, 0);
  return cu::Result::kSuccess;
}

cu::Result Pools::set(std::uint32_t index, cu::MemPoolAttribute attribute, const void* value) {
  using A = cu::MemPoolAttribute;
  Pool& pool = pools_[index];
  int on = 0;
  std::uint64_t bytes = 0;
  switch (attribute) {
    case A::kReuseFollowEventDependencies:
      std::memcpy(&on, value, sizeof(on));
      pool.follow_events = on != 0;
      return cu::Result::kSuccess;
    case A::kReuseAllowOpportunistic:
      std::memcpy(&on, value, sizeof(on));
      pool.opportunistic = on != 0;
      return cu::Result::kSuccess;
    case A::kReuseAllowInternalDependencies:
      std::memcpy(&on, value, sizeof(on));
      pool.internal_dependencies = on != 0;
      return cu::Result::kSuccess;
    case A::kReleaseThreshold:
      std::memcpy(&pool.threshold_bytes, value, sizeof(pool.threshold_bytes));
      return cu::Result::kSuccess;
    case A::kReservedMemHigh:
    case A::kUsedMemHigh:
      std::memcpy(&bytes, value, sizeof(bytes));
      if (bytes != 0) return cu::Result::kInvalidValue;
      if (attribute == A::kReservedMemHigh)
        pool.reserved_high = pool.reserved_bytes;
      else
        pool.used_high = pool.used_bytes;
      return cu::Result::kSuccess;
    case A::kReservedMemCurrent:
    case A::kUsedMemCurrent:
      return cu::Result::kInvalidValue;
  }
  return cu::Result::kInvalidValue;
}

cu::Result Pools::get(std::uint32_t index, cu::MemPoolAttribute attribute, void* value) const {
  using A = cu::MemPoolAttribute;
  const Pool& pool = pools_[index];
  const auto put = [value](auto answer) {
    std::memcpy(value, &answer, sizeof(answer));
    return cu::Result::kSuccess;
  };
  switch (attribute) {
    case A::kReuseFollowEventDependencies:
      return put(pool.follow_events ? 1 : 0);
    case A::kReuseAllowOpportunistic:
      return put(pool.opportunistic ? 1 : 0);
    case A::kReuseAllowInternalDependencies:
      return put(pool.internal_dependencies ? 1 : 0);
    case A::kReleaseThreshold:
      return put(pool.threshold_bytes);
    case A::kReservedMemCurrent:
      return put(pool.reserved_bytes);
    case A::kReservedMemHigh:
      return put(pool.reserved_high);
    case A::kUsedMemCurrent:
      return put(pool.used_bytes);
    case A::kUsedMemHigh:
      return put(pool.used_high);
  }
  return cu::Result::kInvalidValue;
}

void Pools::trim(Engine& e, std::uint32_t pool, std::uint64_t bytes_to_keep) {
  let_go(e, pools_[pool], bytes_to_keep);
}

std::uint64_t Pools::user_pool_count() const {
  return static_cast<std::uint64_t>(std::count_if(pools_.begin(), pools_.end(), [](const Pool& p) {
    return !p.is_default && p.slot != kNone;
  }));
}

// ---- what goes back to the device
// ----------------------------------------------------------------

void Pools::release(Engine& e, Pool& pool, std::size_t position) {
  const std::uint32_t number = pool.cached[position];
  pool.cached.erase(pool.cached.begin() + static_cast<std::ptrdiff_t>(position));
  Block& block = blocks_[number];
  static_cast<void>(e.memory->free(block.address));
  pool.reserved_bytes -= e.memory->layout().plain_bytes(block.capacity);
  block.state = State::kUnused;
  unused_blocks_.push_back(number);
  --cached_;
}

void Pools::let_go(Engine& e, Pool& pool, std::uint64_t bytes_to_keep) {
  // The oldest first; those whose free is still to come cannot go.
  for (std::size_t i = 0; i < pool.cached.size() && pool.reserved_bytes > bytes_to_keep;) {
    const Block& block = blocks_[pool.cached[i]];
    const std::uint64_t bytes = e.memory->layout().plain_bytes(block.capacity);
    if (e.is_complete(block.freed_at) && pool.reserved_bytes - bytes >= bytes_to_keep)
      release(e, pool, i);
    else
      ++i;
  }
}

void Pools::synchronized(Engine& e) {
  if (cached_ == 0) return;
  for (Pool& pool : pools_) let_go(e, pool, pool.threshold_bytes);
}

bool Pools::empty_pools(Engine& e, int device, const char* call) {
  std::vector<StreamPoint> pending;
  for (const Pool& pool : pools_)
    if (pool.device == device)
      for (const std::uint32_t number : pool.cached) pending.push_back(blocks_[number].freed_at);
  for (const StreamPoint point : pending)
    if (!e.wait_for(point, call)) return false;
  for (Pool& pool : pools_)
    if (pool.device == device) let_go(e, pool, 0);
  return true;
}

// ---- blocks
// --------------------------------------------------------------------------------------

Pools::Order Pools::order_of(Engine& e,
                             const Pool& pool,
                             const Block& block,
                             const StreamState& stream) const {
  if (block.freed_on == stream.index) return Order::kStream;
  // The host has seen the free, and so has everything that it enqueues from now on.
  if (e.clocks.clock(e.self_agent()).covers(block.freed_epoch)) return Order::kStream;
  if (pool.follow_events) {
    if (e.clocks.clock(stream.agent).covers(block.freed_epoch)) return Order::kEvent;
    if (block.freed_on != kNone && e.has(Semantic::kLegacyStreamJoins)) {
      const StreamState& other = *e.streams[block.freed_on];
      if (other.context == stream.context && other.blocking && stream.blocking &&
          (other.legacy || stream.legacy))
        return Order::kEvent;
    }
  }
  if (pool.opportunistic && e.is_complete(block.freed_at)) return Order::kCompleted;
  return pool.internal_dependencies ? Order::kInserted : Order::kForbidden;
}

std::uint32_t Pools::reuse(
    Engine& e, Pool& pool, std::uint64_t bytes, StreamState& stream, Order worst) {
  for (std::size_t i = pool.cached.size(); i-- > 0;) {
    const std::uint32_t number = pool.cached[i];
    const Block& block = blocks_[number];
    if (!fits(block.capacity, bytes) || order_of(e, pool, block, stream) > worst) continue;
    pool.cached.erase(pool.cached.begin() + static_cast<std::ptrdiff_t>(i));
    --cached_;
    return number;
  }
  return kNone;
}

std::uint32_t Pools::make_block(Engine& e,
                                std::uint32_t index,
                                std::uint64_t bytes,
                                cu::Result* result) {
  Pool& pool = pools_[index];
  const std::uint64_t taken = e.memory->layout().plain_bytes(bytes);
  *result = cu::Result::kOutOfMemory;
  if (taken < bytes) return kNone;
  if (pool.bytes_max != 0 &&
      (taken > pool.bytes_max || pool.reserved_bytes > pool.bytes_max - taken))
    return kNone;
  const bool recycled = !unused_blocks_.empty();
  const std::uint32_t number =
      recycled ? unused_blocks_.back() : static_cast<std::uint32_t>(blocks_.size());
  std::uint64_t address = 0;
  const MemoryError error =
      e.memory->allocate(static_cast<std::uint32_t>(pool.device), bytes, number + 1, &address);
  if (error != MemoryError::kOk) return kNone;
  if (recycled)
    unused_blocks_.pop_back();
  else
    blocks_.emplace_back();
  Block& block = blocks_[number];
  block = Block();
  block.pool = index;
  block.address = address;
  block.capacity = bytes;
  pool.reserved_bytes += taken;
  pool.reserved_high = std::max(pool.reserved_high, pool.reserved_bytes);
  *result = cu::Result::kSuccess;
  return number;
}

cu::Result Pools::allocate(Engine& e,
                           std::uint32_t index,
                           std::uint64_t bytes,
                           StreamState& stream,
                           std::uint64_t* address,
                           const char* call) {
  // As early as a pool may: the freed block goes to whoever comes first. In timed runs as the
  // driver describes it: dependencies are inserted only when no more memory can be had.
  const bool at_once = e.has(Semantic::kImmediateReuse);
  const Order early = e.is_timed() ? Order::kCompleted : Order::kInserted;
  std::uint32_t number = kNone;
  cu::Result result = cu::Result::kSuccess;
  if (at_once) number = reuse(e, pools_[index], bytes, stream, early);
  if (number == kNone) number = make_block(e, index, bytes, &result);
  if (number == kNone) number = reuse(e, pools_[index], bytes, stream, Order::kInserted);
  if (number == kNone) {
    if (!empty_pools(e, pools_[index].device, call)) return e.sticky;
    number = make_block(e, index, bytes, &result);
    if (number == kNone) return result;
  }
  Block& block = blocks_[number];
  const bool reused = block.bytes != 0;
  const StreamPoint after = block.freed_at;
  block.state = State::kLive;
  block.bytes = bytes;
  ++live_;
  Pool& pool = pools_[index];
  pool.used_bytes += used_of(bytes);
  pool.used_high = std::max(pool.used_high, pool.used_bytes);
  const std::uint64_t begin = block.address;
  // The free was checked against every use before it, and the driver orders the allocation after
  // the free, so the history ends here. It does not become an edge between the two streams: other
  // memory is not protected by it, and the next run may reuse another block.
  const AddressInfo info = e.memory->find(begin);
  e.clocks.forget({info.flat, info.flat + block.capacity});
  *address = begin;
  result = submit_lifetime(
      e, stream, begin, bytes, AccessKind::kAllocate, reused ? &after : nullptr, call);
  // The stream does not take it (a capture elsewhere forbids): nothing has happened to the block.
  if (result != cu::Result::kSuccess) cache(pools_[index], number);
  return result;
}

void Pools::cache(Pool& pool, std::uint32_t number) {
  Block& block = blocks_[number];
  block.state = State::kCached;
  pool.used_bytes -= used_of(block.bytes);
  pool.cached.push_back(number);
  --live_;
  ++cached_;
}

std::uint32_t Pools::pool_of(const AddressInfo& info) const {
  if (info.kind != MemoryKind::kPlain || info.flags == 0) return kNone;
  return blocks_[info.flags - 1].pool;
}

bool Pools::was_freed(const AddressInfo& info) const {
  if (info.kind != MemoryKind::kPlain || info.flags == 0) return false;
  return blocks_[info.flags - 1].state == State::kCached;
}

AddressInfo Pools::as_seen(AddressInfo info, std::uint64_t address) const {
  if (info.kind != MemoryKind::kPlain || info.flags == 0) return info;
  const Block& block = blocks_[info.flags - 1];
  if (block.state == State::kCached || address - block.address >= block.bytes) return {};
  info.range.bytes = block.bytes;
  return info;
}

Pools::Verdict Pools::check(const AddressInfo& info,
                            std::uint64_t address,
                            std::uint64_t bytes,
                            std::uint64_t* block_bytes) const {
  if (info.kind != MemoryKind::kPlain || info.flags == 0) return Verdict::kOk;
  const Block& block = blocks_[info.flags - 1];
  *block_bytes = block.bytes;
  if (block.state == State::kCached) return Verdict::kFreed;
  const std::uint64_t inside = address - block.address;
  return inside > block.bytes || bytes > block.bytes - inside ? Verdict::kOutOfBounds
                                                              : Verdict::kOk;
}

cu::Result Pools::free(Engine& e, std::uint64_t address, StreamState& stream) {
  const char* const call = "cuMemFreeAsync";
  const AddressInfo info = e.memory->find(address);
  const auto refuse = [&](const char* why) {
    e.misuse(call, std::string(why) + ": " + e.place_text(address));
    return cu::Result::kInvalidValue;
  };
  if (pool_of(info) == kNone) return refuse("not memory of a pool");
  if (was_freed(info)) return refuse("freed before");
  if (info.range.begin != address) return refuse("not the beginning of the allocation");
  const std::uint32_t number = info.flags - 1;
  const std::uint32_t stream_index = stream.index;
  const std::uint64_t bytes = blocks_[number].bytes;
  // The call may block, and the free belongs to the stream before that; who comes meanwhile must
  // find it so.
  Pool& pool = pools_[blocks_[number].pool];
  cache(pool, number);
  blocks_[number].freed_on = stream_index;
  blocks_[number].freed_at = {stream_index, stream.enqueued + 1};
  blocks_[number].freed_epoch = {stream.agent, e.clocks.clock(stream.agent).get(stream.agent) + 1};
  const cu::Result result =
      submit_lifetime(e, stream, address, bytes, AccessKind::kFree, nullptr, call);
  if (result != cu::Result::kSuccess && e.sticky == cu::Result::kSuccess) {
    // Refused before anything was enqueued or anyone else ran: the block is still the program's.
    pool.cached.pop_back();
    pool.used_bytes += used_of(bytes);
    blocks_[number].state = State::kLive;
    ++live_;
    --cached_;
  }
  return result;
}

cu::Result Pools::free_from_host(Engine& e, const AddressInfo& info, std::uint64_t address) {
  const std::uint32_t number = info.flags - 1;
  if (was_freed(info) || info.range.begin != address) {
    e.misuse(
        "cuMemFree",
        std::string(was_freed(info) ? "freed before: " : "not the beginning of the allocation: ") +
            e.place_text(address));
    return cu::Result::kInvalidValue;
  }
  Block& block = blocks_[number];
  e.host_lifetime(address, block.bytes, AccessKind::kFree, "cuMemFree");
  if (e.has(Semantic::kPoison))
    e.memory->fill(address, block.bytes, static_cast<std::byte>(kFreedByte));
  block.freed_on = kNone;
  block.freed_at = StreamPoint{};
  block.freed_epoch = Epoch{};
  cache(pools_[block.pool], number);
  return cu::Result::kSuccess;
}

}  // namespace spillway::sim
