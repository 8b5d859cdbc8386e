// SPDX-License-Identifier: Apache-2.0
// The owning handles against a table that counts: each object is ended exactly once, by the right
// call, on whatever way it goes; a moved-from owner is empty; nobody synchronises unasked.
#include "core/check.hpp"
#include "device/context.hpp"
#include "device/cuda/nvtx_observer.hpp"
#include "device/event.hpp"
#include "device/event_pool.hpp"
#include "device/kernel.hpp"
#include "device/mapping.hpp"
#include "device/pinned_buffer.hpp"
#include "device/stream.hpp"
#include "tests/device/counting_driver.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

using namespace spillway;
using spillway::test::CountingDriver;
using Journal = std::vector<std::string>;

static_assert(!std::is_copy_constructible_v<Stream> && std::is_nothrow_move_assignable_v<Stream>);
static_assert(!std::is_copy_constructible_v<Event> && std::is_nothrow_move_assignable_v<Event>);
static_assert(!std::is_copy_constructible_v<Mapping> && std::is_move_assignable_v<Mapping>);
static_assert(!std::is_copy_constructible_v<PinnedBuffer>);
static_assert(!std::is_copy_constructible_v<RecordedEvent>);
static_assert(!std::is_constructible_v<StreamRef, int, std::uint64_t>);
static_assert(!std::is_constructible_v<StreamRef, std::nullptr_t, std::uint64_t>);
static_assert(!std::is_default_constructible_v<StreamRef>);

namespace {

[[noreturn]] void throw_check(const char*, int, const std::string& text) {
  throw std::runtime_error(text);
}

// Handles that nobody dereferences.
template <typename Handle>
Handle some(std::uintptr_t number) {
  return reinterpret_cast<Handle>(number);  // NOLINT(performance-no-int-to-ptr)
}
cu::Stream some_stream(std::uintptr_t number) { return some<cu::Stream>(number); }

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("a stream is destroyed once, whatever hands it went through") {
    CountingDriver counting;
    {
      Stream first = Stream::create(counting.table).value();
      const std::uint64_t id = first.id();
      Stream second = std::move(first);
      CHECK(first.empty());  // NOLINT(bugprone-use-after-move): that is the contract
      CHECK(second.id() == id);
      Stream third = Stream::create(counting.table).value();
      third = std::move(second);
      CHECK(third.id() == id);
      CHECK(counting.live_count() == 1);
    }
    CHECK(counting.live_count() == 0);
    CHECK(counting.take_journal() == Journal{"cuStreamCreateWithPriority",
                                             "cuStreamGetId",
                                             "cuStreamCreateWithPriority",
                                             "cuStreamGetId",
                                             "cuStreamDestroy",
                                             "cuStreamDestroy"});
  }

  TEST_CASE("streams are compared by id, because handles are given again") {
    const StreamRef old(some_stream(0x10), 7);
    const StreamRef recycled(some_stream(0x10), 9);
    const StreamRef same(some_stream(0x20), 7);
    CHECK(old != recycled);
    CHECK(old == same);
    CHECK(old < recycled);
  }

  TEST_CASE("an adopted stream is ours, a released one is not, and default streams have no owner") {
    CountingDriver counting;
    cu::Stream handle = nullptr;
    {
      Stream stream = Stream::create(counting.table).value();
      handle = stream.release();
      CHECK(stream.empty());
    }
    CHECK(counting.live_count() == 1);
    CHECK(Stream::adopt(counting.table, handle).ok());  // ended with the temporary
    CHECK(counting.live_count() == 0);
    const cu::Stream none = nullptr;
    for (const cu::Stream stream : {none, cu::stream_legacy(), cu::stream_per_thread()})
      CHECK(Stream::adopt(counting.table, stream).status().code() == Code::kInvalidArgument);
    CHECK(default_stream(counting.table).value().handle() == nullptr);
  }

