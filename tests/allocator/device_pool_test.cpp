// SPDX-License-Identifier: Apache-2.0
// The device pool's contract, one behaviour a test, on the simulated GPU.
#include "core/thread.hpp"
#include "tests/allocator/device_pool_lab.hpp"

#include <limits>
#include <string>
#include <vector>

namespace spillway {
namespace {

using test::DevicePoolLab;
using test::in_all_orders;
using test::kKiB;
using test::kMiB;
using test::Lab;
using test::lab_options;
using test::reports_of;

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_SUITE("unit") {
  TEST_CASE("a block is aligned, usable on its stream, and reused there at once") {
    in_all_orders([](Lab& lab) {
      DevicePoolLab t(lab);
      const StreamRef s = t.stream();
      const cu::DevicePtr a = t.take(10 * kKiB, s);
      CHECK_EQ(a % 512, 0u);
      t.fill(a, s, 10 * kKiB);
      t.give(a, s);
      const cu::DevicePtr b = t.take(10 * kKiB, s);
      CHECK_EQ(a, b);
      t.fill(b, s, 10 * kKiB);
      t.give(b, s);
      CHECK_EQ(t.pool->stats().stream_wait_count, 0u);
      CHECK_EQ(t.pool->stats().host_wait_count, 0u);
    });
  }

  TEST_CASE("zero bytes are the null pointer, and giving it back is nothing") {
    in_all_orders([](Lab& lab) {
      DevicePoolLab t(lab);
      const StreamRef s = t.stream();
      CHECK_EQ(t.take(0, s), 0u);
      t.give(0, s);
      CHECK_EQ(t.pool->stats().reserved_bytes, 0u);
      CHECK_EQ(t.pool->stats().allocation_count, 0u);
    });
  }

  TEST_CASE("sizes that no device has are out of memory, without wrapping around") {
    in_all_orders([](Lab& lab) {
      DevicePoolLab t(lab);
      const StreamRef s = t.stream();
      constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();
      for (const std::uint64_t bytes :
           {kMax, kMax - 511, kMax - 512, kMax / 2, std::uint64_t{1} << 41, 9 * kMiB}) {
        CAPTURE(bytes);
        CHECK(t.pool->allocate(bytes, s).status().code() == Code::kOutOfMemory);
        CHECK(t.pool->allocate_comm(bytes, s).status().code() == Code::kOutOfMemory);
      }
      CHECK_EQ(t.pool->stats().reserved_bytes, 0u);
      CHECK_EQ(t.pool->stats().out_of_memory_count, 12u);
    });
  }

  TEST_CASE("what is not the beginning of a live block is not taken back") {
    in_all_orders([](Lab& lab) {
      DevicePoolLab t(lab);
      const StreamRef s = t.stream();
      const cu::DevicePtr a = t.take(10 * kKiB, s);
      const cu::DevicePtr foreign = lab.device(4096);
      CHECK(t.pool->free(foreign, s).code() == Code::kNotFound);
      CHECK(t.pool->free(1, s).code() == Code::kNotFound);
      CHECK(t.pool->free(a + 1, s).code() == Code::kInvalidArgument);
      CHECK(t.pool->free(a + 512, s).code() == Code::kInvalidArgument);
      CHECK(t.pool->record_use(foreign, s).code() == Code::kNotFound);
      CHECK_EQ(t.pool->stats().live_count, 1u);
      t.give(a, s);
      CHECK(t.pool->free(a, s).code() == Code::kInvalidArgument);
      CHECK(t.pool->record_use(a, s).code() == Code::kInvalidArgument);
      CHECK_FALSE(t.pool->find(a).has_value());
      CHECK_EQ(t.pool->stats().free_count, 1u);
    });
  }

  TEST_CASE("a block is not given back on a stream that is gone, and stays live") {
    auto made = sim::Simulator::create(lab_options(sim::Mode::kEager));
    REQUIRE(made.ok());
    sim::Simulator& simulator = *made.value();
    simulator.run([&] {
      Lab lab(simulator);
      DevicePoolLab t(lab);
      const StreamRef s = t.stream();
      const StreamRef gone = t.stream();
      const cu::DevicePtr a = t.take(kKiB, s);
      lab.forget(gone.handle());
      CHECK(lab.cu.cuStreamDestroy(gone.handle()) == cu::Result::kSuccess);
      CHECK(t.pool->free(a, gone).code() == Code::kInvalidArgument);
      CHECK(t.pool->allocate(kKiB, gone).status().code() == Code::kInvalidArgument);
      CHECK_EQ(t.pool->stats().live_count, 1u);
      t.give(a, s);
    });
    for (const sim::Report& report : simulator.reports())
      CHECK(report.kind == sim::ReportKind::kMisuse);
    CHECK(simulator.reports().size() >= 2);  // each call asked the driver, some of them twice
  }

  TEST_CASE("memory given back on a stream that ended after retire_stream is used by others") {
    in_all_orders([](Lab& lab) {
      DevicePoolOptions options;
      options.budget_bytes = 64 * kKiB;
      DevicePoolLab t(lab, options);
      const StreamRef old = t.stream();
      const StreamRef s = t.stream();
      const cu::DevicePtr a = t.take(64 * kKiB, old);
      t.fill(a, old, 64 * kKiB);
      t.give(a, old);
      CHECK(t.pool->retire_stream(old).ok());
      CHECK(t.pool->retire_stream(old).ok());
      lab.forget(old.handle());
      CHECK(lab.cu.cuStreamDestroy(old.handle()) == cu::Result::kSuccess);
      const cu::DevicePtr b = t.take(64 * kKiB, s);
      t.fill(b, s, 64 * kKiB);
      t.give(b, s);
    });
  }

  TEST_CASE("another thread gives a block back, and another device's pool does not know it") {
    sim::Options options = lab_options(sim::Mode::kRandom, 3);
    options.devices = 2;
    CHECK_EQ(reports_of(options,
                        [](Lab& lab) {
                          DevicePoolLab t(lab);
                          const StreamRef s = t.stream();
                          const cu::DevicePtr a = t.take(kKiB, s);
                          {
                            auto thread = Thread::start("giving", [&] {
                              lab.enter();
                              t.fill(a, s, kKiB);
                              t.give(a, s);
                            });
                            REQUIRE(thread.ok());
                          }
                          CHECK_EQ(t.pool->stats().live_count, 0u);
                          const Context other = Context::retain_primary(lab.cu, 1).value();
                          auto made = DevicePool::create(other, DevicePoolOptions{});
                          REQUIRE(made.ok());
                          const cu::DevicePtr b = t.take(kKiB, s);
                          CHECK(made.value()->free(b, s).code() == Code::kNotFound);
                          CHECK_FALSE(made.value()->owns(b));
                          CHECK(t.pool->owns(b));
                          t.give(b, s);
                        }),
             "");
  }

  TEST_CASE("a warm pool asks the driver only whether the stream is capturing") {
    sim::Options options = lab_options(sim::Mode::kLazy);
    CHECK_EQ(reports_of(options,
                        [](Lab& lab) {
                          const Context context = Context::adopt_current(lab.cu).value();
                          DevicePoolOptions pool_options;
                          pool_options.budget_bytes = 8 * kMiB;
                          for (const bool detect : {true, false}) {
                            pool_options.detect_capture = detect;
                            auto made = DevicePool::create(context, pool_options);
                            REQUIRE(made.ok());
                            DevicePool& pool = *made.value();
                            const StreamRef s = StreamRef::of(lab.cu, lab.stream()).value();
                            std::vector<cu::DevicePtr> blocks;
                            for (std::uint64_t i = 1; i <= 64; ++i)
                              blocks.push_back(pool.allocate(i * 700, s).value());
                            for (const cu::DevicePtr block : blocks)
                              CHECK(pool.free(block, s).ok());
                            const auto before = lab.simulator().counters().calls;
                            for (std::uint64_t i = 1; i <= 64; ++i) {
                              const cu::DevicePtr block = pool.allocate(i * 700, s).value();
                              CHECK(pool.free(block, s).ok());
                            }
                            const auto calls = lab.simulator().counters().calls - before;
                            CHECK_EQ(calls, detect ? 128u : 0u);
                          }
                        }),
             "");
  }

  TEST_CASE("at the budget another stream's memory is used after a wait, not by the host") {
    in_all_orders([](Lab& lab) {
      DevicePoolOptions options;
      options.budget_bytes = 64 * kKiB;
      DevicePoolLab t(lab, options);
      const StreamRef s = t.stream();
      const StreamRef other = t.stream();
      const cu::DevicePtr a = t.take(64 * kKiB, s);
      t.fill(a, s, 64 * kKiB);
      t.give(a, s);
      const cu::DevicePtr b = t.take(64 * kKiB, other);
      CHECK_EQ(a, b);
      t.fill(b, other, 64 * kKiB);
      t.give(b, other);
      CHECK_EQ(t.pool->stats().host_wait_count, 0u);
      CHECK_LE(t.pool->stats().stream_wait_count, 1u);
    });
  }

  TEST_CASE("below the budget another stream gets memory of its own, or waits if told to") {
    for (const CrossStream rule : {CrossStream::kGrowFirst, CrossStream::kWaitFirst}) {
      CHECK_EQ(reports_of(lab_options(sim::Mode::kLazy),
                          [rule](Lab& lab) {
                            DevicePoolOptions options;
                            options.cross_stream = rule;
                            DevicePoolLab t(lab, options);
                            const StreamRef s = t.stream();
                            const StreamRef other = t.stream();
                            const cu::DevicePtr a = t.take(64 * kKiB, s);
                            t.fill(a, s, 64 * kKiB);
                            t.give(a, s);
                            const cu::DevicePtr b = t.take(64 * kKiB, other);
                            t.fill(b, other, 64 * kKiB);
                            CHECK_EQ(a == b, rule == CrossStream::kWaitFirst);
                            t.give(b, other);
                          }),
               "");
    }
  }

  TEST_CASE("a block whose bytes are still being copied out is reused by a stream that waits") {
    in_all_orders([](Lab& lab) {
      DevicePoolOptions options;
      options.budget_bytes = 64 * kKiB;
      DevicePoolLab t(lab, options);
      const StreamRef compute = t.stream();
      const StreamRef copy = t.stream();
      std::uint8_t* host = lab.pinned(64 * kKiB);
      const cu::DevicePtr a = t.take(64 * kKiB, compute);
      lab.fill(compute.handle(), a, 42, 64 * kKiB);
      t.order(compute, copy);
      lab.d2h(copy.handle(), host, a, 64 * kKiB);
      t.give(a, copy);
      const cu::DevicePtr b = t.take(64 * kKiB, compute);
      CHECK_EQ(a, b);
      lab.fill(compute.handle(), b, 7, 64 * kKiB);
      lab.sync(copy.handle());
      CHECK_EQ(int{host[0]}, 42);
      CHECK_EQ(int{host[64 * kKiB - 1]}, 42);
      t.give(b, compute);
      CHECK_EQ(t.pool->stats().host_wait_count, 0u);
    });
  }

  TEST_CASE("record_use keeps a block until the other stream is done with it") {
    in_all_orders([](Lab& lab) {
      DevicePoolOptions options;
      options.budget_bytes = 64 * kKiB;
      DevicePoolLab t(lab, options);
      const StreamRef s = t.stream();
      const StreamRef user = t.stream();
      const cu::DevicePtr a = t.take(64 * kKiB, s);
      t.fill(a, s, 64 * kKiB);
      t.order(s, user);
      CHECK(t.pool->record_use(a + 100, user).ok());
      CHECK(t.pool->record_use(a, user).ok());
      lab.read(user.handle(), a, 64 * kKiB);
      t.give(a, s);  // without any order of s behind the user
      CHECK_EQ(t.pool->stats().deferred_bytes, 64 * kKiB);
      const cu::DevicePtr b = t.take(64 * kKiB, s);
      t.fill(b, s, 64 * kKiB);
      t.give(b, s);
      CHECK_EQ(t.pool->stats().host_wait_count, 0u);
    });
  }

  TEST_CASE("the budget holds by the driver's own count, and the text says who holds what") {
    in_all_orders([](Lab& lab) {
      DevicePoolOptions options;
      options.budget_bytes = 256 * kKiB;
      DevicePoolLab t(lab, options);
      const StreamRef s = t.stream();
      const TagId act =
          t.pool->tag({BufferKind::kActivation, Dtype::kBf16, Phase::kForward, kNoMicroBatch, 7, 0},
                      "attn.qkv");
      std::vector<cu::DevicePtr> blocks;
      for (int i = 0; i < 3; ++i) blocks.push_back(t.take(64 * kKiB, s, act));
      blocks.push_back(t.take(48 * kKiB, s));
      const auto none = t.pool->allocate(32 * kKiB, s);
      REQUIRE(none.status().code() == Code::kOutOfMemory);
      const std::string& text = none.status().message();
      CHECK(contains(text, "out of memory: 32.0 KiB (32768 bytes)"));
      CHECK(contains(text, "budget 256 KiB"));
      CHECK(contains(text, "activation layer 7 forward \"attn.qkv\""));
      CHECK(contains(text, "192 KiB        3"));
      CHECK(contains(text, "tried: "));
      CHECK_LE(lab.simulator().counters().device_bytes_peak, 256 * kKiB);
      // What is given back is seen at once by the next try.
      t.give(blocks[1], s);
      blocks[1] = t.take(64 * kKiB, s, act);
      for (const cu::DevicePtr block : blocks) t.give(block, s);
      const auto entries = t.pool->tag_entries();
      CHECK_EQ(entries[act.index()].totals.allocated_bytes, 0u);
      CHECK_EQ(entries[act.index()].totals.allocated_bytes_peak, 192 * kKiB);
      CHECK_EQ(entries[act.index()].totals.total_count, 4u);
    });
  }

  TEST_CASE("a budget below what lives is refused, one below what is held gives memory back") {
    in_all_orders([](Lab& lab) {
      DevicePoolLab t(lab);
      const StreamRef s = t.stream();
      const cu::DevicePtr a = t.take(64 * kKiB, s);
      const cu::DevicePtr b = t.take(64 * kKiB, s);
      t.fill(b, s, 64 * kKiB);
      t.give(b, s);
      CHECK_EQ(t.pool->stats().reserved_bytes, 128 * kKiB);
      const Status refused = t.pool->set_budget(32 * kKiB);
      CHECK(refused.code() == Code::kOutOfMemory);
      CHECK(contains(refused.message(), "a budget of 32.0 KiB is not possible"));
      CHECK_EQ(t.pool->budget_bytes(), 8 * kMiB);
      CHECK(t.pool->set_budget(64 * kKiB).ok());
      CHECK_EQ(t.pool->stats().reserved_bytes, 64 * kKiB);
      CHECK_EQ(lab.simulator().counters().device_bytes_used, 64 * kKiB);
      CHECK(t.pool->allocate(512, s).status().code() == Code::kOutOfMemory);
      t.give(a, s);
    });
  }

  TEST_CASE("unused handles are remapped when memory is there but in pieces") {
    in_all_orders([](Lab& lab) {
      DevicePoolOptions options;
      options.budget_bytes = 64 * kKiB;
      options.handle_bytes_max = 4 * kKiB;
      DevicePoolLab t(lab, options);
      const StreamRef s = t.stream();
      std::vector<cu::DevicePtr> blocks;
      for (int i = 0; i < 16; ++i) {
        blocks.push_back(t.take(4 * kKiB, s));
        t.fill(blocks.back(), s, 4 * kKiB);
      }
      for (std::size_t i = 0; i < 16; i += 2) t.give(blocks[i], s);
      const cu::DevicePtr large = t.take(32 * kKiB, s);
      t.fill(large, s, 32 * kKiB);
      CHECK_GE(t.pool->stats().remap_count, 7u);
      CHECK_EQ(t.pool->stats().reserved_bytes, 64 * kKiB);
      CHECK_GE(t.pool->stats().host_wait_count, 1u);
      t.give(large, s);
      for (std::size_t i = 1; i < 16; i += 2) t.give(blocks[i], s);
    });
  }

  TEST_CASE("the pressure callback frees memory, and is not asked from inside itself") {
    in_all_orders([](Lab& lab) {
      struct Holder {
        DevicePool* pool = nullptr;
        StreamRef stream{cu::Stream{nullptr}, 0};
        std::vector<cu::DevicePtr> victims;
        int calls = 0;
        bool inner_refused = false;
      } holder;
      DevicePoolOptions options;
      options.budget_bytes = 64 * kKiB;
      options.user = &holder;
      options.on_pressure = [](void* user, const PressureRequest& request) {
        auto& h = *static_cast<Holder*>(user);
        ++h.calls;
        if (request.wanted_bytes != 48 * kKiB) return false;
        h.inner_refused = !h.pool->allocate(64 * kKiB, h.stream).ok();
        if (h.victims.empty()) return false;
        const bool given = h.pool->free(h.victims.back(), h.stream).ok();
        h.victims.pop_back();
        return given;
      };
      DevicePoolLab t(lab, options);
      holder.pool = t.pool.get();
      holder.stream = t.stream();
      for (int i = 0; i < 4; ++i) holder.victims.push_back(t.take(16 * kKiB, holder.stream));
      const cu::DevicePtr a = t.take(48 * kKiB, holder.stream);
      CHECK_EQ(holder.calls, 3);
      CHECK(holder.inner_refused);
      CHECK_EQ(holder.victims.size(), 1u);
      const auto none = t.pool->allocate(64 * kKiB, holder.stream);
      REQUIRE_FALSE(none.ok());
      CHECK(contains(none.status().message(), "the pressure callback (1 times)"));
      t.give(a, holder.stream);
      for (const cu::DevicePtr victim : holder.victims) t.give(victim, holder.stream);
    });
  }

  TEST_CASE("comm memory is plain memory, counted in the budget, and never moved") {
    in_all_orders([](Lab& lab) {
      DevicePoolOptions options;
      options.budget_bytes = kMiB;
      options.comm_chunk_bytes = 64 * kKiB;
      DevicePoolLab t(lab, options);
      const StreamRef s = t.stream();
      const cu::DevicePtr a = t.pool->allocate_comm(10 * kKiB, s).value();
      const cu::DevicePtr b = t.pool->allocate_comm(10 * kKiB, s).value();
      CHECK_EQ(t.pool->stats().comm_bytes, 64 * kKiB);
      CHECK_EQ(t.pool->stats().reserved_bytes, 64 * kKiB);
      cu::DevicePtr base = 0;
      std::size_t bytes = 0;
      CHECK(lab.cu.cuMemGetAddressRange(&base, &bytes, b) == cu::Result::kSuccess);
      CHECK_EQ(base, a - (a - base));
      CHECK_EQ(bytes, 64 * kKiB);
      CHECK_LT(b - base, bytes);
      t.fill(a, s, 10 * kKiB);
      t.fill(b, s, 10 * kKiB);
      CHECK_EQ(t.pool->find(b + 5)->pointer, b);
      t.give(a, s);
      t.give(b, s);
      CHECK(t.pool->trim(0).ok());
      CHECK_EQ(t.pool->stats().reserved_bytes, 0u);
      CHECK_EQ(lab.simulator().counters().device_bytes_used, 0u);
    });
  }

  TEST_CASE("chunks that threads make at the same time are all known") {
    for (std::uint64_t seed = 0; seed < 30; ++seed) {
      CAPTURE(seed);
      CHECK_EQ(reports_of(lab_options(seed % 2 == 0 ? sim::Mode::kRandom : sim::Mode::kPct, seed),
                          [](Lab& lab) {
                            DevicePoolOptions options;
                            options.comm_chunk_bytes = 4 * kKiB;
                            DevicePoolLab t(lab, options);
                            std::vector<StreamRef> streams;
                            for (int i = 0; i < 3; ++i) streams.push_back(t.stream());
                            std::vector<Thread> threads;
                            for (std::size_t i = 0; i < 3; ++i) {
                              auto thread = Thread::start("worker", [&lab, &t, &streams, i] {
                                lab.enter();
                                const auto a = t.pool->allocate_comm(4 * kKiB, streams[i]);
                                REQUIRE(a.ok());
                                CHECK(t.pool->find(a.value() + 9).has_value());
                                t.give(a.value(), streams[i]);
                              });
                              REQUIRE(thread.ok());
                              threads.push_back(std::move(thread).value());
                            }
                            for (Thread& thread : threads) thread.join();
                            CHECK_EQ(t.pool->stats().live_count, 0u);
                          }),
               "");
    }
  }

  TEST_CASE("a device without virtual memory gets a pool of chunks") {
    sim::Options options = lab_options(sim::Mode::kRandom, 5);
    options.vmm_supported = false;
    CHECK_EQ(
        reports_of(options,
                   [](Lab& lab) {
                     DevicePoolOptions pool_options;
                     pool_options.budget_bytes = 6 * kMiB;
                     pool_options.comm_chunk_bytes = 2 * kMiB;
                     DevicePoolLab t(lab, pool_options);
                     const StreamRef s = t.stream();
                     const cu::DevicePtr a = t.take(kMiB, s);
                     const cu::DevicePtr b = t.take(3 * kMiB, s);
                     t.fill(a, s, kMiB);
                     t.fill(b, s, 3 * kMiB);
                     CHECK(t.pool->allocate(kMiB + 1, s).status().code() == Code::kOutOfMemory);
                     t.give(a, s);
                     t.give(b, s);
                     CHECK(t.pool->trim(0).ok());
                     CHECK_EQ(lab.simulator().counters().device_bytes_used, 0u);
                   }),
        "");
  }

  TEST_CASE("memory mapped ahead serves without growing") {
    in_all_orders([](Lab& lab) {
      DevicePoolOptions options;
      options.map_ahead_bytes = kMiB;
      DevicePoolLab t(lab, options);
      CHECK_EQ(t.pool->stats().mapped_bytes, kMiB);
      const StreamRef s = t.stream();
      const StreamRef other = t.stream();
      const auto grown = t.pool->stats().grow_count;
      const cu::DevicePtr a = t.take(512 * kKiB, s);
      const cu::DevicePtr b = t.take(512 * kKiB, other);
      CHECK_EQ(t.pool->stats().grow_count, grown);
      CHECK(t.pool->reserve_ahead(kMiB).ok());
      CHECK_EQ(t.pool->stats().free_bytes, kMiB);
      CHECK(t.pool->reserve_ahead(16 * kMiB).code() == Code::kOutOfMemory);
      t.give(a, s);
      t.give(b, other);
    });
  }

  TEST_CASE("blocks are found by any address inside them, without the pool's lock") {
    CHECK_EQ(reports_of(lab_options(sim::Mode::kPct, 11),
                        [](Lab& lab) {
                          DevicePoolLab t(lab);
                          const StreamRef s = t.stream();
                          const TagId tag = t.pool->tag({}, "stays");
                          const cu::DevicePtr stays = t.take(100 * kKiB + 3, s, tag);
                          auto reader = Thread::start("reading", [&] {
                            for (std::uint64_t i = 0; i < 50; ++i) {
                              const auto info = t.pool->find(stays + i * 2000);
                              REQUIRE(info.has_value());
                              CHECK_EQ(info->pointer, stays);
                              CHECK_EQ(info->requested_bytes, 100 * kKiB + 3);
                              CHECK_EQ(info->held_bytes, 100 * kKiB + 512);
                              CHECK(info->tag_id == tag);
                              host_yield();
                            }
                          });
                          REQUIRE(reader.ok());
                          for (int i = 0; i < 50; ++i) {
                            const cu::DevicePtr a = t.take(700, s);
                            const cu::DevicePtr b = t.take(9 * kKiB, s);
                            t.give(a, s);
                            t.give(b, s);
                          }
                          reader.value().join();
                          CHECK_FALSE(t.pool->find(stays + 100 * kKiB + 512).has_value());
                          t.give(stays, s);
                        }),
             "");
  }

  TEST_CASE("threads on streams of their own share a pool") {
    for (std::uint64_t seed = 0; seed < 30; ++seed) {
      CAPTURE(seed);
      CHECK_EQ(reports_of(lab_options(seed % 2 == 0 ? sim::Mode::kRandom : sim::Mode::kPct, seed),
                          [](Lab& lab) {
                            DevicePoolOptions options;
                            options.budget_bytes = 256 * kKiB;
                            DevicePoolLab t(lab, options);
                            std::vector<StreamRef> streams;
                            for (int i = 0; i < 4; ++i) streams.push_back(t.stream());
                            std::vector<Thread> threads;
                            for (std::size_t i = 0; i < 4; ++i) {
                              auto thread = Thread::start("worker", [&lab, &t, &streams, i] {
                                lab.enter();
                                const StreamRef s = streams[i];
                                for (std::uint64_t n = 1; n <= 10; ++n) {
                                  const auto a = t.pool->allocate(n * 1500, s);
                                  const auto b = t.pool->allocate(40 * kKiB, s);
                                  if (a.ok()) {
                                    t.fill(a.value(), s, n * 1500);
                                    t.give(a.value(), s);
                                  }
                                  if (b.ok()) {
                                    t.fill(b.value(), s, 40 * kKiB);
                                    t.give(b.value(), s);
                                  }
                                }
                              });
                              REQUIRE(thread.ok());
                              threads.push_back(std::move(thread).value());
                            }
                            for (Thread& thread : threads) thread.join();
                            CHECK_EQ(t.pool->stats().live_count, 0u);
                            CHECK_LE(lab.simulator().counters().device_bytes_peak, 256 * kKiB);
                          }),
               "");
    }
  }

  TEST_CASE("a snapshot tells every byte that is held") {
    in_all_orders([](Lab& lab) {
      DevicePoolLab t(lab);
      const StreamRef s = t.stream();
      const TagId tag = t.pool->tag({BufferKind::kGradient}, "w");
      const cu::DevicePtr a = t.take(5000, s, tag);
      const cu::DevicePtr b = t.take(9000, s);
      const cu::DevicePtr c = t.pool->allocate_comm(100, s).value();
      t.give(b, s);
      const PoolSnapshot snapshot = t.pool->snapshot();
      std::uint64_t bytes = 0, live = 0;
      for (const PoolSnapshot::Segment& segment : snapshot.segments) {
        std::uint64_t inside = 0;
        for (const PoolSnapshot::SnapshotBlock& block : segment.blocks) {
          CHECK_EQ(block.pointer, segment.pointer + inside);
          inside += block.bytes;
          if (block.state != BlockState::kLive) continue;
          ++live;
          CHECK_EQ(block.stream_id, s.id());
          CHECK((block.pointer == a || block.pointer == c));
          if (block.pointer == a) CHECK(block.tag_id == tag);
        }
        CHECK_EQ(inside, segment.bytes);
        bytes += segment.bytes;
      }
      CHECK_EQ(live, 2u);
      CHECK_EQ(bytes, snapshot.stats.reserved_bytes);
      CHECK_EQ(snapshot.tags[tag.index()].name, "w");
      t.give(a, s);
      t.give(c, s);
    });
  }
}

}  // namespace
}  // namespace spillway
