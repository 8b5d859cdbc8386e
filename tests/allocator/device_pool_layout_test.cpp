// SPDX-License-Identifier: Apache-2.0
// A step served from a packed layout: the same addresses every step, and nothing broken when the
// step deviates.
#include "tests/allocator/device_pool_lab.hpp"

#include <vector>

namespace spillway {
namespace {

using test::DevicePoolLab;
using test::in_all_orders;
using test::kKiB;
using test::Lab;

const std::vector<LayoutItem> kItems = {
    {8 * kKiB, 0}, {4 * kKiB, 8 * kKiB}, {6 * kKiB, 0}, {10 * kKiB, 6 * kKiB}};

TEST_SUITE("unit") {
  TEST_CASE("every step gets the layout's addresses, also across streams") {
    in_all_orders([](Lab& lab) {
      DevicePoolLab t(lab);
      const StreamRef s = t.stream();
      const StreamRef other = t.stream();
      CHECK(t.pool->load_layout(kItems, 16 * kKiB, s).ok());
      CHECK_EQ(t.pool->stats().reserved_bytes, 16 * kKiB);
      std::vector<cu::DevicePtr> first;
      for (int step = 0; step < 3; ++step) {
        t.pool->begin_step();
        const StreamRef second = step == 1 ? other : s;
        const cu::DevicePtr a = t.take(8 * kKiB, s);
        const cu::DevicePtr b = t.take(4 * kKiB, s);
        t.fill(a, s, 8 * kKiB);
        t.fill(b, s, 4 * kKiB);
        t.give(a, s);
        t.give(b, s);
        const cu::DevicePtr c = t.take(6 * kKiB, second);
        const cu::DevicePtr d = t.take(10 * kKiB, second);
        t.fill(c, second, 6 * kKiB);
        t.fill(d, second, 10 * kKiB);
        t.give(c, second);
        t.give(d, second);
        const std::vector<cu::DevicePtr> now = {a, b, c, d};
        if (step == 0) first = now;
        CHECK(now == first);
        CHECK_EQ(b - a, 8 * kKiB);
        CHECK_EQ(c, a);
        CHECK_EQ(d - c, 6 * kKiB);
      }
      CHECK_EQ(t.pool->stats().planned_count, 12u);
      CHECK_EQ(t.pool->stats().deviated_count, 0u);
      CHECK_EQ(t.pool->stats().reserved_bytes, 16 * kKiB);
      CHECK_EQ(t.pool->stats().host_wait_count, 0u);
    });
  }

  TEST_CASE("a step that deviates is served block by block and found again") {
    in_all_orders([](Lab& lab) {
      DevicePoolLab t(lab);
      const StreamRef s = t.stream();
      CHECK(t.pool->load_layout(kItems, 16 * kKiB, s).ok());
      t.pool->begin_step();
      const cu::DevicePtr a = t.take(8 * kKiB, s);
      const cu::DevicePtr extra = t.take(5 * kKiB, s);  // not in the layout
      const cu::DevicePtr c = t.take(6 * kKiB, s);      // its place is still taken by `a`
      const cu::DevicePtr d = t.take(10 * kKiB, s);     // so is this one's
      for (const cu::DevicePtr block : {a, extra, c, d}) t.fill(block, s, 5 * kKiB);
      CHECK_EQ(t.pool->stats().planned_count, 1u);
      CHECK_EQ(t.pool->stats().deviated_count, 3u);
      for (const cu::DevicePtr block : {a, extra, c, d}) t.give(block, s);
      t.pool->begin_step();
      const cu::DevicePtr again = t.take(8 * kKiB, s);
      CHECK_EQ(again, a);
      t.give(again, s);
    });
  }

  TEST_CASE("an unloaded layout's range is ordinary memory, live blocks of it last") {
    in_all_orders([](Lab& lab) {
      DevicePoolLab t(lab);
      const StreamRef s = t.stream();
      CHECK(t.pool->load_layout(kItems, 16 * kKiB, s).ok());
      t.pool->begin_step();
      const cu::DevicePtr a = t.take(8 * kKiB, s);
      t.pool->unload_layout();
      t.fill(a, s, 8 * kKiB);
      const cu::DevicePtr other = t.take(8 * kKiB, s);
      CHECK_EQ(t.pool->stats().reserved_bytes, 16 * kKiB);
      t.fill(other, s, 8 * kKiB);
      t.give(a, s);
      t.give(other, s);
      const cu::DevicePtr whole = t.take(16 * kKiB, s);
      t.fill(whole, s, 16 * kKiB);
      CHECK_EQ(t.pool->stats().reserved_bytes, 16 * kKiB);
      t.give(whole, s);
    });
  }

  TEST_CASE("at the budget the range of a layout serves others too") {
    in_all_orders([](Lab& lab) {
      DevicePoolOptions options;
      options.budget_bytes = 16 * kKiB;
      DevicePoolLab t(lab, options);
      const StreamRef s = t.stream();
      CHECK(t.pool->load_layout(kItems, 16 * kKiB, s).ok());
      t.pool->begin_step();
      const cu::DevicePtr odd = t.take(7 * kKiB, s);
      t.fill(odd, s, 7 * kKiB);
      t.give(odd, s);
      CHECK_EQ(t.pool->stats().reserved_bytes, 16 * kKiB);
    });
  }

  TEST_CASE("a layout whose items leave its range is refused, and none stays loaded") {
    in_all_orders([](Lab& lab) {
      DevicePoolLab t(lab);
      const StreamRef s = t.stream();
      for (const LayoutItem& item : {LayoutItem{0, 0},
                                     LayoutItem{512, 100},
                                     LayoutItem{1024, 16 * kKiB - 512},
                                     LayoutItem{512, ~std::uint64_t{511}},
                                     LayoutItem{~std::uint64_t{0}, 512}})
        CHECK(t.pool->load_layout({item}, 16 * kKiB, s).code() == Code::kInvalidArgument);
      CHECK(t.pool->load_layout(kItems, 16 * 1024 * kKiB, s).code() == Code::kOutOfMemory);
      CHECK(t.pool->load_layout({}, 0, s).ok());
      CHECK_EQ(t.pool->stats().reserved_bytes, 0u);
    });
  }
}

}  // namespace
}  // namespace spillway