  TEST_CASE("a stream whose id cannot be read is not kept") {
    CountingDriver counting;
    counting.answer("cuStreamGetId", cu::Result::kContextIsDestroyed);
    CHECK_FALSE(Stream::create(counting.table).ok());
    CHECK(counting.live_count() == 0);
  }

  TEST_CASE("not ready is an answer, other codes are errors") {
    CountingDriver counting;
    const StreamRef stream(some_stream(0x10), 7);
    const Event event = Event::create(counting.table).value();
    CHECK(is_done(counting.table, stream).value());
    CHECK(event.is_done().value());
    counting.answer("cuStreamQuery", cu::Result::kNotReady);
    counting.answer("cuEventQuery", cu::Result::kNotReady);
    CHECK_FALSE(is_done(counting.table, stream).value());
    CHECK_FALSE(event.is_done().value());
    counting.answer("cuStreamQuery", cu::Result::kIllegalAddress);
    counting.answer("cuEventQuery", cu::Result::kIllegalAddress);
    CHECK_FALSE(is_done(counting.table, stream).ok());
    CHECK_FALSE(event.is_done().ok());
  }

  TEST_CASE("a pooled event is created once and recorded often, and nothing is waited for") {
    CountingDriver counting;
    {
      EventPool pool(counting.table);
      const StreamRef stream(some_stream(0x10), 7);
      for (int i = 0; i < 3; ++i) CHECK(pool.record(stream).value().make_wait(stream).ok());
      CHECK(pool.created_count() == 1);
      CHECK(pool.free_count() == 1);
      RecordedEvent a = pool.record(stream).value();
      RecordedEvent b = pool.record(stream).value();
      CHECK(pool.leased_count() == 2);
      a = std::move(b);
      CHECK(b.empty());  // NOLINT(bugprone-use-after-move)
      CHECK(pool.leased_count() == 1);
      CHECK(pool.created_count() == pool.leased_count() + pool.free_count());
    }
    CHECK(counting.live_count() == 0);
    for (const std::string& name : counting.take_journal()) {
      CAPTURE(name);
      CHECK(name.find("Synchronize") == std::string::npos);
      CHECK(name.find("Query") == std::string::npos);
    }
  }

  TEST_CASE("events of a capture stay with it until it is forgotten, and are never queried") {
    CountingDriver counting;
    EventPool pool(counting.table);
    const StreamRef stream(some_stream(0x10), 7);
    CHECK(pool.record(stream).ok());  // one ordinary event is free now

    counting.set_capture(cu::StreamCaptureStatus::kActive, 41);
    RecordedEvent leased = pool.record(stream).value();
    CHECK(leased.capture_id() == 41);
    CHECK(pool.created_count() == 2);
    (void)counting.take_journal();
    CHECK(leased.is_done().status().code() == Code::kInvalidArgument);
    CHECK(leased.synchronize().code() == Code::kInvalidArgument);
    CHECK(counting.take_journal().empty());
    { const RecordedEvent other = pool.record(stream).value(); }
    CHECK(pool.free_count(41) == 1);
    CHECK(pool.free_count() == 1);

    counting.set_capture(cu::StreamCaptureStatus::kActive, 42);
    { const RecordedEvent other = pool.record(stream).value(); }
    CHECK(pool.free_count(42) == 1);

    counting.set_capture(cu::StreamCaptureStatus::kNone, 0);
    { const RecordedEvent ordinary = pool.record(stream).value(); }
    CHECK(pool.free_count() == 1);

    pool.forget_capture(41);
    CHECK(pool.free_count() == 2);
    leased = RecordedEvent();  // comes back after its capture was forgotten
    CHECK(pool.free_count() == 3);
    pool.forget_capture(42);
    pool.forget_capture(42);
    CHECK(pool.free_count() == 4);
    CHECK(pool.created_count() == 4);
  }

