// SPDX-License-Identifier: Apache-2.0
// What a conformance case gets: a driver table with a current context, the four kernels of
// kernels.hpp, and small owners that clean up whatever a failed check leaves behind. Cases use the
// table alone, so that they run unchanged on a real driver and on the simulated GPU.
#pragma once

#include "device/driver.hpp"
#include "device/driver_error.hpp"
#include "device/event.hpp"
#include "device/mapping.hpp"
#include "device/pinned_buffer.hpp"
#include "device/stream.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <vector>

namespace spillway::conformance {

using cu::Result;

/// Who answers behind the table.
struct Provider {
  const Driver* driver = nullptr;
  const Driver* per_thread = nullptr;  // the same device, null stream per thread; may be missing
};

/// "CUDA_ERROR_NOT_READY (600)", for the text of a failed check.
std::string text_of(Result result);

/// Whether `got` is one of several codes that a case accepts.
bool is_one_of(Result got, std::initializer_list<Result> accepted);

class ConformanceEnv {
 public:
  /// cuInit, the primary context of device 0 made current, the kernels loaded. A provider that
  /// cannot do that fails the running test.
  explicit ConformanceEnv(const Provider& provider);
  ConformanceEnv(const ConformanceEnv&) = delete;
  ConformanceEnv& operator=(const ConformanceEnv&) = delete;
  ConformanceEnv(ConformanceEnv&&) = delete;
  ConformanceEnv& operator=(ConformanceEnv&&) = delete;
  /// Waits for the device and takes everything down again.
  ~ConformanceEnv();

  const Driver& d;  // short, because every line of every case says it
  const Driver* const per_thread;
  cu::Device device = 0;
  cu::Context context = nullptr;
  cu::Function fill = nullptr;
  cu::Function copy = nullptr;
  cu::Function increment = nullptr;
  cu::Function spin = nullptr;

  [[nodiscard]] int attribute(cu::DeviceAttribute which) const;
  [[nodiscard]] bool has_pools() const;
  [[nodiscard]] bool has_virtual_memory() const;

  // --- Owners ------------------------------------------------------------------------------------
  /// Of cuMemAlloc; freed at the end.
  class Memory {
   public:
    Memory(const Driver& driver, cu::DevicePtr pointer) : owned_(driver, pointer) {}
    [[nodiscard]] cu::DevicePtr get() const { return owned_.get(); }
    operator cu::DevicePtr() const { return owned_.get(); }  // NOLINT(google-explicit-constructor)
    [[nodiscard]] cu::DevicePtr release() { return owned_.release(); }

   private:
    struct End {
      using Handle = cu::DevicePtr;
      static constexpr const char* kCall = "cuMemFree(pointer)";
      static Result end(const Driver& driver, Handle pointer) { return driver.cuMemFree(pointer); }
    };
    OwnedHandle<End> owned_;
  };
  [[nodiscard]] Memory memory(std::size_t bytes) const;
  /// Memory of `words` 32-bit words, all `value`, and ready before this returns.
  [[nodiscard]] Memory filled(std::size_t words, std::uint32_t value) const;
  [[nodiscard]] PinnedBuffer pinned(std::size_t bytes,
                                    unsigned int flags = cu::kHostAllocPortable) const;
  /// Blocking: joins the legacy default stream.
  [[nodiscard]] Stream blocking_stream() const;
  [[nodiscard]] Stream non_blocking_stream() const;
  [[nodiscard]] Event event(unsigned int flags = cu::kEventDisableTiming) const;

  // --- Work on 32-bit words; each returns what the launch or the copy answered
  // --------------------
  Result launch_fill(cu::Stream s, cu::DevicePtr out, std::uint32_t value, std::uint64_t n) const;
  Result launch_copy(cu::Stream s, cu::DevicePtr to, cu::DevicePtr from, std::uint64_t n) const;
  Result launch_increment(cu::Stream s, cu::DevicePtr data, std::uint64_t n) const;
  /// Keeps the stream busy for some ten milliseconds of a real device.
  Result launch_spin(cu::Stream s) const;
  /// launch_fill through another table of the same device.
  Result launch_fill(const Driver& table,
                     cu::Stream s,
                     cu::DevicePtr out,
                     std::uint32_t value,
                     std::uint64_t n) const;

  // --- Looking. Synchronous copies; ordered only with what has been synchronised before
  // -----------
  [[nodiscard]] std::vector<std::uint32_t> words(cu::DevicePtr from, std::size_t n) const;
  /// Checks that all n words are `value`.
  void check_words(cu::DevicePtr from, std::size_t n, std::uint32_t value) const;

  /// Asks again and again until the answer is something else than "not ready".
  [[nodiscard]] static Result poll(const std::function<Result()>& query);
  /// Runs `body` on a second host thread, which has no current context, and waits for its end.
  /// `body` makes no CHECKs: it stores what it got.
  static void on_other_thread(const std::function<void()>& body);

 private:
  void load_kernels();

  cu::Module module_ = nullptr;
};

using Memory = ConformanceEnv::Memory;

}  // namespace spillway::conformance

// The checks name the code they got.
#define SPW_EXPECT(code, call)                                     \
  do {                                                             \
    const ::spillway::cu::Result spw_got = (call);                 \
    INFO("got " << ::spillway::conformance::text_of(spw_got));     \
    CHECK_MESSAGE(spw_got == ::spillway::cu::Result::code, #call); \
  } while (false)

/// SPW_EXPECT_ONE_OF(call, {codes}): where NVIDIA documents no single code, or drivers differ.
#define SPW_EXPECT_ONE_OF(call, ...)                                                \
  do {                                                                              \
    const ::spillway::cu::Result spw_got = (call);                                  \
    INFO("got " << ::spillway::conformance::text_of(spw_got));                      \
    CHECK_MESSAGE(::spillway::conformance::is_one_of(spw_got, __VA_ARGS__), #call); \
  } while (false)

/// Fails, with whatever code.
#define SPW_EXPECT_FAILURE(call)                                       \
  do {                                                                 \
    const ::spillway::cu::Result spw_got = (call);                     \
    CHECK_MESSAGE(spw_got != ::spillway::cu::Result::kSuccess, #call); \
  } while (false)

#define SPW_OK(call) SPW_EXPECT(kSuccess, call)

/// The rest of the case makes no sense without it.
#define SPW_MUST(call)                                                   \
  do {                                                                   \
    const ::spillway::cu::Result spw_got = (call);                       \
    INFO("got " << ::spillway::conformance::text_of(spw_got));           \
    REQUIRE_MESSAGE(spw_got == ::spillway::cu::Result::kSuccess, #call); \
  } while (false)
