// SPDX-License-Identifier: Apache-2.0
// Page-locked host memory: allocated by the driver, or the program's own, registered. Source: CUDA
// driver API, cuMemHostAlloc to cuMemHostUnregister.
#include "tests/device/conformance/cases.hpp"

#include <cstdlib>
#include <memory>

namespace spillway::conformance {
namespace {

constexpr std::size_t kN = 1024;
constexpr std::size_t kBytes = kN * 4;

/// Whole pages of the program's own, so that no two registrations can share one.
struct FreePages {
  void operator()(void* pages) const { std::free(pages); }
};
std::unique_ptr<void, FreePages> own_pages(std::size_t bytes) {
  return std::unique_ptr<void, FreePages>(std::aligned_alloc(65536, bytes));
}

SPW_CONFORMANCE("host memory",
                allocated,
                "memory from cuMemHostAlloc is host memory with the same address on the device") {
  const PinnedBuffer host = env.pinned(kBytes);
  const cu::DevicePtr address = reinterpret_cast<std::uintptr_t>(host.data());
  auto type = cu::MemoryType{};
  SPW_OK(env.d.cuPointerGetAttribute(&type, cu::PointerAttribute::kMemoryType, address));
  CHECK(type == cu::MemoryType::kHost);
  cu::DevicePtr pointer = 0;
  SPW_OK(env.d.cuMemHostGetDevicePointer(&pointer, host.data(), 0));
  CHECK(pointer == address);
  void* back = nullptr;
  SPW_OK(env.d.cuPointerGetAttribute(&back, cu::PointerAttribute::kHostPointer, pointer));
  CHECK(back == host.data());
}

SPW_CONFORMANCE("host memory",
                kernels_reach_it,
                "a kernel writes to pinned memory and the host sees it after a wait") {
  const PinnedBuffer host = env.pinned(kBytes);
  auto* const data = static_cast<std::uint32_t*>(host.data());
  for (std::size_t i = 0; i < kN; ++i) data[i] = 1;
  cu::DevicePtr pointer = 0;
  SPW_MUST(env.d.cuMemHostGetDevicePointer(&pointer, host.data(), 0));
  const Stream s = env.non_blocking_stream();
  SPW_OK(env.launch_increment(s.handle(), pointer, kN));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  CHECK(data[0] == 2);
  CHECK(data[kN - 1] == 2);
}

SPW_CONFORMANCE("host memory", flags, "allocated host memory tells the flags it was made with") {
  // A driver with unified addressing may add "mapped" of its own.
  const PinnedBuffer host = env.pinned(kBytes, cu::kHostAllocPortable);
  unsigned int got = 0;
  SPW_OK(env.d.cuMemHostGetFlags(&got, host.data()));
  CHECK((got & cu::kHostAllocPortable) != 0);
  CHECK((got & cu::kHostAllocWriteCombined) == 0);
}

SPW_CONFORMANCE("host memory",
                bad_allocations,
                "host memory is not allocated to nowhere or with unknown flags") {
  void* pointer = nullptr;
  SPW_EXPECT(kInvalidValue, env.d.cuMemHostAlloc(nullptr, kBytes, 0));
  SPW_EXPECT(kInvalidValue, env.d.cuMemHostAlloc(&pointer, kBytes, 0x8000));
  // Zero bytes: an error, or nothing. Documented is neither.
  const Result zero = env.d.cuMemHostAlloc(&pointer, 0, 0);
  SPW_EXPECT_ONE_OF(zero, {Result::kInvalidValue, Result::kSuccess});
  if (zero == Result::kSuccess && pointer != nullptr) SPW_OK(env.d.cuMemFreeHost(pointer));
}

SPW_CONFORMANCE("host memory",
                free_of_foreign,
                "only what cuMemHostAlloc gave can be freed, and only once") {
  PinnedBuffer host = env.pinned(kBytes);
  const auto pages = own_pages(65536);
  void* const pointer = host.release();
  SPW_OK(env.d.cuMemFreeHost(pointer));
  SPW_EXPECT(kInvalidValue, env.d.cuMemFreeHost(pointer));
  SPW_EXPECT(kInvalidValue, env.d.cuMemFreeHost(pages.get()));
}

SPW_CONFORMANCE("host memory",
                registered,
                "the program's own pages can be registered, used by copies, and let go") {
  const auto pages = own_pages(65536);
  auto* const data = static_cast<std::uint32_t*>(pages.get());
  for (std::size_t i = 0; i < kN; ++i) data[i] = 33;
  SPW_MUST(env.d.cuMemHostRegister(data, 65536, cu::kHostRegisterPortable));
  auto type = cu::MemoryType{};
  SPW_OK(env.d.cuPointerGetAttribute(
      &type, cu::PointerAttribute::kMemoryType, reinterpret_cast<std::uintptr_t>(data)));
  CHECK(type == cu::MemoryType::kHost);
  {
    const Memory a = env.memory(kBytes);
    const Stream s = env.non_blocking_stream();
    SPW_OK(env.d.cuMemcpyHtoDAsync(a, data, kBytes, s.handle()));
    SPW_OK(env.launch_increment(s.handle(), a, kN));
    SPW_OK(env.d.cuMemcpyDtoHAsync(data, a, kBytes, s.handle()));
    SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  }
  CHECK(data[kN - 1] == 34);
  SPW_OK(env.d.cuMemHostUnregister(data));
  data[0] = 1;
  CHECK(data[kN - 1] == 34);
}

SPW_CONFORMANCE("host memory",
                registered_twice,
                "registering again, also what the driver allocated, is error 712") {
  const auto pages = own_pages(65536);
  SPW_MUST(env.d.cuMemHostRegister(pages.get(), 65536, 0));
  SPW_EXPECT(kHostMemoryAlreadyRegistered, env.d.cuMemHostRegister(pages.get(), 65536, 0));
  SPW_OK(env.d.cuMemHostUnregister(pages.get()));
  SPW_MUST(env.d.cuMemHostRegister(pages.get(), 65536, 0));
  SPW_OK(env.d.cuMemHostUnregister(pages.get()));
  const PinnedBuffer host = env.pinned(65536);
  SPW_EXPECT(kHostMemoryAlreadyRegistered, env.d.cuMemHostRegister(host.data(), 65536, 0));
}

SPW_CONFORMANCE("host memory",
                unregistered_twice,
                "letting go of what is not registered is error 713") {
  const auto pages = own_pages(65536);
  SPW_EXPECT(kHostMemoryNotRegistered, env.d.cuMemHostUnregister(pages.get()));
  SPW_MUST(env.d.cuMemHostRegister(pages.get(), 65536, 0));
  // The base address must be the one that was registered; drivers differ in the code.
  SPW_EXPECT_ONE_OF(env.d.cuMemHostUnregister(static_cast<char*>(pages.get()) + 4096),
                    {Result::kHostMemoryNotRegistered, Result::kInvalidValue});
  SPW_OK(env.d.cuMemHostUnregister(pages.get()));
  SPW_EXPECT(kHostMemoryNotRegistered, env.d.cuMemHostUnregister(pages.get()));
}

SPW_CONFORMANCE("host memory",
                bad_registrations,
                "nothing, a size of zero and unknown flags cannot be registered") {
  const auto pages = own_pages(65536);
  SPW_EXPECT(kInvalidValue, env.d.cuMemHostRegister(nullptr, 65536, 0));
  SPW_EXPECT(kInvalidValue, env.d.cuMemHostRegister(pages.get(), 0, 0));
  SPW_EXPECT(kInvalidValue, env.d.cuMemHostRegister(pages.get(), 65536, 0x8000));
}

SPW_CONFORMANCE("host memory",
                wrong_free,
                "registered memory is not freed, allocated memory is not unregistered") {
  const auto pages = own_pages(65536);
  SPW_MUST(env.d.cuMemHostRegister(pages.get(), 65536, 0));
  SPW_EXPECT(kInvalidValue, env.d.cuMemFreeHost(pages.get()));
  SPW_OK(env.d.cuMemHostUnregister(pages.get()));
  const PinnedBuffer host = env.pinned(kBytes);
  // Both codes fit its documentation.
  SPW_EXPECT_ONE_OF(env.d.cuMemHostUnregister(host.data()),
                    {Result::kHostMemoryNotRegistered, Result::kInvalidValue});
}

SPW_CONFORMANCE("host memory",
                device_pointer_errors,
                "pageable memory has no device pointer, and the call takes no flags") {
  const auto pages = own_pages(65536);
  const PinnedBuffer host = env.pinned(kBytes);
  cu::DevicePtr pointer = 0;
  SPW_EXPECT(kInvalidValue, env.d.cuMemHostGetDevicePointer(&pointer, host.data(), 1));
  // Where the device reads all host memory through the host's page tables, this may work.
  SPW_EXPECT_ONE_OF(env.d.cuMemHostGetDevicePointer(&pointer, pages.get(), 0),
                    {Result::kInvalidValue, Result::kSuccess});
}

}  // namespace
}  // namespace spillway::conformance
