// SPDX-License-Identifier: Apache-2.0
// Stream-ordered allocation: when memory may be used and used again, what a pool keeps, what it
// tells. Source: CUDA driver API, stream ordered memory allocator, and the programming guide's
// chapter of that name.
#include "tests/device/conformance/cases.hpp"

namespace spillway::conformance {
namespace {

constexpr std::size_t kN = 1024;
constexpr std::size_t kBytes = kN * 4;
constexpr std::size_t kMiB = std::size_t{1} << 20;

/// A pool of device memory of our own; destroyed at the end.
class Pool {
 public:
  explicit Pool(ConformanceEnv& env) : env_(env) {
    cu::MemPoolProps props;
    props.alloc_type = cu::AllocationType::kPinned;
    props.location.type = cu::LocationType::kDevice;
    props.location.id = env.device;
    SPW_MUST(env.d.cuMemPoolCreate(&pool_, &props));
  }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  Pool(Pool&&) = delete;
  Pool& operator=(Pool&&) = delete;
  ~Pool() {
    if (pool_ != nullptr) SPW_OK(env_.d.cuMemPoolDestroy(pool_));
  }

  [[nodiscard]] cu::MemoryPool get() const { return pool_; }
  void destroy() {
    SPW_OK(env_.d.cuMemPoolDestroy(pool_));
    pool_ = nullptr;
  }
  [[nodiscard]] std::uint64_t amount(cu::MemPoolAttribute which) const {
    std::uint64_t value = ~std::uint64_t{0};
    SPW_OK(env_.d.cuMemPoolGetAttribute(pool_, which, &value));
    return value;
  }
  void set(cu::MemPoolAttribute which, std::uint64_t value) {
    SPW_OK(env_.d.cuMemPoolSetAttribute(pool_, which, &value));
  }

