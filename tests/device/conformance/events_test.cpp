// SPDX-License-Identifier: Apache-2.0
// Events: what a wait binds to, what a query tells, and that destroying one waits for nobody.
// Source: CUDA driver API, event management and cuStreamWaitEvent.
#include "tests/device/conformance/cases.hpp"

namespace spillway::conformance {
namespace {

constexpr std::size_t kN = 1024;
constexpr std::size_t kBytes = kN * 4;

SPW_CONFORMANCE("events", wait_orders, "a wait makes later work of a stream start after a record") {
  const Memory a = env.filled(kN, 0);
  const Memory b = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  const Stream t = env.non_blocking_stream();
  const Event e = env.event();
  SPW_OK(env.launch_spin(s.handle()));
  SPW_OK(env.launch_fill(s.handle(), a, 1, kN));
  SPW_OK(env.d.cuEventRecord(e.handle(), s.handle()));
  SPW_OK(env.d.cuStreamWaitEvent(t.handle(), e.handle(), 0));
  SPW_OK(env.launch_copy(t.handle(), b, a, kN));
  SPW_OK(env.d.cuStreamSynchronize(t.handle()));
  env.check_words(b, kN, 1);
}

SPW_CONFORMANCE("events", chain, "waits pass order on from stream to stream") {
  const Memory a = env.filled(kN, 0);
  std::vector<Stream> streams;
  std::vector<Event> events;
  for (int i = 0; i < 5; ++i) {
    streams.push_back(env.non_blocking_stream());
    events.push_back(env.event());
  }
  SPW_OK(env.launch_spin(streams[0].handle()));
  for (std::size_t i = 0; i < streams.size(); ++i) {
    if (i > 0) SPW_OK(env.d.cuStreamWaitEvent(streams[i].handle(), events[i - 1].handle(), 0));
    SPW_OK(env.launch_increment(streams[i].handle(), a, kN));
    SPW_OK(env.d.cuEventRecord(events[i].handle(), streams[i].handle()));
  }
  SPW_OK(env.d.cuEventSynchronize(events.back().handle()));
  env.check_words(a, kN, 5);
}

SPW_CONFORMANCE("events",
                re_record_moves_no_wait,
                "recording an event again does not move a wait that was queued before") {
  // Had the wait moved to the second record, t would wait for itself and never be done.
  const Memory a = env.filled(kN, 0);
  const Memory b = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  const Stream t = env.non_blocking_stream();
  const Event e = env.event();
  SPW_OK(env.launch_spin(s.handle()));
  SPW_OK(env.launch_fill(s.handle(), a, 2, kN));
  SPW_OK(env.d.cuEventRecord(e.handle(), s.handle()));
  SPW_OK(env.d.cuStreamWaitEvent(t.handle(), e.handle(), 0));
  SPW_OK(env.d.cuEventRecord(e.handle(), t.handle()));
  SPW_OK(env.launch_copy(t.handle(), b, a, kN));
  SPW_OK(env.d.cuStreamSynchronize(t.handle()));
  env.check_words(b, kN, 2);
}

SPW_CONFORMANCE("events",
                wait_takes_latest_record,
                "a wait binds to the most recent record at the time of the call") {
  const Memory a = env.filled(kN, 0);
  const Memory b = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  const Stream t = env.non_blocking_stream();
  const Event e = env.event();
  SPW_OK(env.d.cuEventRecord(e.handle(), s.handle()));
  SPW_OK(env.launch_spin(s.handle()));
  SPW_OK(env.launch_fill(s.handle(), a, 3, kN));
  SPW_OK(env.d.cuEventRecord(e.handle(), s.handle()));
  SPW_OK(env.d.cuStreamWaitEvent(t.handle(), e.handle(), 0));
  SPW_OK(env.launch_copy(t.handle(), b, a, kN));
  SPW_OK(env.d.cuStreamSynchronize(t.handle()));
  env.check_words(b, kN, 3);
}

SPW_CONFORMANCE("events",
                never_recorded,
                "an event that was never recorded is done, and nobody waits for it") {
  const Memory a = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  const Event e = env.event();
  SPW_OK(env.d.cuEventQuery(e.handle()));
  SPW_OK(env.d.cuEventSynchronize(e.handle()));
  SPW_OK(env.d.cuStreamWaitEvent(s.handle(), e.handle(), 0));
  SPW_OK(env.launch_fill(s.handle(), a, 4, kN));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  env.check_words(a, kN, 4);
}

SPW_CONFORMANCE("events",
                event_query_busy_loop,
                "an event asked again and again becomes done, and the work before it is visible") {
  const Memory a = env.filled(kN, 0);
  const PinnedBuffer host = env.pinned(kBytes);
  const Stream s = env.non_blocking_stream();
  const Event e = env.event();
  SPW_OK(env.launch_spin(s.handle()));
  SPW_OK(env.launch_fill(s.handle(), a, 18, kN));
  SPW_OK(env.d.cuMemcpyDtoHAsync(host.data(), a, kBytes, s.handle()));
  SPW_OK(env.d.cuEventRecord(e.handle(), s.handle()));
  SPW_OK(env.poll([&] { return env.d.cuEventQuery(e.handle()); }));
  CHECK(static_cast<const std::uint32_t*>(host.data())[kN - 1] == 18);
}

SPW_CONFORMANCE("events",
                synchronize,
                "waiting for an event waits for the work before it, not for the work after it") {
  const Memory a = env.filled(kN, 0);
  const PinnedBuffer host = env.pinned(kBytes);
  const Stream s = env.non_blocking_stream();
  const Event e = env.event(cu::kEventBlockingSync | cu::kEventDisableTiming);
  SPW_OK(env.launch_fill(s.handle(), a, 5, kN));
  SPW_OK(env.d.cuMemcpyDtoHAsync(host.data(), a, kBytes, s.handle()));
  SPW_OK(env.d.cuEventRecord(e.handle(), s.handle()));
  SPW_OK(env.launch_spin(s.handle()));
  SPW_OK(env.d.cuEventSynchronize(e.handle()));
  CHECK(static_cast<const std::uint32_t*>(host.data())[0] == 5);
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
}

SPW_CONFORMANCE("events",
                query_tells_of_latest_record,
                "a query is about the latest record, and that one is done after a wait") {
  const Memory a = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  const Event e = env.event();
  SPW_OK(env.d.cuEventRecord(e.handle(), s.handle()));
  SPW_OK(env.d.cuEventSynchronize(e.handle()));
  SPW_OK(env.launch_spin(s.handle()));
  SPW_OK(env.launch_fill(s.handle(), a, 6, kN));
  SPW_OK(env.d.cuEventRecord(e.handle(), s.handle()));
  SPW_OK(env.poll([&] { return env.d.cuEventQuery(e.handle()); }));
  env.check_words(a, kN, 6);
}

SPW_CONFORMANCE("events",
                destroy_while_pending,
                "an event destroyed before it happened still orders those that wait for it") {
  const Memory a = env.filled(kN, 0);
  const Memory b = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  const Stream t = env.non_blocking_stream();
  {
    const Event e = env.event();
    SPW_OK(env.launch_spin(s.handle()));
    SPW_OK(env.launch_fill(s.handle(), a, 7, kN));
    SPW_OK(env.d.cuEventRecord(e.handle(), s.handle()));
    SPW_OK(env.d.cuStreamWaitEvent(t.handle(), e.handle(), 0));
  }
  SPW_OK(env.launch_copy(t.handle(), b, a, kN));
  SPW_OK(env.d.cuStreamSynchronize(t.handle()));
  env.check_words(b, kN, 7);
}

SPW_CONFORMANCE("events",
                wait_for_own_stream,
                "a stream that waits for a record of its own goes on") {
  const Memory a = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  const Event e = env.event();
  SPW_OK(env.launch_fill(s.handle(), a, 8, kN));
  SPW_OK(env.d.cuEventRecord(e.handle(), s.handle()));
  SPW_OK(env.d.cuStreamWaitEvent(s.handle(), e.handle(), 0));
  SPW_OK(env.launch_increment(s.handle(), a, kN));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  env.check_words(a, kN, 9);
}

SPW_CONFORMANCE("events", record_with_flags, "a record with default flags is a record") {
  const Memory a = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  const Event e = env.event();
  SPW_OK(env.launch_fill(s.handle(), a, 11, kN));
  SPW_OK(env.d.cuEventRecordWithFlags(e.handle(), s.handle(), 0));
  SPW_OK(env.d.cuEventSynchronize(e.handle()));
  env.check_words(a, kN, 11);
}

SPW_CONFORMANCE("events", event_outlives_stream, "a record outlives the stream it was made in") {
  const Memory a = env.filled(kN, 0);
  const Event e = env.event();
  {
    const Stream s = env.non_blocking_stream();
    SPW_OK(env.launch_fill(s.handle(), a, 12, kN));
    SPW_OK(env.d.cuEventRecord(e.handle(), s.handle()));
  }
  SPW_OK(env.d.cuEventSynchronize(e.handle()));
  env.check_words(a, kN, 12);
}

SPW_CONFORMANCE("events", elapsed, "the time between two timed records is not negative") {
  const Stream s = env.non_blocking_stream();
  const Event begin = env.event(cu::kEventDefault);
  const Event end = env.event(cu::kEventDefault);
  float milliseconds = -1;
  SPW_OK(env.d.cuEventRecord(begin.handle(), s.handle()));
  SPW_OK(env.launch_spin(s.handle()));
  SPW_OK(env.d.cuEventRecord(end.handle(), s.handle()));
  SPW_EXPECT_ONE_OF(env.d.cuEventElapsedTime(&milliseconds, begin.handle(), end.handle()),
                    {Result::kSuccess, Result::kNotReady});
  SPW_OK(env.d.cuEventSynchronize(end.handle()));
  // A driver may still lag behind for a moment.
  SPW_OK(env.poll(
      [&] { return env.d.cuEventElapsedTime(&milliseconds, begin.handle(), end.handle()); }));
  CHECK(milliseconds >= 0);
}

SPW_CONFORMANCE("events",
                elapsed_errors,
                "no time passes between events that were not recorded or are not timed") {
  const Stream s = env.non_blocking_stream();
  const Event timed = env.event(cu::kEventDefault);
  const Event fresh = env.event(cu::kEventDefault);
  const Event untimed = env.event(cu::kEventDisableTiming);
  float milliseconds = 0;
  SPW_OK(env.d.cuEventRecord(timed.handle(), s.handle()));
  SPW_OK(env.d.cuEventRecord(untimed.handle(), s.handle()));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  SPW_EXPECT(kInvalidHandle,
             env.d.cuEventElapsedTime(&milliseconds, timed.handle(), fresh.handle()));
  SPW_EXPECT(kInvalidHandle,
             env.d.cuEventElapsedTime(&milliseconds, fresh.handle(), timed.handle()));
  SPW_EXPECT(kInvalidHandle,
             env.d.cuEventElapsedTime(&milliseconds, timed.handle(), untimed.handle()));
}

SPW_CONFORMANCE("events", bad_arguments, "an event is not made from bad flags or to nowhere") {
  cu::Event handle = nullptr;
  SPW_EXPECT(kInvalidValue, env.d.cuEventCreate(nullptr, cu::kEventDefault));
  SPW_EXPECT(kInvalidValue, env.d.cuEventCreate(&handle, 0x80));
  // An interprocess event must not be timed.
  SPW_EXPECT(kInvalidValue, env.d.cuEventCreate(&handle, cu::kEventInterprocess));
}

SPW_CONFORMANCE("events", null_handles, "a null event is no event") {
  // Which of the two codes is not documented.
  const Stream s = env.non_blocking_stream();
  const auto codes = {Result::kInvalidHandle, Result::kInvalidValue};
  SPW_EXPECT_ONE_OF(env.d.cuEventRecord(nullptr, s.handle()), codes);
  SPW_EXPECT_ONE_OF(env.d.cuEventQuery(nullptr), codes);
  SPW_EXPECT_ONE_OF(env.d.cuEventSynchronize(nullptr), codes);
  SPW_EXPECT_ONE_OF(env.d.cuStreamWaitEvent(s.handle(), nullptr, 0), codes);
  SPW_EXPECT_ONE_OF(env.d.cuEventDestroy(nullptr), codes);
}

}  // namespace
}  // namespace spillway::conformance
