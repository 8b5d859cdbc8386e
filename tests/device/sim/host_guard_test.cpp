// SPDX-License-Identifier: Apache-2.0
// Touches that hardware forbids are recorded and survived; those of others reach their handler.
#include "device/sim/host_guard.hpp"

#include "tests/device/sim/memory_maker.hpp"

#include <atomic>
#include <csignal>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

using namespace spillway;
using namespace spillway::sim;

namespace {

constexpr std::uint64_t kPage = kPageBytes;

std::vector<HostFault> faults_of(Memory& memory) {
  std::vector<HostFault> faults;
  CHECK(memory.take_faults(&faults));
  return faults;
}

// The exit code of `body` in a child process, or 1000 + signal.
template <typename Body>
int in_child(Body&& body) {
  const pid_t child = fork();
  if (child == 0) {
    for (const int number : {SIGSEGV, SIGBUS}) signal(number, SIG_DFL);
    body();
    _exit(0);
  }
  int state = 0;
  REQUIRE(waitpid(child, &state, 0) == child);
  return WIFEXITED(state) ? WEXITSTATUS(state) : 1000 + WTERMSIG(state);
}

void exit_42(int) { _exit(42); }

struct sigaction handler_before;
void pass_on(int number, siginfo_t* info, void* context) {
  handler_before.sa_sigaction(number, info, context);
}

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("the host reads garbage from device memory, and is seen doing it") {
    const auto memory = small_memory();
    std::uint64_t at = 0;
    REQUIRE(memory->allocate(0, 100, 0, &at) == MemoryError::kOk);
    memory->fill(at, 100, std::byte{1});
    for (int round = 0; round < 3; ++round) {
      CHECK(touch(at + 3) == 0xA5);
      poke(at + 4, 9);  // the page is open now: no second fault
      const std::vector<HostFault> faults = faults_of(*memory);
      REQUIRE(faults.size() == 1);
      CHECK(faults[0].address == at + 3);
      CHECK(faults[0].kind == HostFaultKind::kDeviceAddress);
      CHECK_FALSE(faults[0].write);
      CHECK(faults[0].thread == static_cast<int>(syscall(SYS_gettid)));
      CHECK(faults[0].instruction != 0);
      CHECK_FALSE(memory->any_faults());
    }
    CHECK(*memory->mirror(at + 4) == std::byte{1});
    poke(at, 5);
    const std::vector<HostFault> faults = faults_of(*memory);
    REQUIRE(faults.size() == 1);
    CHECK(faults[0].write);
    CHECK(*memory->mirror(at) == std::byte{1});
  }

  TEST_CASE("a guarded page lets the program go on, read and write are told apart") {
    const auto memory = small_memory();
    std::uint64_t at = 0;
    REQUIRE(memory->allocate_pinned(2 * kPage, 0, &at) == MemoryError::kOk);
    poke(at, 77);
    REQUIRE(memory->guard(at, 10, GuardKind::kNoAccess) == MemoryError::kOk);
    REQUIRE(memory->guard(at + kPage, 10, GuardKind::kReadOnly) == MemoryError::kOk);
    CHECK(touch(at) == 77);
    poke(at + 1, 78);
    CHECK(touch(at + kPage) == touch(at + kPage));
    poke(at + kPage, 79);
    std::vector<HostFault> faults = faults_of(*memory);
    REQUIRE(faults.size() == 3);
    for (const HostFault& fault : faults) CHECK(fault.kind == HostFaultKind::kGuarded);
    CHECK(faults[0].address == at);
    CHECK_FALSE(faults[0].write);
    CHECK(faults[1].address == at + 1);
    CHECK(faults[1].write);
    CHECK(faults[2].address == at + kPage);
    CHECK(faults[2].write);
    // Armed again, and what was written is there.
    CHECK(touch(at + 1) == 78);
    CHECK(faults_of(*memory).size() == 1);
    REQUIRE(memory->unguard(at, 10, GuardKind::kNoAccess) == MemoryError::kOk);
    CHECK(touch(at + 1) == 78);
    CHECK(faults_of(*memory).empty());
  }

  TEST_CASE("freed pinned memory is not the host's any more") {
    const auto memory = small_memory();
    std::uint64_t at = 0;
    REQUIRE(memory->allocate_pinned(kPage, 0, &at) == MemoryError::kOk);
    REQUIRE(memory->guard(at, 1, GuardKind::kNoAccess) == MemoryError::kOk);
    REQUIRE(memory->free_pinned(at) == MemoryError::kOk);
    (void)touch(at);
    const std::vector<HostFault> faults = faults_of(*memory);
    REQUIRE(faults.size() == 1);
    CHECK(faults[0].kind == HostFaultKind::kNotAllocated);
    std::uint64_t again = 0;
    REQUIRE(memory->allocate_pinned(kPage, 0, &again) == MemoryError::kOk);
    CHECK(again == at);
    poke(again, 1);
    CHECK_FALSE(memory->any_faults());
  }

