// SPDX-License-Identifier: Apache-2.0
// cuMemAlloc and its relatives: alignment, sizes, freeing what is not there, what a pointer tells,
// copies and sets, pitch, managed memory. Source: CUDA driver API, memory management and unified
// addressing.
#include "tests/device/conformance/cases.hpp"

#include <array>
#include <limits>
#include <numeric>

namespace spillway::conformance {
namespace {

constexpr std::size_t kN = 1024;
constexpr std::size_t kBytes = kN * 4;
constexpr std::size_t kMiB = std::size_t{1} << 20;

SPW_CONFORMANCE("memory",
                alignment,
                "every pointer is a multiple of 256 and no two allocations overlap") {
  std::vector<Memory> all;
  std::vector<std::size_t> sizes = {1, 3, 255, 256, 257, 4096, 100'000, 2 * kMiB};
  for (const std::size_t bytes : sizes) {
    all.push_back(env.memory(bytes));
    CHECK(all.back() % 256 == 0);
    CHECK(all.back() != 0);
  }
  for (std::size_t i = 0; i < all.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      CHECK((all[i] + sizes[i] <= all[j] || all[j] + sizes[j] <= all[i]));
}

SPW_CONFORMANCE("memory", bad_sizes, "nothing is allocated for a size of zero or to nowhere") {
  cu::DevicePtr pointer = 0;
  SPW_EXPECT(kInvalidValue, env.d.cuMemAlloc(&pointer, 0));
  SPW_EXPECT(kInvalidValue, env.d.cuMemAlloc(nullptr, 256));
}

SPW_CONFORMANCE("memory",
                out_of_memory,
                "more than the device has is out of memory, and the device stays usable") {
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
  SPW_OK(env.d.cuMemGetInfo(&free_bytes, &total_bytes));
  cu::DevicePtr pointer = 0;
  SPW_EXPECT(kOutOfMemory, env.d.cuMemAlloc(&pointer, total_bytes + (std::size_t{1} << 30)));
  SPW_EXPECT(kOutOfMemory, env.d.cuMemAlloc(&pointer, std::size_t{1} << 50));
  // Rounding up must not wrap; which of the two codes is not documented.
  SPW_EXPECT_ONE_OF(env.d.cuMemAlloc(&pointer, std::numeric_limits<std::size_t>::max()),
                    {Result::kOutOfMemory, Result::kInvalidValue});
  SPW_EXPECT_ONE_OF(env.d.cuMemAlloc(&pointer, std::numeric_limits<std::size_t>::max() - 255),
                    {Result::kOutOfMemory, Result::kInvalidValue});
  SPW_OK(env.d.cuCtxSynchronize());
  const Memory a = env.filled(kN, 0);
  SPW_OK(env.launch_fill(nullptr, a, 1, kN));
  env.check_words(a, kN, 1);
}

SPW_CONFORMANCE("memory",
                free_again,
                "memory is freed once: a second time is an error and changes nothing") {
  Memory a = env.memory(kBytes);
  const Memory b = env.filled(kN, 3);
  const cu::DevicePtr pointer = a.release();
  SPW_OK(env.d.cuMemFree(pointer));
  SPW_EXPECT(kInvalidValue, env.d.cuMemFree(pointer));
  env.check_words(b, kN, 3);
}

SPW_CONFORMANCE("memory",
                free_of_foreign_pointers,
                "an interior, a host's or a made-up pointer cannot be freed, and nothing changes") {
  const Memory a = env.filled(kN, 4);
  std::vector<char> host(4096);
  const PinnedBuffer pinned = env.pinned(4096);
  SPW_EXPECT(kInvalidValue, env.d.cuMemFree(a + 256));
  SPW_EXPECT(kInvalidValue, env.d.cuMemFree(reinterpret_cast<std::uintptr_t>(host.data())));
  SPW_EXPECT(kInvalidValue, env.d.cuMemFree(reinterpret_cast<std::uintptr_t>(pinned.data())));
  SPW_EXPECT(kInvalidValue, env.d.cuMemFree(0x10));
  env.check_words(a, kN, 4);
}

SPW_CONFORMANCE("memory", free_of_null, "freeing null harms nothing") {
  // Drivers have been seen to take it; documented is neither.
  SPW_EXPECT_ONE_OF(env.d.cuMemFree(0), {Result::kSuccess, Result::kInvalidValue});
  const Memory a = env.filled(kN, 5);
  env.check_words(a, kN, 5);
}

SPW_CONFORMANCE("memory",
                free_from_another_thread,
                "memory may be freed by another host thread in the same context") {
  Memory a = env.memory(kBytes);
  const cu::DevicePtr pointer = a.release();
  auto set = Result::kUnknown;
  auto freed = Result::kUnknown;
  env.on_other_thread([&] {
    set = env.d.cuCtxSetCurrent(env.context);
    freed = env.d.cuMemFree(pointer);
  });
  SPW_OK(set);
  SPW_OK(freed);
  SPW_EXPECT(kInvalidValue, env.d.cuMemFree(pointer));
}

SPW_CONFORMANCE("memory",
                memory_info,
                "free memory is part of the total, and falls by what is allocated") {
  constexpr std::size_t kBig = 16 * kMiB;
  std::size_t before = 0;
  std::size_t after = 0;
  std::size_t total = 0;
  SPW_OK(env.d.cuMemGetInfo(&before, &total));
  CHECK(before <= total);
  std::size_t device_total = 0;
  SPW_OK(env.d.cuDeviceTotalMem(&device_total, env.device));
  CHECK(total <= device_total);
  const Memory a = env.memory(kBig);
  SPW_OK(env.d.cuMemGetInfo(&after, &total));
  // Other processes on the same device may allocate meanwhile; that they free as much is unlikely.
  CHECK(after + kBig <= before);
}

SPW_CONFORMANCE(
    "memory",
    address_range,
    "the range of an interior pointer is its allocation, and either answer may be left out") {
  const Memory a = env.memory(kBytes);
  cu::DevicePtr base = 0;
  std::size_t bytes = 0;
  SPW_OK(env.d.cuMemGetAddressRange(&base, &bytes, a + 100));
  CHECK(base == a.get());
  CHECK(bytes == kBytes);
  base = 0;
  bytes = 0;
  SPW_OK(env.d.cuMemGetAddressRange(&base, nullptr, a + kBytes - 1));
  SPW_OK(env.d.cuMemGetAddressRange(nullptr, &bytes, a));
  CHECK(base == a.get());
  CHECK(bytes == kBytes);
  SPW_EXPECT_ONE_OF(env.d.cuMemGetAddressRange(&base, &bytes, 0x10),
                    {Result::kNotFound, Result::kInvalidValue});
}

SPW_CONFORMANCE("memory",
                pointer_attributes,
                "a device pointer tells its kind, context, device and range") {
  const Memory a = env.memory(kBytes);
  auto type = cu::MemoryType{};
  SPW_OK(env.d.cuPointerGetAttribute(&type, cu::PointerAttribute::kMemoryType, a + 8));
  CHECK(type == cu::MemoryType::kDevice);
  cu::Context context = nullptr;
  SPW_OK(env.d.cuPointerGetAttribute(&context, cu::PointerAttribute::kContext, a));
  CHECK(context == env.context);
  int ordinal = -1;
  SPW_OK(env.d.cuPointerGetAttribute(&ordinal, cu::PointerAttribute::kDeviceOrdinal, a));
  CHECK(ordinal == env.device);
  cu::DevicePtr start = 0;
  SPW_OK(env.d.cuPointerGetAttribute(&start, cu::PointerAttribute::kRangeStartAddr, a + 8));
  CHECK(start == a.get());
  std::size_t bytes = 0;
  SPW_OK(env.d.cuPointerGetAttribute(&bytes, cu::PointerAttribute::kRangeSize, a));
  CHECK(bytes == kBytes);
  cu::DevicePtr same = 0;
  SPW_OK(env.d.cuPointerGetAttribute(&same, cu::PointerAttribute::kDevicePointer, a + 8));
  CHECK(same == a + 8);
  void* host = nullptr;
  SPW_EXPECT(kInvalidValue,
             env.d.cuPointerGetAttribute(&host, cu::PointerAttribute::kHostPointer, a));
}

SPW_CONFORMANCE("memory",
                attributes_of_foreign_pointers,
                "one attribute of a pointer that is not ours is an error, a list of them is not") {
  std::vector<char> host(64);
  const cu::DevicePtr pointer = reinterpret_cast<std::uintptr_t>(host.data());
  auto type = cu::MemoryType{};
  SPW_EXPECT(kInvalidValue,
             env.d.cuPointerGetAttribute(&type, cu::PointerAttribute::kMemoryType, pointer));
  cu::Context context = env.context;
  std::array<cu::PointerAttribute, 2> which = {cu::PointerAttribute::kContext,
                                               cu::PointerAttribute::kMemoryType};
  std::array<void*, 2> out = {&context, &type};
  SPW_OK(env.d.cuPointerGetAttributes(2, which.data(), out.data(), pointer));
  CHECK(context == nullptr);
}

SPW_CONFORMANCE("memory",
                attributes_in_one_call,
                "a list of attributes gives what each gives alone") {
  const Memory a = env.memory(kBytes);
  auto type = cu::MemoryType{};
  cu::DevicePtr start = 0;
  std::size_t bytes = 0;
  std::array<cu::PointerAttribute, 3> which = {cu::PointerAttribute::kMemoryType,
                                               cu::PointerAttribute::kRangeStartAddr,
                                               cu::PointerAttribute::kRangeSize};
  std::array<void*, 3> out = {&type, &start, &bytes};
  SPW_OK(env.d.cuPointerGetAttributes(3, which.data(), out.data(), a + 4));
  CHECK(type == cu::MemoryType::kDevice);
  CHECK(start == a.get());
  CHECK(bytes == kBytes);
}

SPW_CONFORMANCE("memory",
                buffer_ids,
                "memory allocated again at the same address has another buffer id") {
  unsigned long long first = 0;
  unsigned long long second = 0;
  {
    const Memory a = env.memory(kBytes);
    SPW_OK(env.d.cuPointerGetAttribute(&first, cu::PointerAttribute::kBufferId, a));
  }
  const Memory b = env.memory(kBytes);
  SPW_OK(env.d.cuPointerGetAttribute(&second, cu::PointerAttribute::kBufferId, b));
  CHECK(first != second);
}

// --- Copies and sets -----------------------------------------------------------------------------

SPW_CONFORMANCE("memory", round_trip, "bytes come back from the device as they went there") {
  std::vector<std::uint32_t> in(kN);
  std::iota(in.begin(), in.end(), 7u);
  std::vector<std::uint32_t> out(kN, 0);
  const Memory a = env.memory(kBytes);
  const Memory b = env.memory(kBytes);
  SPW_OK(env.d.cuMemcpyHtoD(a, in.data(), kBytes));
  SPW_OK(env.d.cuMemcpyDtoD(b, a, kBytes));
  SPW_OK(env.d.cuMemcpyDtoH(out.data(), b, kBytes));
  CHECK(in == out);
}

SPW_CONFORMANCE("memory",
                unified_copies,
                "a copy of unnamed direction finds it from the pointers") {
  std::vector<std::uint32_t> in(kN, 9);
  std::vector<std::uint32_t> out(kN, 0);
  const auto pointer = [](std::vector<std::uint32_t>& v) {
    return static_cast<cu::DevicePtr>(reinterpret_cast<std::uintptr_t>(v.data()));
  };
  const Memory a = env.memory(kBytes);
  const Memory b = env.memory(kBytes);
  const Stream s = env.non_blocking_stream();
  SPW_OK(env.d.cuMemcpy(a, pointer(in), kBytes));
  SPW_OK(env.d.cuMemcpy(b, a, kBytes));
  SPW_OK(env.d.cuMemcpy(pointer(out), b, kBytes));
  CHECK(in == out);
  SPW_OK(env.d.cuMemsetD8(b, 0, kBytes));
  SPW_OK(env.d.cuStreamSynchronize(nullptr));
  SPW_OK(env.d.cuMemcpyAsync(b, a, kBytes, s.handle()));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  env.check_words(b, kN, 9);
}

SPW_CONFORMANCE("memory", parts, "copies and sets of a part leave the rest alone, byte by byte") {
  const Memory a = env.memory(16);
  SPW_OK(env.d.cuMemsetD8(a, 0x11, 16));
  SPW_OK(env.d.cuMemsetD8(a + 3, 0x22, 5));
  const std::array<unsigned char, 3> in = {1, 2, 3};
  SPW_OK(env.d.cuMemcpyHtoD(a + 9, in.data(), in.size()));
  std::array<unsigned char, 16> out{};
  SPW_OK(env.d.cuMemcpyDtoH(out.data(), a, out.size()));
  const std::array<unsigned char, 16> expected = {
      0x11, 0x11, 0x11, 0x22, 0x22, 0x22, 0x22, 0x22, 0x11, 1, 2, 3, 0x11, 0x11, 0x11, 0x11};
  CHECK(out == expected);
}

SPW_CONFORMANCE("memory", set_widths, "sets write elements of one, two or four bytes") {
  const Memory a = env.memory(32);
  const Stream s = env.non_blocking_stream();
  SPW_OK(env.d.cuMemsetD8Async(a, 0xab, 8, s.handle()));
  SPW_OK(env.d.cuMemsetD16Async(a + 8, 0x1234, 4, s.handle()));
  SPW_OK(env.d.cuMemsetD32Async(a + 16, 0x89abcdef, 4, s.handle()));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  const std::vector<std::uint32_t> got = env.words(a, 8);
  CHECK(got == std::vector<std::uint32_t>{0xabababab,
                                          0xabababab,
                                          0x12341234,
                                          0x12341234,
                                          0x89abcdef,
                                          0x89abcdef,
                                          0x89abcdef,
                                          0x89abcdef});
}

SPW_CONFORMANCE("memory", nothing_to_do, "copying or setting nothing is no error") {
  const Memory a = env.filled(kN, 6);
  const Stream s = env.non_blocking_stream();
  std::uint32_t host = 1;
  SPW_OK(env.d.cuMemcpyHtoD(a, &host, 0));
  SPW_OK(env.d.cuMemcpyDtoH(&host, a, 0));
  SPW_OK(env.d.cuMemcpyHtoDAsync(a, &host, 0, s.handle()));
  SPW_OK(env.d.cuMemsetD8Async(a, 1, 0, s.handle()));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  CHECK(host == 1);
  env.check_words(a, kN, 6);
}

SPW_CONFORMANCE("memory",
                bad_copies,
                "copies from or to nowhere and sets that are not aligned are refused") {
  const Memory a = env.filled(kN, 7);
  std::uint32_t host = 0;
  SPW_EXPECT(kInvalidValue, env.d.cuMemcpyHtoD(0, &host, 4));
  SPW_EXPECT(kInvalidValue, env.d.cuMemcpyHtoD(a, nullptr, 4));
  SPW_EXPECT(kInvalidValue, env.d.cuMemcpyDtoH(nullptr, a, 4));
  SPW_EXPECT(kInvalidValue, env.d.cuMemcpyDtoD(a, 0, 4));
  SPW_EXPECT(kInvalidValue, env.d.cuMemsetD32(a + 2, 1, 1));
  SPW_EXPECT(kInvalidValue, env.d.cuMemsetD8(0, 1, 4));
  env.check_words(a, kN, 7);
}

SPW_CONFORMANCE("memory", peer_copy_to_itself, "a peer copy within one context is a copy") {
  const Memory a = env.filled(kN, 8);
  const Memory b = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  SPW_OK(env.d.cuMemcpyPeerAsync(b, env.context, a, env.context, kBytes, s.handle()));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  env.check_words(b, kN, 8);
}

// --- Pitch ---------------------------------------------------------------------------------------

SPW_CONFORMANCE("memory",
                pitch,
                "rows of pitched memory are aligned and all of them belong to the allocation") {
  cu::DevicePtr pointer = 0;
  std::size_t pitch_bytes = 0;
  SPW_MUST(env.d.cuMemAllocPitch(&pointer, &pitch_bytes, 100, 10, 4));
  const Memory a(env.d, pointer);
  CHECK(pitch_bytes >= 100);
  const int alignment = env.attribute(cu::DeviceAttribute::kTexturePitchAlignment);
  REQUIRE(alignment > 0);
  CHECK(pitch_bytes % static_cast<std::size_t>(alignment) == 0);
  cu::DevicePtr base = 0;
  std::size_t bytes = 0;
  SPW_OK(env.d.cuMemGetAddressRange(&base, &bytes, pointer + 9 * pitch_bytes));
  CHECK(base == pointer);
  CHECK(bytes >= 9 * pitch_bytes + 100);
  SPW_OK(env.d.cuMemsetD8(pointer, 1, 9 * pitch_bytes + 100));
  SPW_OK(env.d.cuCtxSynchronize());
}

SPW_CONFORMANCE("memory", bad_pitch, "pitched memory without rows or columns is refused") {
  cu::DevicePtr pointer = 0;
  std::size_t pitch_bytes = 0;
  SPW_EXPECT(kInvalidValue, env.d.cuMemAllocPitch(&pointer, &pitch_bytes, 0, 10, 4));
  SPW_EXPECT(kInvalidValue, env.d.cuMemAllocPitch(&pointer, &pitch_bytes, 100, 0, 4));
  SPW_EXPECT(kInvalidValue, env.d.cuMemAllocPitch(nullptr, &pitch_bytes, 100, 10, 4));
}

// --- Managed memory ------------------------------------------------------------------------------

SPW_CONFORMANCE("memory",
                managed,
                "managed memory is one address for host and device, each after the other") {
  if (env.attribute(cu::DeviceAttribute::kManagedMemory) == 0) return;
  cu::DevicePtr pointer = 0;
  SPW_MUST(env.d.cuMemAllocManaged(&pointer, kBytes, cu::kAttachGlobal));
  const Memory a(env.d, pointer);
  // NOLINTNEXTLINE(performance-no-int-to-ptr): managed memory is one address for both.
  auto* const host = reinterpret_cast<std::uint32_t*>(static_cast<std::uintptr_t>(pointer));
  for (std::size_t i = 0; i < kN; ++i) host[i] = 10;
  SPW_OK(env.launch_increment(nullptr, a, kN));
  SPW_OK(env.d.cuCtxSynchronize());
  CHECK(host[0] == 11);
  CHECK(host[kN - 1] == 11);
  unsigned int is_managed = 0;
  SPW_OK(env.d.cuPointerGetAttribute(&is_managed, cu::PointerAttribute::kIsManaged, a));
  CHECK(is_managed != 0);
}

SPW_CONFORMANCE("memory", bad_managed, "managed memory needs a size and one way of attachment") {
  if (env.attribute(cu::DeviceAttribute::kManagedMemory) == 0) return;
  cu::DevicePtr pointer = 0;
  SPW_EXPECT(kInvalidValue, env.d.cuMemAllocManaged(&pointer, 0, cu::kAttachGlobal));
  SPW_EXPECT(kInvalidValue, env.d.cuMemAllocManaged(&pointer, kBytes, 0));
  SPW_EXPECT(kInvalidValue, env.d.cuMemAllocManaged(nullptr, kBytes, cu::kAttachGlobal));
}

}  // namespace
}  // namespace spillway::conformance