  TEST_CASE("an event whose record fails goes back to the pool") {
    CountingDriver counting;
    EventPool pool(counting.table);
    counting.answer("cuEventRecord", cu::Result::kInvalidHandle);
    CHECK_FALSE(pool.record(StreamRef(some_stream(0x10), 7)).ok());
    CHECK(pool.leased_count() == 0);
    CHECK(pool.free_count() == 1);
  }

  TEST_CASE(
      "a mapping is unmapped before its memory is released, and its memory can go elsewhere") {
    CountingDriver counting;
    {
      const cu::AllocationProp prop = device_allocation_prop(0);
      const std::size_t page = allocation_granularity(counting.table, prop).value();
      CHECK(page == std::size_t{2} << 20);
      const Reservation reservation = Reservation::create(counting.table, 4 * page).value();
      auto memory = std::make_shared<const PhysicalHandle>(
          PhysicalHandle::create(counting.table, page, prop).value());
      Mapping mapping = Mapping::create(counting.table, reservation.pointer(), memory).value();
      CHECK(allow_access(counting.table, mapping.pointer(), mapping.bytes(), 0).ok());
      memory = mapping.unmap();
      CHECK(mapping.empty());
      CHECK(memory.use_count() == 1);
      mapping =
          Mapping::create(counting.table, reservation.pointer() + page, std::move(memory)).value();
      (void)counting.take_journal();
    }
    CHECK(counting.take_journal() == Journal{"cuMemUnmap", "cuMemRelease", "cuMemAddressFree"});
    CHECK(counting.live_count() == 0);
  }

  TEST_CASE("a failed map owns nothing, and out of memory is told as such") {
    CountingDriver counting;
    const cu::AllocationProp prop = device_allocation_prop(0);
    auto memory = std::make_shared<const PhysicalHandle>(
        PhysicalHandle::create(counting.table, 64, prop).value());
    counting.answer("cuMemMap", cu::Result::kInvalidValue);
    CHECK(Mapping::create(counting.table, 64, memory).status().code() == Code::kInvalidArgument);
    CHECK(Mapping::create(counting.table, 64, nullptr).status().code() == Code::kInvalidArgument);
    CHECK(memory.use_count() == 1);
    counting.answer("cuMemCreate", cu::Result::kOutOfMemory);
    CHECK(PhysicalHandle::create(counting.table, 64, prop).status().code() == Code::kOutOfMemory);
    CHECK(allocation_granularity(counting.table, device_allocation_prop(1)).status().code() ==
          Code::kUnsupported);
    memory.reset();
    CHECK(counting.live_count() == 0);
  }

  TEST_CASE("allocated pinned memory is freed, registered memory is unregistered") {
    CountingDriver counting;
    {
      const PinnedBuffer buffer = PinnedBuffer::create(counting.table, 4096).value();
      CHECK(buffer.owns_memory());
      CHECK(buffer.device_pointer().value() == reinterpret_cast<std::uintptr_t>(buffer.data()));
    }
    CHECK(counting.take_journal() ==
          Journal{"cuMemHostAlloc", "cuMemHostGetDevicePointer", "cuMemFreeHost"});
    std::vector<char> mine(4096);
    {
      const PinnedBuffer buffer =
          PinnedBuffer::pin(counting.table, mine.data(), mine.size()).value();
      CHECK_FALSE(buffer.owns_memory());
      CHECK(buffer.data() == mine.data());
    }
    CHECK(counting.take_journal() == Journal{"cuMemHostRegister", "cuMemHostUnregister"});
    CHECK(counting.live_count() == 0);
  }

