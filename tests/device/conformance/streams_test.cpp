// SPDX-License-Identifier: Apache-2.0
// Order within and between streams, the legacy default stream's joins, and what each copy and set
// promises to the host. Source: CUDA driver API, "stream synchronization behavior" and "API
// synchronization behavior".
#include "tests/device/conformance/cases.hpp"

#include <array>
#include <numeric>
#include <set>

namespace spillway::conformance {
namespace {

constexpr std::size_t kN = 1024;  // words
constexpr std::size_t kBytes = kN * 4;
const cu::Stream kLegacy = nullptr;

// --- The legacy default stream -------------------------------------------------------------------

SPW_CONFORMANCE("streams",
                legacy_waits_for_blocking,
                "the legacy stream waits for work in blocking streams") {
  const Memory a = env.filled(kN, 0);
  const Memory b = env.filled(kN, 0);
  const Stream s = env.blocking_stream();
  SPW_OK(env.launch_spin(s.handle()));
  SPW_OK(env.launch_fill(s.handle(), a, 1, kN));
  SPW_OK(env.launch_copy(kLegacy, b, a, kN));
  SPW_OK(env.d.cuStreamSynchronize(kLegacy));
  env.check_words(b, kN, 1);
}

SPW_CONFORMANCE("streams",
                blocking_waits_for_legacy,
                "work in a blocking stream waits for earlier work in the legacy stream") {
  const Memory a = env.filled(kN, 0);
  const Memory b = env.filled(kN, 0);
  const Stream s = env.blocking_stream();
  SPW_OK(env.launch_spin(kLegacy));
  SPW_OK(env.launch_fill(kLegacy, a, 2, kN));
  SPW_OK(env.launch_copy(s.handle(), b, a, kN));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  env.check_words(b, kN, 2);
}

SPW_CONFORMANCE("streams",
                legacy_orders_two_blocking_streams,
                "work in the legacy stream orders two blocking streams around it") {
  const Memory a = env.filled(kN, 0);
  const Memory b = env.filled(kN, 0);
  const Memory other = env.filled(kN, 0);
  const Stream s = env.blocking_stream();
  const Stream t = env.blocking_stream();
  SPW_OK(env.launch_spin(s.handle()));
  SPW_OK(env.launch_fill(s.handle(), a, 3, kN));
  SPW_OK(env.launch_fill(kLegacy, other, 1, kN));
  SPW_OK(env.launch_copy(t.handle(), b, a, kN));
  SPW_OK(env.d.cuStreamSynchronize(t.handle()));
  env.check_words(b, kN, 3);
}

SPW_CONFORMANCE("streams",
                non_blocking_needs_an_event,
                "an event orders a non-blocking stream with the legacy stream, both ways") {
  const Memory a = env.filled(kN, 0);
  const Memory b = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  const Event there = env.event();
  const Event back = env.event();
  SPW_OK(env.launch_spin(s.handle()));
  SPW_OK(env.launch_fill(s.handle(), a, 4, kN));
  SPW_OK(env.d.cuEventRecord(there.handle(), s.handle()));
  SPW_OK(env.d.cuStreamWaitEvent(kLegacy, there.handle(), 0));
  SPW_OK(env.launch_increment(kLegacy, a, kN));
  SPW_OK(env.d.cuEventRecord(back.handle(), kLegacy));
  SPW_OK(env.d.cuStreamWaitEvent(s.handle(), back.handle(), 0));
  SPW_OK(env.launch_copy(s.handle(), b, a, kN));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  env.check_words(b, kN, 5);
}

SPW_CONFORMANCE("streams",
                default_copy_sees_kernel,
                "a synchronous copy to the host sees what a blocking stream wrote before it") {
  const Memory a = env.filled(kN, 0);
  const Stream s = env.blocking_stream();
  SPW_OK(env.launch_spin(s.handle()));
  SPW_OK(env.launch_fill(s.handle(), a, 9, kN));
  env.check_words(a, kN, 9);
}

SPW_CONFORMANCE("streams",
                memset_then_blocking_kernel,
                "a memset in the legacy stream comes before later work in a blocking stream") {
  const Memory a = env.filled(kN, 0);
  const Memory b = env.filled(kN, 0);
  const Stream s = env.blocking_stream();
  SPW_OK(env.d.cuMemsetD32(a, 15, kN));
  SPW_OK(env.launch_copy(s.handle(), b, a, kN));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  env.check_words(b, kN, 15);
}

SPW_CONFORMANCE("streams",
                memset_then_non_blocking_kernel,
                "after waiting for the legacy stream, its memset is seen by a non-blocking one") {
  const Memory a = env.filled(kN, 0);
  const Memory b = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  SPW_OK(env.d.cuMemsetD32(a, 16, kN));
  SPW_OK(env.d.cuStreamSynchronize(kLegacy));
  SPW_OK(env.launch_copy(s.handle(), b, a, kN));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  env.check_words(b, kN, 16);
}

SPW_CONFORMANCE("streams",
                default_stream_sync,
                "waiting for the legacy stream waits for what it waited for") {
  const Memory a = env.filled(kN, 0);
  const PinnedBuffer host = env.pinned(kBytes);
  const Stream s = env.blocking_stream();
  SPW_OK(env.launch_spin(s.handle()));
  SPW_OK(env.launch_fill(s.handle(), a, 20, kN));
  SPW_OK(env.d.cuMemcpyDtoHAsync(host.data(), a, kBytes, kLegacy));
  SPW_OK(env.d.cuStreamSynchronize(kLegacy));
  CHECK(static_cast<const std::uint32_t*>(host.data())[kN - 1] == 20);
}

SPW_CONFORMANCE("streams",
                default_stream_post_sync,
                "waiting for a blocking stream waits for the legacy work before its own") {
  const Memory a = env.filled(kN, 0);
  const Memory other = env.filled(kN, 0);
  const PinnedBuffer host = env.pinned(kBytes);
  const Stream s = env.blocking_stream();
  SPW_OK(env.launch_spin(kLegacy));
  SPW_OK(env.launch_fill(kLegacy, a, 23, kN));
  SPW_OK(env.d.cuMemcpyDtoHAsync(host.data(), a, kBytes, kLegacy));
  SPW_OK(env.launch_fill(s.handle(), other, 1, kN));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  CHECK(static_cast<const std::uint32_t*>(host.data())[0] == 23);
}

SPW_CONFORMANCE("streams",
                sync_between_default_and_non_blocking,
                "the host's wait for one stream orders another that does not join it") {
  const Memory a = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  SPW_OK(env.launch_fill(kLegacy, a, 24, kN));
  SPW_OK(env.d.cuStreamSynchronize(kLegacy));
  SPW_OK(env.launch_increment(s.handle(), a, kN));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  SPW_OK(env.launch_increment(kLegacy, a, kN));
  SPW_OK(env.d.cuStreamSynchronize(kLegacy));
  env.check_words(a, kN, 26);
}

SPW_CONFORMANCE("streams", double_sync, "waiting twice for a stream is as good as waiting once") {
  const Memory a = env.filled(kN, 0);
  const Stream s = env.blocking_stream();
  SPW_OK(env.launch_fill(s.handle(), a, 25, kN));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  SPW_OK(env.d.cuStreamSynchronize(kLegacy));
  SPW_OK(env.d.cuStreamSynchronize(kLegacy));
  SPW_OK(env.d.cuStreamQuery(s.handle()));
  env.check_words(a, kN, 25);
}

SPW_CONFORMANCE("streams",
                explicit_legacy_handle,
                "the handle of the legacy stream means the same stream as null") {
  unsigned long long null_id = 0;
  unsigned long long legacy_id = 1;
  SPW_OK(env.d.cuStreamGetId(nullptr, &null_id));
  SPW_OK(env.d.cuStreamGetId(cu::stream_legacy(), &legacy_id));
  CHECK(null_id == legacy_id);
  const Memory a = env.filled(kN, 0);
  SPW_OK(env.launch_fill(nullptr, a, 1, kN));
  SPW_OK(env.launch_increment(cu::stream_legacy(), a, kN));
  SPW_OK(env.d.cuStreamSynchronize(cu::stream_legacy()));
  env.check_words(a, kN, 2);
}

// --- One stream, many streams --------------------------------------------------------------------

SPW_CONFORMANCE("streams", in_order, "work in one stream runs in the order it was queued") {
  const Memory a = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  SPW_OK(env.launch_fill(s.handle(), a, 100, kN));
  for (int i = 0; i < 20; ++i) SPW_OK(env.launch_increment(s.handle(), a, kN));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  env.check_words(a, kN, 120);
}

SPW_CONFORMANCE("streams",
                chunked_streams,
                "chunks copied in, changed and copied out by streams of their own come out right") {
  constexpr std::size_t kChunks = 4;
  constexpr std::size_t kChunk = kN / kChunks;
  const Memory a = env.memory(kBytes);
  const PinnedBuffer in = env.pinned(kBytes);
  const PinnedBuffer out = env.pinned(kBytes);
  auto* const from = static_cast<std::uint32_t*>(in.data());
  auto* const to = static_cast<std::uint32_t*>(out.data());
  std::iota(from, from + kN, 1000u);
  std::vector<Stream> streams;
  for (std::size_t i = 0; i < kChunks; ++i) streams.push_back(env.non_blocking_stream());
  for (std::size_t i = 0; i < kChunks; ++i) {
    const cu::Stream s = streams[i].handle();
    const cu::DevicePtr there = a + i * kChunk * 4;
    SPW_OK(env.d.cuMemcpyHtoDAsync(there, from + i * kChunk, kChunk * 4, s));
    SPW_OK(env.launch_increment(s, there, kChunk));
    SPW_OK(env.d.cuMemcpyDtoHAsync(to + i * kChunk, there, kChunk * 4, s));
  }
  for (const Stream& s : streams) SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < kN; ++i) wrong += to[i] != 1001 + i ? 1 : 0;
  CHECK(wrong == 0);
}

SPW_CONFORMANCE("streams",
                context_sync_waits_for_all,
                "waiting for the context waits for non-blocking streams too") {
  const Memory a = env.filled(kN, 0);
  const Memory b = env.filled(kN, 0);
  const PinnedBuffer host = env.pinned(2 * kBytes);
  auto* const out = static_cast<std::uint32_t*>(host.data());
  const Stream s = env.non_blocking_stream();
  const Stream t = env.blocking_stream();
  SPW_OK(env.launch_spin(s.handle()));
  SPW_OK(env.launch_fill(s.handle(), a, 6, kN));
  SPW_OK(env.d.cuMemcpyDtoHAsync(out, a, kBytes, s.handle()));
  SPW_OK(env.launch_fill(t.handle(), b, 7, kN));
  SPW_OK(env.d.cuMemcpyDtoHAsync(out + kN, b, kBytes, t.handle()));
  SPW_OK(env.d.cuCtxSynchronize());
  CHECK(out[kN - 1] == 6);
  CHECK(out[2 * kN - 1] == 7);
}

SPW_CONFORMANCE("streams",
                stream_query_busy_loop,
                "a stream asked again and again becomes done, and its results are visible then") {
  const Memory a = env.filled(kN, 0);
  const PinnedBuffer host = env.pinned(kBytes);
  const Stream s = env.non_blocking_stream();
  SPW_OK(env.launch_spin(s.handle()));
  SPW_OK(env.launch_fill(s.handle(), a, 17, kN));
  SPW_OK(env.d.cuMemcpyDtoHAsync(host.data(), a, kBytes, s.handle()));
  SPW_OK(env.poll([&] { return env.d.cuStreamQuery(s.handle()); }));
  CHECK(static_cast<const std::uint32_t*>(host.data())[kN - 1] == 17);
}

SPW_CONFORMANCE("streams", query_of_idle_stream, "a stream without work is done, sooner or later") {
  // A driver may say "not ready" for a moment even then; documented is only the end.
  const Stream s = env.non_blocking_stream();
  SPW_OK(env.poll([&] { return env.d.cuStreamQuery(s.handle()); }));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  SPW_OK(env.poll([&] { return env.d.cuStreamQuery(kLegacy); }));
}

SPW_CONFORMANCE("streams",
                destroy_with_pending_work,
                "destroying a stream leaves its queued work to finish") {
  const Memory a = env.filled(kN, 0);
  {
    const Stream s = env.non_blocking_stream();
    SPW_OK(env.launch_spin(s.handle()));
    SPW_OK(env.launch_fill(s.handle(), a, 31, kN));
  }
  SPW_OK(env.d.cuCtxSynchronize());
  env.check_words(a, kN, 31);
}

SPW_CONFORMANCE("streams",
                host_function_in_order,
                "a host function runs after the work before it and before the work after it") {
  struct Seen {
    const std::uint32_t* from;
    std::uint32_t* to;
    std::uint32_t value;
  };
  const Memory a = env.filled(kN, 0);
  const PinnedBuffer out = env.pinned(kBytes);
  const PinnedBuffer in = env.pinned(kBytes);
  Seen seen{
      static_cast<const std::uint32_t*>(out.data()), static_cast<std::uint32_t*>(in.data()), 0};
  for (std::size_t i = 0; i < kN; ++i) seen.to[i] = 0;
  const Stream s = env.non_blocking_stream();
  SPW_OK(env.launch_spin(s.handle()));
  SPW_OK(env.launch_fill(s.handle(), a, 40, kN));
  SPW_OK(env.d.cuMemcpyDtoHAsync(out.data(), a, kBytes, s.handle()));
  SPW_OK(env.d.cuLaunchHostFunc(
      s.handle(),
      [](void* user) {
        auto* const data = static_cast<Seen*>(user);
        data->value = data->from[kN - 1];
        for (std::size_t i = 0; i < kN; ++i) data->to[i] = data->value + 1;
      },
      &seen));
  SPW_OK(env.d.cuMemcpyHtoDAsync(a, in.data(), kBytes, s.handle()));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  CHECK(seen.value == 40);
  env.check_words(a, kN, 41);
}

SPW_CONFORMANCE("streams",
                written_value_lets_a_wait_pass,
                "a stream goes on when the value it waits for is there, exactly or at least") {
  // The event orders the streams: whether the value alone orders other memory depends on its
  // flags, and the simulated GPU takes the strict view.
  const Memory a = env.filled(kN, 0);
  const Memory b = env.filled(kN, 0);
  const Memory flag = env.filled(1, 0);
  const Stream s = env.non_blocking_stream();
  const Stream t = env.non_blocking_stream();
  const Event e = env.event();
  SPW_OK(env.launch_fill(s.handle(), a, 50, kN));
  SPW_OK(env.d.cuStreamWriteValue32(s.handle(), flag, 5, cu::kWriteValueDefault));
  SPW_OK(env.d.cuEventRecord(e.handle(), s.handle()));
  SPW_OK(env.d.cuStreamWaitEvent(t.handle(), e.handle(), 0));
  SPW_OK(env.d.cuStreamWaitValue32(t.handle(), flag, 4, cu::kWaitValueGeq));
  SPW_OK(env.d.cuStreamWaitValue32(t.handle(), flag, 5, cu::kWaitValueEq));
  SPW_OK(env.launch_copy(t.handle(), b, a, kN));
  SPW_OK(env.d.cuStreamSynchronize(t.handle()));
  env.check_words(b, kN, 50);
  env.check_words(flag, 1, 5);
}

// --- What copies and sets promise to the host ----------------------------------------------------

SPW_CONFORMANCE("streams",
                host_to_host_is_synchronous,
                "an asynchronous copy from host to host is done when it returns") {
  std::vector<std::uint32_t> from(kN, 19);
  std::vector<std::uint32_t> to(kN, 0);
  const Stream s = env.non_blocking_stream();
  const auto pointer = [](const std::vector<std::uint32_t>& v) {
    return static_cast<cu::DevicePtr>(reinterpret_cast<std::uintptr_t>(v.data()));
  };
  SPW_OK(env.d.cuMemcpyAsync(pointer(to), pointer(from), kBytes, s.handle()));
  CHECK(to[0] == 19);
  CHECK(to[kN - 1] == 19);
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
}

SPW_CONFORMANCE("streams",
                pinned_copy_to_device_is_synchronous,
                "a synchronous copy from pinned memory has read it all when it returns") {
  const Memory a = env.memory(kBytes);
  const PinnedBuffer host = env.pinned(kBytes);
  auto* const data = static_cast<std::uint32_t*>(host.data());
  for (std::size_t i = 0; i < kN; ++i) data[i] = 61;
  SPW_OK(env.d.cuMemcpyHtoD(a, data, kBytes));
  for (std::size_t i = 0; i < kN; ++i) data[i] = 0;
  env.check_words(a, kN, 61);
}

SPW_CONFORMANCE("streams",
                pageable_copy_to_device_is_staged,
                "a synchronous copy from pageable memory has read it all when it returns") {
  const Memory a = env.memory(kBytes);
  std::vector<std::uint32_t> data(kN, 62);
  SPW_OK(env.d.cuMemcpyHtoD(a, data.data(), kBytes));
  data.assign(kN, 0);
  env.check_words(a, kN, 62);
}

SPW_CONFORMANCE("streams",
                pageable_async_copies,
                "asynchronous copies from and to pageable memory are right after a wait") {
  // Whether they are done when they return is left open ("might be synchronous").
  const Memory a = env.memory(kBytes);
  const std::vector<std::uint32_t> in(kN, 63);
  std::vector<std::uint32_t> out(kN, 0);
  const Stream s = env.non_blocking_stream();
  SPW_OK(env.d.cuMemcpyHtoDAsync(a, in.data(), kBytes, s.handle()));
  SPW_OK(env.launch_increment(s.handle(), a, kN));
  SPW_OK(env.d.cuMemcpyDtoHAsync(out.data(), a, kBytes, s.handle()));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  CHECK(out == std::vector<std::uint32_t>(kN, 64));
}

SPW_CONFORMANCE("streams",
                device_to_device_copy_is_ordered,
                "a copy within the device is ordered in the legacy stream, not with the host") {
  const Memory a = env.filled(kN, 65);
  const Memory b = env.filled(kN, 0);
  SPW_OK(env.d.cuMemcpyDtoD(b, a, kBytes));
  SPW_OK(env.launch_increment(kLegacy, b, kN));
  env.check_words(b, kN, 66);
}

SPW_CONFORMANCE("streams",
                memset_of_pinned_memory_is_synchronous,
                "a memset of pinned host memory is done when it returns") {
  const PinnedBuffer host = env.pinned(kBytes);
  cu::DevicePtr pointer = 0;
  SPW_MUST(env.d.cuMemHostGetDevicePointer(&pointer, host.data(), 0));
  SPW_OK(env.d.cuMemsetD8(pointer, 0x7e, kBytes));
  CHECK(static_cast<const unsigned char*>(host.data())[0] == 0x7e);
  CHECK(static_cast<const unsigned char*>(host.data())[kBytes - 1] == 0x7e);
}

SPW_CONFORMANCE("streams",
                source_reused_after_sync,
                "the source of an asynchronous copy may change once the copy is waited for") {
  const Memory a = env.memory(kBytes);
  const Memory b = env.memory(kBytes);
  const PinnedBuffer host = env.pinned(kBytes);
  auto* const data = static_cast<std::uint32_t*>(host.data());
  const Stream s = env.non_blocking_stream();
  const Event done = env.event();
  for (std::size_t i = 0; i < kN; ++i) data[i] = 1;
  SPW_OK(env.d.cuMemcpyHtoDAsync(a, data, kBytes, s.handle()));
  SPW_OK(env.d.cuEventRecord(done.handle(), s.handle()));
  SPW_OK(env.d.cuEventSynchronize(done.handle()));
  for (std::size_t i = 0; i < kN; ++i) data[i] = 2;
  SPW_OK(env.d.cuMemcpyHtoDAsync(b, data, kBytes, s.handle()));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  env.check_words(a, kN, 1);
  env.check_words(b, kN, 2);
}

// --- What a stream tells of itself ---------------------------------------------------------------

SPW_CONFORMANCE("streams",
                ids_are_never_given_twice,
                "a stream's id is its own for the life of the process, its handle is not") {
  std::set<unsigned long long> ids;
  unsigned long long id = 0;
  SPW_OK(env.d.cuStreamGetId(nullptr, &id));
  ids.insert(id);
  for (int i = 0; i < 16; ++i) {
    const Stream s = env.non_blocking_stream();
    CHECK(ids.insert(s.id()).second);
    SPW_OK(env.d.cuStreamGetId(s.handle(), &id));
    CHECK(id == s.id());
  }
}

SPW_CONFORMANCE("streams", flags_and_context, "a stream knows its flags and its context") {
  const Stream s = env.blocking_stream();
  const Stream t = env.non_blocking_stream();
  unsigned int flags = 99;
  SPW_OK(env.d.cuStreamGetFlags(s.handle(), &flags));
  CHECK(flags == cu::kStreamDefault);
  SPW_OK(env.d.cuStreamGetFlags(t.handle(), &flags));
  CHECK(flags == cu::kStreamNonBlocking);
  cu::Context context = nullptr;
  SPW_OK(env.d.cuStreamGetCtx(t.handle(), &context));
  CHECK(context == env.context);
}

SPW_CONFORMANCE("streams",
                priorities,
                "priorities are clamped to the context's range, in which less is more urgent") {
  int least = 0;
  int greatest = 0;
  SPW_OK(env.d.cuCtxGetStreamPriorityRange(&least, &greatest));
  CHECK(greatest <= least);
  for (const int asked : {least, greatest, greatest - 100, least + 100}) {
    cu::Stream handle = nullptr;
    SPW_MUST(env.d.cuStreamCreateWithPriority(&handle, cu::kStreamNonBlocking, asked));
    int priority = 77;
    SPW_OK(env.d.cuStreamGetPriority(handle, &priority));
    CHECK(priority >= greatest);
    CHECK(priority <= least);
    if (asked >= greatest && asked <= least) CHECK(priority == asked);
    SPW_OK(env.d.cuStreamDestroy(handle));
  }
}

SPW_CONFORMANCE("streams", bad_arguments, "a stream is not made from a bad flag or to nowhere") {
  cu::Stream handle = nullptr;
  SPW_EXPECT(kInvalidValue, env.d.cuStreamCreate(nullptr, cu::kStreamDefault));
  SPW_EXPECT(kInvalidValue, env.d.cuStreamCreate(&handle, 0x80));
  SPW_EXPECT(kInvalidValue, env.d.cuStreamCreateWithPriority(&handle, 0x80, 0));
  // Which of the two codes is not documented.
  SPW_EXPECT_ONE_OF(env.d.cuStreamDestroy(nullptr),
                    {Result::kInvalidHandle, Result::kInvalidValue});
}

// --- Per-thread default streams ------------------------------------------------------------------

SPW_CONFORMANCE("streams",
                per_thread_ids,
                "the per-thread default stream is another stream than the legacy one") {
  unsigned long long legacy = 0;
  unsigned long long mine = 0;
  SPW_OK(env.d.cuStreamGetId(cu::stream_legacy(), &legacy));
  SPW_OK(env.d.cuStreamGetId(cu::stream_per_thread(), &mine));
  CHECK(legacy != mine);
  if (env.per_thread == nullptr) return;
  unsigned long long null_id = 0;
  SPW_OK(env.per_thread->cuStreamGetId(nullptr, &null_id));
  CHECK(null_id == mine);
  SPW_OK(env.per_thread->cuStreamGetId(cu::stream_legacy(), &null_id));
  CHECK(null_id == legacy);
}

SPW_CONFORMANCE("streams",
                per_thread_streams_differ,
                "each host thread has a per-thread default stream of its own") {
  unsigned long long mine = 0;
  unsigned long long other = 0;
  auto set = Result::kUnknown;
  auto got = Result::kUnknown;
  SPW_OK(env.d.cuStreamGetId(cu::stream_per_thread(), &mine));
  env.on_other_thread([&] {
    set = env.d.cuCtxSetCurrent(env.context);
    got = env.d.cuStreamGetId(cu::stream_per_thread(), &other);
  });
  SPW_OK(set);
  SPW_OK(got);
  CHECK(mine != other);
}

SPW_CONFORMANCE("streams",
                per_thread_joins_legacy,
                "the per-thread default stream and the legacy stream wait for each other") {
  const Memory a = env.filled(kN, 0);
  SPW_OK(env.launch_spin(cu::stream_per_thread()));
  SPW_OK(env.launch_fill(cu::stream_per_thread(), a, 70, kN));
  SPW_OK(env.launch_increment(cu::stream_legacy(), a, kN));
  SPW_OK(env.launch_increment(cu::stream_per_thread(), a, kN));
  SPW_OK(env.d.cuStreamSynchronize(cu::stream_per_thread()));
  env.check_words(a, kN, 72);
}

SPW_CONFORMANCE("streams",
                per_thread_table,
                "null means the per-thread stream in a table loaded for it") {
  if (env.per_thread == nullptr) return;
  const Memory a = env.filled(kN, 0);
  SPW_OK(env.launch_fill(*env.per_thread, nullptr, a, 71, kN));
  SPW_OK(env.per_thread->cuStreamSynchronize(nullptr));
  std::vector<std::uint32_t> out(kN, 0);
  SPW_OK(env.per_thread->cuMemcpyDtoH(out.data(), a, kBytes));
  CHECK(out == std::vector<std::uint32_t>(kN, 71));
}

}  // namespace
}  // namespace spillway::conformance