  TEST_CASE("a kernel body that leaves its mapping is seen and reads garbage") {
    const auto memory = small_memory();
    PhysicalId id;
    const std::uint64_t at = map_new(*memory, kPage, &id);
    memory->fill(at, kPage, std::byte{3});
    CHECK(touch(mirror_address(*memory, at)) == 3);
    CHECK(touch(mirror_address(*memory, at + kPage)) == 0xA5);
    std::vector<HostFault> faults = faults_of(*memory);
    REQUIRE(faults.size() == 1);
    CHECK(faults[0].kind == HostFaultKind::kKernel);
    CHECK(faults[0].address == at + kPage);
    REQUIRE(memory->unmap(at, kPage) == MemoryError::kOk);
    poke(mirror_address(*memory, at), 4);
    faults = faults_of(*memory);
    REQUIRE(faults.size() == 1);
    CHECK(faults[0].write);
    REQUIRE(memory->map(at, kPage, id) == MemoryError::kOk);
    REQUIRE(memory->set_access(at, kPage, 0, Access::kRead) == MemoryError::kOk);
    CHECK(touch(mirror_address(*memory, at)) == 3);
    CHECK_FALSE(memory->any_faults());
    poke(mirror_address(*memory, at), 4);
    CHECK(faults_of(*memory).size() == 1);
    CHECK(touch(mirror_address(*memory, at)) == 3);
  }

  TEST_CASE("more faults than fit into the list are survived and everything is armed again") {
    const auto memory = small_memory();
    std::uint64_t at = 0;
    std::uint64_t pinned = 0;
    REQUIRE(memory->reserve((HostGuard::kRecordsMax + 9) * kPage, 0, 0, &at) == MemoryError::kOk);
    REQUIRE(memory->allocate_pinned(kPage, 0, &pinned) == MemoryError::kOk);
    for (std::uint64_t i = 0; i < HostGuard::kRecordsMax + 8; ++i) (void)touch(at + i * kPage);
    PhysicalId id;
    const std::uint64_t mapped = map_new(*memory, kPage, &id);
    poke(mirror_address(*memory, mapped), 8);
    poke(mirror_address(*memory, at), 8);
    REQUIRE(memory->guard(pinned, 1, GuardKind::kNoAccess) == MemoryError::kOk);
    (void)touch(pinned);
    std::vector<HostFault> faults;
    CHECK_FALSE(memory->take_faults(&faults));
    CHECK(faults.size() == HostGuard::kRecordsMax);
    (void)touch(at + (HostGuard::kRecordsMax + 7) * kPage);
    (void)touch(pinned);
    (void)touch(mirror_address(*memory, at));
    CHECK(touch(mirror_address(*memory, mapped)) == 8);
    CHECK(faults_of(*memory).size() == 3);
  }

  TEST_CASE("simulators in several threads each get their own faults") {
    constexpr int kThreads = 4;
    std::atomic<int> seen{0};
    std::vector<std::thread> threads;
    threads.reserve(kThreads);
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&seen] {
        for (int round = 0; round < 20; ++round) {
          Result<std::unique_ptr<Memory>> made = Memory::create(small_options(Contents::kFull));
          if (!made.ok()) return;
          Memory& memory = *made.value();
          std::uint64_t at = 0;
          if (memory.allocate(1, 10, 0, &at) != MemoryError::kOk) return;
          if (touch(at) != 0xA5) return;
          std::vector<HostFault> faults;
          if (memory.take_faults(&faults) && faults.size() == 1 && faults[0].address == at &&
              faults[0].thread == static_cast<int>(syscall(SYS_gettid))) {
            seen.fetch_add(1);
          }
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(seen.load() == kThreads * 20);
  }

  TEST_CASE("a fault of others goes to the handler before, or kills as it would have") {
    const auto wild = [] {
      void* page = mmap(nullptr, kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      poke(reinterpret_cast<std::uint64_t>(page), 1);
    };
    const auto with_memory = [&](auto&& body) {
      Result<std::unique_ptr<Memory>> memory = Memory::create(small_options(Contents::kFull));
      if (!memory.ok()) _exit(3);
      body();
    };
    CHECK(in_child([&] {
            signal(SIGSEGV, exit_42);
            with_memory(wild);
          }) == 42);
    CHECK(in_child([&] { with_memory(wild); }) == 1000 + SIGSEGV);
    CHECK(in_child([&] { with_memory([] { raise(SIGSEGV); }); }) == 1000 + SIGSEGV);
    // A handler that comes later is displaced by the next simulator or reset, and still served.
    const auto with_later_handler = [&](auto&& body) {
      with_memory([&] {
        signal(SIGSEGV, exit_42);
        with_memory(body);
      });
    };
    CHECK(in_child([&] { with_later_handler(wild); }) == 42);
    CHECK(in_child([&] {
            Result<std::unique_ptr<Memory>> memory = Memory::create(small_options(Contents::kFull));
            if (!memory.ok()) _exit(3);
            signal(SIGSEGV, exit_42);
            memory.value()->reset();
            _exit(touch(memory.value()->base()) == 0xA5 && memory.value()->any_faults() ? 0 : 5);
          }) == 0);
    // One that passes on to ours, which passes on to it, ends all the same.
    const int ended = in_child([&] {
      with_memory([&] {
        struct sigaction later {};
        later.sa_sigaction = pass_on;
        later.sa_flags = SA_SIGINFO | SA_NODEFER;
        sigaction(SIGSEGV, &later, &handler_before);
        with_memory(wild);
      });
    });
    CHECK((ended == 1000 + SIGSEGV || ended == 1));  // 1: the address sanitizer's own end
    // After a simulator is gone nothing of it is in the way.
    CHECK(in_child([&] {
            signal(SIGSEGV, exit_42);
            with_memory([] {});
            wild();
          }) == 42);
  }
}
