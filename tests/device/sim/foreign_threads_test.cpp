// SPDX-License-Identifier: Apache-2.0
// Threads that the simulator did not make, all on one machine: each has a context and a stream of
// its own, waits without stopping the others, and leaves its number to the next.
#include "device/sim/simulator.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

using namespace spillway;
using R = cu::Result;

namespace {

/// Serves the process until the end of the test. Never destroyed: its callback thread goes on.
struct Machine {
  sim::Simulator* simulator = nullptr;

  Machine() {
    sim::Options options;
    options.foreign_threads = true;
    auto made = sim::Simulator::create(options);
    REQUIRE(made.ok());
    static std::vector<std::unique_ptr<sim::Simulator>>& all =
        *new std::vector<std::unique_ptr<sim::Simulator>>;
    all.push_back(std::move(made.value()));
    simulator = all.back().get();
    simulator->serve_process();
    REQUIRE(simulator->driver().cuInit(0) == R::kSuccess);
  }
};

cu::Context use_gpu(const Driver& d) {
  cu::Context context = nullptr;
  REQUIRE(d.cuDevicePrimaryCtxRetain(&context, 0) == R::kSuccess);
  REQUIRE(d.cuCtxSetCurrent(context) == R::kSuccess);
  return context;
}

/// The number of steps that did not go as they should; doctest's checks are for one thread.
int round_trip(const Driver& d, cu::Context context, unsigned char value) {
  constexpr std::size_t kBytes = 10000;
  int wrong = 0;
  const auto must = [&wrong](R result) { wrong += result == R::kSuccess ? 0 : 1; };
  cu::Stream stream = nullptr;
  cu::DevicePtr memory = 0;
  std::vector<unsigned char> got(kBytes);
  must(d.cuCtxSetCurrent(context));
  must(d.cuStreamCreate(&stream, cu::kStreamNonBlocking));
  must(d.cuMemAlloc(&memory, kBytes));
  must(d.cuMemsetD8Async(memory, value, kBytes, stream));
  must(d.cuMemcpyDtoHAsync(got.data(), memory, kBytes, stream));
  must(d.cuStreamSynchronize(stream));
  for (const unsigned char byte : got) wrong += byte == value ? 0 : 1;
  must(d.cuMemFree(memory));
  must(d.cuStreamDestroy(stream));
  return wrong;
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("threads of the process share a machine and order nothing wrongly") {
    const Machine machine;
    const Driver& d = machine.simulator->driver();
    const cu::Context context = use_gpu(d);
    std::atomic<int> wrong{0};
    // Waves, so that threads come to the numbers of others that have ended.
    for (int wave = 0; wave < 3; ++wave) {
      std::vector<std::thread> all;
      all.reserve(6);
      for (int t = 0; t < 6; ++t)
        all.emplace_back([&, t] {
          cu::Context current = context;
          if (d.cuCtxGetCurrent(&current) != R::kSuccess || current != nullptr) ++wrong;
          for (int i = 0; i < 10; ++i)
            wrong += round_trip(d, context, static_cast<unsigned char>(10 * t + i));
        });
      for (std::thread& thread : all) thread.join();
    }
    CHECK(wrong == 0);
    CHECK(machine.simulator->end_process() == "");
    sim::Simulator::serve_nobody();
    CHECK(d.cuCtxSynchronize() == R::kNotInitialized);
  }

  TEST_CASE("a host function of a foreign thread runs while others call") {
    const Machine machine;
    const Driver& d = machine.simulator->driver();
    const cu::Context context = use_gpu(d);
    std::mutex gate;
    std::unique_lock closed(gate);
    std::atomic<int> wrong{0};
    // The function waits for the gate, and the gate opens when this thread's calls are done.
    std::thread waiting([&] {
      if (d.cuCtxSetCurrent(context) != R::kSuccess) ++wrong;
      const cu::HostFn pass = [](void* g) {
        const std::lock_guard lock(*static_cast<std::mutex*>(g));
      };
      if (d.cuLaunchHostFunc(cu::stream_per_thread(), pass, &gate) != R::kSuccess) ++wrong;
      if (d.cuStreamSynchronize(cu::stream_per_thread()) != R::kSuccess) ++wrong;
    });
    for (int i = 0; i < 10; ++i) wrong += round_trip(d, context, static_cast<unsigned char>(i));
    closed.unlock();
    waiting.join();
    CHECK(wrong == 0);
    CHECK(machine.simulator->end_process() == "");
    sim::Simulator::serve_nobody();
    CHECK(d.cuCtxSynchronize() == R::kNotInitialized);
  }
}