 private:
  ConformanceEnv& env_;
  cu::MemoryPool pool_ = nullptr;
};

SPW_CONFORMANCE(
    "pools",
    default_pool,
    "the device's own pool starts with every kind of reuse allowed, and keeps nothing") {
  if (!env.has_pools()) return;
  cu::MemoryPool pool = nullptr;
  SPW_MUST(env.d.cuDeviceGetDefaultMemPool(&pool, env.device));
  CHECK(pool != nullptr);
  for (const auto which : {cu::MemPoolAttribute::kReuseFollowEventDependencies,
                           cu::MemPoolAttribute::kReuseAllowOpportunistic,
                           cu::MemPoolAttribute::kReuseAllowInternalDependencies}) {
    int enabled = -1;
    SPW_OK(env.d.cuMemPoolGetAttribute(pool, which, &enabled));
    CHECK(enabled == 1);
  }
  std::uint64_t threshold = 1;
  SPW_OK(env.d.cuMemPoolGetAttribute(pool, cu::MemPoolAttribute::kReleaseThreshold, &threshold));
  CHECK(threshold == 0);
}

SPW_CONFORMANCE("pools",
                use_between_alloc_and_free,
                "memory is usable in its stream from the allocation to the free") {
  if (!env.has_pools()) return;
  const Memory out = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  cu::DevicePtr p = 0;
  SPW_MUST(env.d.cuMemAllocAsync(&p, kBytes, s.handle()));
  CHECK(p % 256 == 0);
  SPW_OK(env.launch_fill(s.handle(), p, 1, kN));
  SPW_OK(env.launch_copy(s.handle(), out, p, kN));
  SPW_OK(env.d.cuMemFreeAsync(p, s.handle()));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  env.check_words(out, kN, 1);
}

SPW_CONFORMANCE("pools",
                other_stream_by_event,
                "another stream uses and frees the memory after an event of the allocation") {
  if (!env.has_pools()) return;
  const Memory out = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  const Stream t = env.non_blocking_stream();
  const Event e = env.event();
  cu::DevicePtr p = 0;
  SPW_OK(env.launch_spin(s.handle()));
  SPW_MUST(env.d.cuMemAllocAsync(&p, kBytes, s.handle()));
  SPW_OK(env.launch_fill(s.handle(), p, 2, kN));
  SPW_OK(env.d.cuEventRecord(e.handle(), s.handle()));
  SPW_OK(env.d.cuStreamWaitEvent(t.handle(), e.handle(), 0));
  SPW_OK(env.launch_copy(t.handle(), out, p, kN));
  SPW_OK(env.d.cuMemFreeAsync(p, t.handle()));
  SPW_OK(env.d.cuStreamSynchronize(t.handle()));
  env.check_words(out, kN, 2);
}

SPW_CONFORMANCE("pools",
                same_stream_reuse,
                "memory freed in a stream serves the stream's next allocation without more") {
  if (!env.has_pools()) return;
  Pool pool(env);
  const Stream s = env.non_blocking_stream();
  constexpr int kRounds = 64;
  for (int i = 0; i < kRounds; ++i) {
    cu::DevicePtr p = 0;
    SPW_MUST(env.d.cuMemAllocFromPoolAsync(&p, kMiB, pool.get(), s.handle()));
    SPW_OK(env.launch_fill(s.handle(), p, 3, kN));
    SPW_OK(env.d.cuMemFreeAsync(p, s.handle()));
  }
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  // A pool takes memory in chunks of its own choice; one of them is enough here.
  CHECK(pool.amount(cu::MemPoolAttribute::kReservedMemHigh) < kRounds * kMiB);
  CHECK(pool.amount(cu::MemPoolAttribute::kUsedMemHigh) < kRounds * kMiB);
}

SPW_CONFORMANCE("pools",
                reuse_follows_event,
                "memory freed in a stream is safe in another that waits for an event after it") {
  if (!env.has_pools()) return;
  const Memory first = env.filled(kN, 0);
  const Memory second = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  const Stream t = env.non_blocking_stream();
  const Event e = env.event();
  cu::DevicePtr p = 0;
  cu::DevicePtr q = 0;
  SPW_MUST(env.d.cuMemAllocAsync(&p, kBytes, s.handle()));
  SPW_OK(env.launch_spin(s.handle()));
  SPW_OK(env.launch_fill(s.handle(), p, 4, kN));
  SPW_OK(env.launch_copy(s.handle(), first, p, kN));
  SPW_OK(env.d.cuMemFreeAsync(p, s.handle()));
  SPW_OK(env.d.cuEventRecord(e.handle(), s.handle()));
  SPW_OK(env.d.cuStreamWaitEvent(t.handle(), e.handle(), 0));
  SPW_MUST(env.d.cuMemAllocAsync(&q, kBytes, t.handle()));
  SPW_OK(env.launch_fill(t.handle(), q, 5, kN));
  SPW_OK(env.launch_copy(t.handle(), second, q, kN));
  SPW_OK(env.d.cuMemFreeAsync(q, t.handle()));
  SPW_OK(env.d.cuStreamSynchronize(t.handle()));
  env.check_words(first, kN, 4);
  env.check_words(second, kN, 5);
}

SPW_CONFORMANCE("pools",
                reuse_without_event_is_safe,
                "an allocation in another stream never meets work on memory freed before it") {
  // The pool either takes other memory or makes the second stream wait.
  if (!env.has_pools()) return;
  const Memory first = env.filled(kN, 0);
  const Memory second = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  const Stream t = env.non_blocking_stream();
  cu::DevicePtr p = 0;
  cu::DevicePtr q = 0;
  SPW_MUST(env.d.cuMemAllocAsync(&p, kBytes, s.handle()));
  SPW_OK(env.launch_fill(s.handle(), p, 6, kN));
  SPW_OK(env.launch_spin(s.handle()));
  SPW_OK(env.launch_copy(s.handle(), first, p, kN));
  SPW_OK(env.d.cuMemFreeAsync(p, s.handle()));
  SPW_MUST(env.d.cuMemAllocAsync(&q, kBytes, t.handle()));
  SPW_OK(env.launch_fill(t.handle(), q, 7, kN));
  SPW_OK(env.launch_copy(t.handle(), second, q, kN));
  SPW_OK(env.d.cuMemFreeAsync(q, t.handle()));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  SPW_OK(env.d.cuStreamSynchronize(t.handle()));
  env.check_words(first, kN, 6);
  env.check_words(second, kN, 7);
}

SPW_CONFORMANCE("pools",
                plain_free,
                "cuMemFree takes stream-ordered memory once its work is done") {
  if (!env.has_pools()) return;
  const Stream s = env.non_blocking_stream();
  cu::DevicePtr p = 0;
  SPW_MUST(env.d.cuMemAllocAsync(&p, kBytes, s.handle()));
  SPW_OK(env.launch_fill(s.handle(), p, 8, kN));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  SPW_OK(env.d.cuMemFree(p));
  SPW_EXPECT(kInvalidValue, env.d.cuMemFree(p));
}

SPW_CONFORMANCE("pools",
                free_async_of_plain_memory,
                "cuMemFreeAsync of plain memory frees it or says no, and breaks nothing") {
  // The programming guide allows it; allocators have seen "invalid value".
  if (!env.has_pools()) return;
  const Stream s = env.non_blocking_stream();
  Memory a = env.memory(kBytes);
  const Result freed = env.d.cuMemFreeAsync(a, s.handle());
  SPW_EXPECT_ONE_OF(freed, {Result::kSuccess, Result::kInvalidValue});
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  if (freed == Result::kSuccess) (void)a.release();
  const Memory b = env.filled(kN, 9);
  env.check_words(b, kN, 9);
}

SPW_CONFORMANCE("pools",
                bad_frees,
                "freeing twice, an interior or a made-up pointer in a stream is refused") {
  if (!env.has_pools()) return;
  const Stream s = env.non_blocking_stream();
  cu::DevicePtr p = 0;
  SPW_MUST(env.d.cuMemAllocAsync(&p, kBytes, s.handle()));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  SPW_EXPECT(kInvalidValue, env.d.cuMemFreeAsync(p + 256, s.handle()));
  SPW_EXPECT(kInvalidValue, env.d.cuMemFreeAsync(0x10, s.handle()));
  SPW_OK(env.d.cuMemFreeAsync(p, s.handle()));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  SPW_EXPECT(kInvalidValue, env.d.cuMemFreeAsync(p, s.handle()));
}

SPW_CONFORMANCE("pools",
                bad_allocations,
                "nothing is allocated to nowhere, and zero bytes harm nothing") {
  if (!env.has_pools()) return;
  const Stream s = env.non_blocking_stream();
  cu::DevicePtr p = 0;
  SPW_EXPECT(kInvalidValue, env.d.cuMemAllocAsync(nullptr, kBytes, s.handle()));
  // Zero bytes: the runtime's calls succeed with null; what the driver says is not documented.
  const Result zero = env.d.cuMemAllocAsync(&p, 0, s.handle());
  SPW_EXPECT_ONE_OF(zero, {Result::kSuccess, Result::kInvalidValue});
  if (zero == Result::kSuccess && p != 0) SPW_OK(env.d.cuMemFreeAsync(p, s.handle()));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
}

SPW_CONFORMANCE("pools",
                out_of_memory,
                "more than the device has is out of memory, and the stream goes on") {
  if (!env.has_pools()) return;
  const Memory a = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  std::size_t total = 0;
  SPW_OK(env.d.cuDeviceTotalMem(&total, env.device));
  cu::DevicePtr p = 0;
  SPW_EXPECT(kOutOfMemory, env.d.cuMemAllocAsync(&p, total + (std::size_t{1} << 30), s.handle()));
  SPW_OK(env.launch_fill(s.handle(), a, 10, kN));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  env.check_words(a, kN, 10);
}

SPW_CONFORMANCE("pools",
                accounting,
                "a pool counts what is used and what it holds, now and at most") {
  if (!env.has_pools()) return;
  Pool pool(env);
  const Stream s = env.non_blocking_stream();
  CHECK(pool.amount(cu::MemPoolAttribute::kUsedMemCurrent) == 0);
  cu::DevicePtr p = 0;
  SPW_MUST(env.d.cuMemAllocFromPoolAsync(&p, 4 * kMiB, pool.get(), s.handle()));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  const std::uint64_t used = pool.amount(cu::MemPoolAttribute::kUsedMemCurrent);
  CHECK(used >= 4 * kMiB);
  CHECK(pool.amount(cu::MemPoolAttribute::kReservedMemCurrent) >= used);
  SPW_OK(env.d.cuMemFreeAsync(p, s.handle()));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  CHECK(pool.amount(cu::MemPoolAttribute::kUsedMemCurrent) == 0);
  CHECK(pool.amount(cu::MemPoolAttribute::kUsedMemHigh) >= 4 * kMiB);
  pool.set(cu::MemPoolAttribute::kUsedMemHigh, 0);
  CHECK(pool.amount(cu::MemPoolAttribute::kUsedMemHigh) == 0);
  std::uint64_t one = 1;
  SPW_EXPECT(kInvalidValue,
             env.d.cuMemPoolSetAttribute(pool.get(), cu::MemPoolAttribute::kUsedMemHigh, &one));
}

SPW_CONFORMANCE("pools",
                threshold_keeps_memory,
                "below its release threshold a pool keeps memory over a synchronisation") {
  if (!env.has_pools()) return;
  Pool pool(env);
  const Stream s = env.non_blocking_stream();
  pool.set(cu::MemPoolAttribute::kReleaseThreshold, ~std::uint64_t{0});
  cu::DevicePtr p = 0;
  SPW_MUST(env.d.cuMemAllocFromPoolAsync(&p, 4 * kMiB, pool.get(), s.handle()));
  SPW_OK(env.d.cuMemFreeAsync(p, s.handle()));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  SPW_OK(env.d.cuCtxSynchronize());
  CHECK(pool.amount(cu::MemPoolAttribute::kReservedMemCurrent) >= 4 * kMiB);
}

SPW_CONFORMANCE("pools",
                trim,
                "trimming gives back what nobody uses, and keeps what was asked to be kept") {
  if (!env.has_pools()) return;
  Pool pool(env);
  const Stream s = env.non_blocking_stream();
  pool.set(cu::MemPoolAttribute::kReleaseThreshold, ~std::uint64_t{0});
  cu::DevicePtr p = 0;
  cu::DevicePtr q = 0;
  SPW_MUST(env.d.cuMemAllocFromPoolAsync(&p, 4 * kMiB, pool.get(), s.handle()));
  SPW_MUST(env.d.cuMemAllocFromPoolAsync(&q, 4 * kMiB, pool.get(), s.handle()));
  SPW_OK(env.launch_fill(s.handle(), q, 11, kN));
  SPW_OK(env.d.cuMemFreeAsync(p, s.handle()));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  SPW_OK(env.d.cuMemPoolTrimTo(pool.get(), 0));
  CHECK(pool.amount(cu::MemPoolAttribute::kReservedMemCurrent) >= 4 * kMiB);
  env.check_words(q, kN, 11);
  SPW_OK(env.d.cuMemFreeAsync(q, s.handle()));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  SPW_OK(env.d.cuMemPoolTrimTo(pool.get(), 2 * kMiB));
  CHECK(pool.amount(cu::MemPoolAttribute::kReservedMemCurrent) >= 2 * kMiB);
  SPW_OK(env.d.cuMemPoolTrimTo(pool.get(), 0));
  CHECK(pool.amount(cu::MemPoolAttribute::kReservedMemCurrent) == 0);
}

SPW_CONFORMANCE("pools",
                destroyed_with_memory_out,
                "a pool destroyed while memory of it is out lives until that is freed") {
  if (!env.has_pools()) return;
  Pool pool(env);
  const Stream s = env.non_blocking_stream();
  cu::DevicePtr p = 0;
  SPW_MUST(env.d.cuMemAllocFromPoolAsync(&p, kBytes, pool.get(), s.handle()));
  pool.destroy();
  SPW_OK(env.launch_fill(s.handle(), p, 12, kN));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  env.check_words(p, kN, 12);
  SPW_OK(env.d.cuMemFreeAsync(p, s.handle()));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
}

SPW_CONFORMANCE("pools",
                pool_of_a_pointer,
                "stream-ordered memory tells which pool it is from and is device memory") {
  if (!env.has_pools()) return;
  Pool pool(env);
  const Stream s = env.non_blocking_stream();
  cu::DevicePtr p = 0;
  SPW_MUST(env.d.cuMemAllocFromPoolAsync(&p, kBytes, pool.get(), s.handle()));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  cu::MemoryPool from = nullptr;
  SPW_OK(env.d.cuPointerGetAttribute(&from, cu::PointerAttribute::kMempoolHandle, p));
  CHECK(from == pool.get());
  auto type = cu::MemoryType{};
  SPW_OK(env.d.cuPointerGetAttribute(&type, cu::PointerAttribute::kMemoryType, p));
  CHECK(type == cu::MemoryType::kDevice);
  SPW_OK(env.d.cuMemFreeAsync(p, s.handle()));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
}

SPW_CONFORMANCE("pools",
                bad_pools,
                "a pool without a kind or a place is refused, the default one stays") {
  if (!env.has_pools()) return;
  cu::MemoryPool pool = nullptr;
  const cu::MemPoolProps empty;
  SPW_EXPECT_FAILURE(env.d.cuMemPoolCreate(&pool, &empty));
  SPW_EXPECT(kInvalidValue, env.d.cuMemPoolCreate(&pool, nullptr));
  SPW_MUST(env.d.cuDeviceGetDefaultMemPool(&pool, env.device));
  SPW_EXPECT_FAILURE(env.d.cuMemPoolDestroy(pool));
  const Stream s = env.non_blocking_stream();
  cu::DevicePtr p = 0;
  SPW_MUST(env.d.cuMemAllocAsync(&p, kBytes, s.handle()));
  SPW_OK(env.d.cuMemFreeAsync(p, s.handle()));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
}

SPW_CONFORMANCE("pools",
                default_stream,
                "memory is allocated and freed in the default stream too") {
  if (!env.has_pools()) return;
  cu::DevicePtr p = 0;
  SPW_MUST(env.d.cuMemAllocAsync(&p, kBytes, nullptr));
  SPW_OK(env.launch_fill(nullptr, p, 13, kN));
  env.check_words(p, kN, 13);
  SPW_OK(env.d.cuMemFreeAsync(p, nullptr));
  SPW_OK(env.d.cuStreamSynchronize(nullptr));
}

}  // namespace
}  // namespace spillway::conformance