  TEST_CASE("a kernel is found by name and launched with arguments of its types") {
    CountingDriver counting;
    {
      const Module module = Module::load(counting.table, "image").value();
      const auto kernel =
          Kernel<cu::DevicePtr, std::uint32_t>::find(counting.table, module, "fill").value();
      const StreamRef stream(some_stream(0x10), 7);
      CHECK(kernel.launch(stream, shape_for(1000), 0x123456789abcULL, 5).ok());
      CHECK(counting.last_argument() == 0x123456789abcULL);
      const auto bare = Kernel<>::find(counting.table, module, "nothing").value();
      CHECK(bare.launch(stream, shape_for(0)).ok());
      counting.answer("cuModuleGetFunction", cu::Result::kNotFound);
      const auto missing = Kernel<>::find(counting.table, module, "nobody");
      CHECK(missing.status().code() == Code::kNotFound);
      CHECK(missing.status().message().find("nobody") != std::string::npos);
    }
    CHECK(counting.live_count() == 0);
    CHECK(shape_for(257).grid[0] == 2);
    CHECK(shape_for(~std::uint64_t{0}).grid[0] == 0x7fffffff);
  }

  TEST_CASE("the current context is adopted; only without one the primary is retained") {
    CountingDriver counting;
    {
      const Context context = Context::current_or_primary(counting.table, 2).value();
      CHECK(context.retains());
      CHECK(context.device() == 2);
      CHECK(counting.live_count() == 1);
    }
    CHECK(counting.live_count() == 0);
    const auto mine = some<cu::Context>(0x50);
    counting.set_current(mine);
    const Context context = Context::current_or_primary(counting.table, 2).value();
    CHECK_FALSE(context.retains());
    CHECK(context.handle() == mine);
    CHECK(context.device() == 3);
  }

  TEST_CASE("a scope makes its context current and gives the one before back") {
    CountingDriver counting;
    const Context primary = Context::retain_primary(counting.table, 0).value();
    const auto mine = some<cu::Context>(0x50);
    counting.set_current(mine);
    {
      const ScopedContext scope = ScopedContext::enter(primary).value();
      CHECK(Context::adopt_current(counting.table).value().handle() == primary.handle());
    }
    CHECK(Context::adopt_current(counting.table).value().handle() == mine);
  }

  TEST_CASE("a thread's capture mode is relaxed for a scope and then what it was") {
    CountingDriver counting;
    auto mode = cu::StreamCaptureMode::kThreadLocal;
    (void)counting.table.cuThreadExchangeStreamCaptureMode(&mode);
    {
      const RelaxedCapture scope = RelaxedCapture::enter(counting.table).value();
      mode = cu::StreamCaptureMode::kRelaxed;
      (void)counting.table.cuThreadExchangeStreamCaptureMode(&mode);
      CHECK(mode == cu::StreamCaptureMode::kRelaxed);
    }
    mode = cu::StreamCaptureMode::kGlobal;
    (void)counting.table.cuThreadExchangeStreamCaptureMode(&mode);
    CHECK(mode == cu::StreamCaptureMode::kThreadLocal);
  }

  TEST_CASE("without a tool the hardware's observer does nothing, and says so") {
    const auto observer = make_nvtx_observer();
    REQUIRE(observer != nullptr);
    const auto stream = some_stream(0x10);
    observer->arena_begin(0x7000, 0x1000);
    observer->block_allocated(0x7000, 0x100, stream);
    observer->block_freed(0x7000, stream);
    observer->arena_end(0x7000, 0x1000);
    observer->arena_end(0x7000, 0x1000);
    CHECK(nvtx_support() != NvtxSupport::kAttached);
  }
}

TEST_SUITE("fault") {
  TEST_CASE("an owner that ends after its driver or its context is silent") {
    const CheckHandler before = set_check_handler(&throw_check);
    for (const cu::Result gone : {cu::Result::kDeinitialized, cu::Result::kContextIsDestroyed}) {
      CountingDriver counting;
      Stream stream = Stream::create(counting.table).value();
      PinnedBuffer buffer = PinnedBuffer::create(counting.table, 64).value();
      counting.answer("cuStreamDestroy", gone);
      counting.answer("cuMemFreeHost", gone);
      (void)counting.take_journal();
      {
        const Stream last = std::move(stream);
        const PinnedBuffer last_buffer = std::move(buffer);
      }
      CHECK(counting.take_journal() == Journal{"cuMemFreeHost", "cuStreamDestroy"});
    }
    set_check_handler(before);
  }
}
