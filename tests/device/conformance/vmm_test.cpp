// SPDX-License-Identifier: Apache-2.0
// Virtual memory management: whole mappings, access after every map, aliases, handles that outlive
// their mappings, and the sizes and addresses it refuses. Source: CUDA driver API, virtual memory
// management.
#include "tests/device/conformance/cases.hpp"

#include <unistd.h>

namespace spillway::conformance {
namespace {

constexpr std::size_t kN = 1024;

/// Addresses for some pages; what is mapped there and the handles are the case's own affair.
class Range {
 public:
  Range(ConformanceEnv& env, std::size_t pages) : env_(env) {
    const auto prop = device_allocation_prop(env.device);
    const auto page = allocation_granularity(env.d, prop);
    REQUIRE_MESSAGE(page.ok(), page.status().message());
    page_bytes_ = page.value();
    bytes_ = pages * page_bytes_;
    SPW_MUST(env.d.cuMemAddressReserve(&base_, bytes_, 0, 0, 0));
  }
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;
  Range(Range&&) = delete;
  Range& operator=(Range&&) = delete;
  ~Range() { SPW_OK(env_.d.cuMemAddressFree(base_, bytes_)); }

  [[nodiscard]] cu::DevicePtr at(std::size_t page) const { return base_ + page * page_bytes_; }
  [[nodiscard]] std::size_t page() const { return page_bytes_; }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  ConformanceEnv& env_;
  cu::DevicePtr base_ = 0;
  std::size_t page_bytes_ = 0;
  std::size_t bytes_ = 0;
};

cu::AllocationHandle create(ConformanceEnv& env, std::size_t bytes) {
  const auto prop = device_allocation_prop(env.device);
  cu::AllocationHandle handle = 0;
  SPW_MUST(env.d.cuMemCreate(&handle, bytes, &prop, 0));
  return handle;
}

Result allow(ConformanceEnv& env, cu::DevicePtr pointer, std::size_t bytes) {
  cu::AccessDesc access;
  access.location.type = cu::LocationType::kDevice;
  access.location.id = env.device;
  access.flags = cu::AccessFlags::kReadWrite;
  return env.d.cuMemSetAccess(pointer, bytes, &access, 1);
}

/// Maps the whole handle and makes it usable.
void map(ConformanceEnv& env, cu::DevicePtr pointer, std::size_t bytes, cu::AllocationHandle h) {
  SPW_MUST(env.d.cuMemMap(pointer, bytes, 0, h, 0));
  SPW_MUST(allow(env, pointer, bytes));
}

unsigned long long access_of(ConformanceEnv& env, cu::DevicePtr pointer) {
  cu::Location location;
  location.type = cu::LocationType::kDevice;
  location.id = env.device;
  unsigned long long flags = 99;
  SPW_OK(env.d.cuMemGetAccess(&flags, &location, pointer));
  return flags;
}

void fill_and_wait(ConformanceEnv& env, cu::DevicePtr pointer, std::uint32_t value, std::size_t n) {
  SPW_OK(env.launch_fill(nullptr, pointer, value, n));
  SPW_OK(env.d.cuStreamSynchronize(nullptr));
}

SPW_CONFORMANCE("vmm",
                granularity,
                "the granularity is a power of two, the recommended one a multiple") {
  if (!env.has_virtual_memory()) return;
  const auto prop = device_allocation_prop(env.device);
  std::size_t least = 0;
  std::size_t best = 0;
  SPW_OK(env.d.cuMemGetAllocationGranularity(&least, &prop, cu::Granularity::kMinimum));
  SPW_OK(env.d.cuMemGetAllocationGranularity(&best, &prop, cu::Granularity::kRecommended));
  REQUIRE(least > 0);
  CHECK((least & (least - 1)) == 0);
  CHECK(best % least == 0);
  CHECK(best > 0);
  SPW_EXPECT(kInvalidValue,
             env.d.cuMemGetAllocationGranularity(nullptr, &prop, cu::Granularity::kMinimum));
  SPW_EXPECT(kInvalidValue,
             env.d.cuMemGetAllocationGranularity(&least, nullptr, cu::Granularity::kMinimum));
}

SPW_CONFORMANCE("vmm", map_and_use, "memory mapped into a reservation is memory like any other") {
  if (!env.has_virtual_memory()) return;
  const Range range(env, 1);
  const cu::AllocationHandle h = create(env, range.page());
  map(env, range.at(0), range.page(), h);
  const std::size_t n = range.page() / 4;
  fill_and_wait(env, range.at(0), 1, n);
  env.check_words(range.at(0), kN, 1);
  env.check_words(range.at(0) + (n - kN) * 4, kN, 1);
  auto type = cu::MemoryType{};
  SPW_OK(env.d.cuPointerGetAttribute(&type, cu::PointerAttribute::kMemoryType, range.at(0) + 64));
  CHECK(type == cu::MemoryType::kDevice);
  SPW_OK(env.d.cuMemUnmap(range.at(0), range.page()));
  SPW_OK(env.d.cuMemRelease(h));
}

SPW_CONFORMANCE("vmm", access_after_every_map, "a mapping starts without access, each time anew") {
  if (!env.has_virtual_memory()) return;
  const Range range(env, 1);
  const cu::AllocationHandle h = create(env, range.page());
  for (int round = 0; round < 2; ++round) {
    SPW_OK(env.d.cuMemMap(range.at(0), range.page(), 0, h, 0));
    CHECK(access_of(env, range.at(0)) == static_cast<unsigned>(cu::AccessFlags::kNone));
    SPW_OK(allow(env, range.at(0), range.page()));
    CHECK(access_of(env, range.at(0)) == static_cast<unsigned>(cu::AccessFlags::kReadWrite));
    SPW_OK(env.d.cuMemUnmap(range.at(0), range.page()));
  }
  SPW_OK(env.d.cuMemRelease(h));
}

SPW_CONFORMANCE("vmm",
                one_access_over_many_maps,
                "one cuMemSetAccess covers several mappings side by side, and work crosses them") {
  if (!env.has_virtual_memory()) return;
  const Range range(env, 3);
  cu::AllocationHandle handles[3];
  for (std::size_t i = 0; i < 3; ++i) {
    handles[i] = create(env, range.page());
    SPW_OK(env.d.cuMemMap(range.at(i), range.page(), 0, handles[i], 0));
  }
  SPW_OK(allow(env, range.at(0), 3 * range.page()));
  fill_and_wait(env, range.at(0), 2, 3 * range.page() / 4);
  for (std::size_t i = 0; i < 3; ++i) env.check_words(range.at(i), kN, 2);
  SPW_OK(env.d.cuMemsetD32(range.at(1) - 64, 3, 32));  // over a border
  SPW_OK(env.d.cuStreamSynchronize(nullptr));
  env.check_words(range.at(1) - 64, 32, 3);
  for (std::size_t i = 0; i < 3; ++i) {
    SPW_OK(env.d.cuMemUnmap(range.at(i), range.page()));
    SPW_OK(env.d.cuMemRelease(handles[i]));
  }
}

SPW_CONFORMANCE("vmm",
                access_over_a_hole,
                "cuMemSetAccess over addresses where nothing is mapped is refused") {
  if (!env.has_virtual_memory()) return;
  const Range range(env, 3);
  SPW_EXPECT(kInvalidValue, allow(env, range.at(0), range.page()));
  const cu::AllocationHandle h = create(env, range.page());
  SPW_OK(env.d.cuMemMap(range.at(0), range.page(), 0, h, 0));
  SPW_EXPECT(kInvalidValue, allow(env, range.at(0), 2 * range.page()));
  SPW_OK(allow(env, range.at(0), range.page()));
  SPW_EXPECT(kInvalidValue, env.d.cuMemSetAccess(range.at(0), range.page(), nullptr, 1));
  SPW_OK(env.d.cuMemUnmap(range.at(0), range.page()));
  SPW_OK(env.d.cuMemRelease(h));
}

SPW_CONFORMANCE("vmm", whole_unmap, "a part of a mapping cannot be unmapped, and stays as it was") {
  if (!env.has_virtual_memory()) return;
  const Range range(env, 2);
  const cu::AllocationHandle h = create(env, range.bytes());
  map(env, range.at(0), range.bytes(), h);
  fill_and_wait(env, range.at(0), 4, range.bytes() / 4);
  SPW_EXPECT(kInvalidValue, env.d.cuMemUnmap(range.at(0), range.page()));
  SPW_EXPECT(kInvalidValue, env.d.cuMemUnmap(range.at(1), range.page()));
  env.check_words(range.at(0), kN, 4);
  env.check_words(range.at(1), kN, 4);
  SPW_OK(env.d.cuMemUnmap(range.at(0), range.bytes()));
  SPW_OK(env.d.cuMemRelease(h));
}

SPW_CONFORMANCE("vmm", unmap_twice, "what is not mapped cannot be unmapped") {
  if (!env.has_virtual_memory()) return;
  const Range range(env, 1);
  const cu::AllocationHandle h = create(env, range.page());
  SPW_EXPECT_ONE_OF(env.d.cuMemUnmap(range.at(0), range.page()),
                    {Result::kInvalidValue, Result::kNotMapped});
  SPW_OK(env.d.cuMemMap(range.at(0), range.page(), 0, h, 0));
  SPW_OK(env.d.cuMemUnmap(range.at(0), range.page()));
  SPW_EXPECT_ONE_OF(env.d.cuMemUnmap(range.at(0), range.page()),
                    {Result::kInvalidValue, Result::kNotMapped});
  SPW_OK(env.d.cuMemRelease(h));
}

SPW_CONFORMANCE("vmm", aliases, "one handle at two addresses is the same memory") {
  if (!env.has_virtual_memory()) return;
  const Range range(env, 2);
  const cu::AllocationHandle h = create(env, range.page());
  map(env, range.at(0), range.page(), h);
  map(env, range.at(1), range.page(), h);
  fill_and_wait(env, range.at(0), 5, kN);
  env.check_words(range.at(1), kN, 5);
  SPW_OK(env.launch_increment(nullptr, range.at(1), kN));
  SPW_OK(env.d.cuStreamSynchronize(nullptr));
  env.check_words(range.at(0), kN, 6);
  SPW_OK(env.d.cuMemUnmap(range.at(0), range.page()));
  env.check_words(range.at(1), kN, 6);
  SPW_OK(env.d.cuMemUnmap(range.at(1), range.page()));
  SPW_OK(env.d.cuMemRelease(h));
}

SPW_CONFORMANCE(
    "vmm",
    release_while_mapped,
    "a handle released while it is mapped leaves its memory usable until it is unmapped") {
  if (!env.has_virtual_memory()) return;
  const Range range(env, 1);
  const cu::AllocationHandle h = create(env, range.page());
  map(env, range.at(0), range.page(), h);
  SPW_OK(env.d.cuMemRelease(h));
  fill_and_wait(env, range.at(0), 7, kN);
  env.check_words(range.at(0), kN, 7);
  SPW_OK(env.d.cuMemUnmap(range.at(0), range.page()));
}

SPW_CONFORMANCE("vmm",
                remap_keeps_bytes,
                "a handle unmapped here and mapped there keeps its bytes") {
  if (!env.has_virtual_memory()) return;
  const Range range(env, 2);
  const cu::AllocationHandle h = create(env, range.page());
  const Stream s = env.non_blocking_stream();
  const Event e = env.event();
  map(env, range.at(0), range.page(), h);
  SPW_OK(env.launch_spin(s.handle()));
  SPW_OK(env.launch_fill(s.handle(), range.at(0), 8, kN));
  SPW_OK(env.d.cuEventRecord(e.handle(), s.handle()));
  // cuMemUnmap does not wait for the GPU; its caller does.
  SPW_OK(env.d.cuEventSynchronize(e.handle()));
  SPW_OK(env.d.cuMemUnmap(range.at(0), range.page()));
  map(env, range.at(1), range.page(), h);
  env.check_words(range.at(1), kN, 8);
  SPW_OK(env.d.cuMemUnmap(range.at(1), range.page()));
  SPW_OK(env.d.cuMemRelease(h));
}

SPW_CONFORMANCE("vmm",
                other_memory_at_the_same_address,
                "an address shows the memory that is mapped there now") {
  if (!env.has_virtual_memory()) return;
  const Range range(env, 1);
  const cu::AllocationHandle first = create(env, range.page());
  const cu::AllocationHandle second = create(env, range.page());
  map(env, range.at(0), range.page(), first);
  fill_and_wait(env, range.at(0), 9, kN);
  SPW_OK(env.d.cuMemUnmap(range.at(0), range.page()));
  map(env, range.at(0), range.page(), second);
  fill_and_wait(env, range.at(0), 10, kN);
  SPW_OK(env.d.cuMemUnmap(range.at(0), range.page()));
  map(env, range.at(0), range.page(), first);
  env.check_words(range.at(0), kN, 9);
  SPW_OK(env.d.cuMemUnmap(range.at(0), range.page()));
  SPW_OK(env.d.cuMemRelease(first));
  SPW_OK(env.d.cuMemRelease(second));
}

SPW_CONFORMANCE("vmm",
                retain,
                "a retained handle is the handle that was mapped, and counts its own release") {
  if (!env.has_virtual_memory()) return;
  const Range range(env, 2);
  const cu::AllocationHandle h = create(env, range.page());
  map(env, range.at(0), range.page(), h);
  fill_and_wait(env, range.at(0), 11, kN);
  cu::AllocationHandle again = 0;
  const auto interior = range.at(0) + 128;
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the call takes device addresses as void pointers.
  SPW_OK(env.d.cuMemRetainAllocationHandle(&again, reinterpret_cast<void*>(interior)));
  CHECK(again == h);
  SPW_OK(env.d.cuMemRelease(h));
  SPW_OK(env.d.cuMemUnmap(range.at(0), range.page()));
  map(env, range.at(1), range.page(), again);
  env.check_words(range.at(1), kN, 11);
  SPW_OK(env.d.cuMemUnmap(range.at(1), range.page()));
  SPW_OK(env.d.cuMemRelease(again));
  // NOLINTNEXTLINE(performance-no-int-to-ptr)
  void* const unmapped = reinterpret_cast<void*>(range.at(0));
  SPW_EXPECT_FAILURE(env.d.cuMemRetainAllocationHandle(&again, unmapped));
}

SPW_CONFORMANCE("vmm", properties, "a handle tells what it was created with") {
  if (!env.has_virtual_memory()) return;
  const Range range(env, 1);
  const cu::AllocationHandle h = create(env, range.page());
  cu::AllocationProp prop;
  SPW_OK(env.d.cuMemGetAllocationPropertiesFromHandle(&prop, h));
  CHECK(prop.type == cu::AllocationType::kPinned);
  CHECK(prop.location.type == cu::LocationType::kDevice);
  CHECK(prop.location.id == env.device);
  SPW_OK(env.d.cuMemRelease(h));
}

SPW_CONFORMANCE(
    "vmm",
    memory_counts,
    "memory is taken when a handle is created, and given back with the last use of it") {
  if (!env.has_virtual_memory()) return;
  const Range range(env, 8);
  std::size_t before = 0;
  std::size_t held = 0;
  std::size_t mapped = 0;
  std::size_t total = 0;
  SPW_OK(env.d.cuMemGetInfo(&before, &total));
  const cu::AllocationHandle h = create(env, range.bytes());
  SPW_OK(env.d.cuMemGetInfo(&held, &total));
  CHECK(held + range.bytes() <= before);
  map(env, range.at(0), range.bytes(), h);
  SPW_OK(env.d.cuMemRelease(h));
  SPW_OK(env.d.cuMemGetInfo(&mapped, &total));
  CHECK(mapped + range.bytes() <= before);
  SPW_OK(env.d.cuMemUnmap(range.at(0), range.bytes()));
  std::size_t after = 0;
  SPW_OK(env.d.cuMemGetInfo(&after, &total));
  CHECK(after >= mapped + range.bytes());
}

// --- What is refused -----------------------------------------------------------------------------

SPW_CONFORMANCE("vmm",
                bad_creations,
                "a handle needs a whole number of pages, a kind and no flags") {
  if (!env.has_virtual_memory()) return;
  const Range range(env, 1);
  const auto prop = device_allocation_prop(env.device);
  cu::AllocationHandle h = 0;
  SPW_EXPECT(kInvalidValue, env.d.cuMemCreate(&h, range.page() + 4096, &prop, 0));
  SPW_EXPECT(kInvalidValue, env.d.cuMemCreate(&h, 0, &prop, 0));
  SPW_EXPECT(kInvalidValue, env.d.cuMemCreate(nullptr, range.page(), &prop, 0));
  SPW_EXPECT(kInvalidValue, env.d.cuMemCreate(&h, range.page(), nullptr, 0));
  SPW_EXPECT(kInvalidValue, env.d.cuMemCreate(&h, range.page(), &prop, 1));
  cu::AllocationProp bad = prop;
  bad.type = cu::AllocationType::kInvalid;
  SPW_EXPECT(kInvalidValue, env.d.cuMemCreate(&h, range.page(), &bad, 0));
  bad = prop;
  bad.location.id = 1000;
  SPW_EXPECT_ONE_OF(env.d.cuMemCreate(&h, range.page(), &bad, 0),
                    {Result::kInvalidDevice, Result::kInvalidValue});
}

SPW_CONFORMANCE(
    "vmm",
    out_of_memory,
    "a handle for more than the device has is out of memory, and the device stays usable") {
  if (!env.has_virtual_memory()) return;
  const Range range(env, 1);
  std::size_t total = 0;
  SPW_OK(env.d.cuDeviceTotalMem(&total, env.device));
  const auto prop = device_allocation_prop(env.device);
  const std::size_t too_much = (total / range.page() + 512) * range.page();
  cu::AllocationHandle h = 0;
  SPW_EXPECT(kOutOfMemory, env.d.cuMemCreate(&h, too_much, &prop, 0));
  const cu::AllocationHandle good = create(env, range.page());
  SPW_OK(env.d.cuMemRelease(good));
}

SPW_CONFORMANCE(
    "vmm",
    bad_maps,
    "a map needs offset 0, no flags, whole pages, free addresses and a large enough handle") {
  if (!env.has_virtual_memory()) return;
  const Range range(env, 3);
  const cu::AllocationHandle h = create(env, range.page());
  const std::size_t page = range.page();
  SPW_EXPECT(kInvalidValue, env.d.cuMemMap(range.at(0), page, page, h, 0));
  SPW_EXPECT(kInvalidValue, env.d.cuMemMap(range.at(0), page, 0, h, 1));
  SPW_EXPECT(kInvalidValue, env.d.cuMemMap(range.at(0) + 4096, page, 0, h, 0));
  SPW_EXPECT(kInvalidValue, env.d.cuMemMap(range.at(0), page / 2, 0, h, 0));
  SPW_EXPECT(kInvalidValue, env.d.cuMemMap(range.at(0), 2 * page, 0, h, 0));
  SPW_EXPECT(kInvalidValue, env.d.cuMemMap(range.at(0), 0, 0, h, 0));
  SPW_OK(env.d.cuMemMap(range.at(0), page, 0, h, 0));
  SPW_EXPECT_ONE_OF(env.d.cuMemMap(range.at(0), page, 0, h, 0),
                    {Result::kInvalidValue, Result::kAlreadyMapped});
  SPW_OK(env.d.cuMemUnmap(range.at(0), page));
  {
    const Memory plain = env.memory(4096);  // no reservation
    const cu::DevicePtr aligned = plain / page * page;
    SPW_EXPECT_FAILURE(env.d.cuMemMap(aligned, page, 0, h, 0));
  }
  SPW_OK(env.d.cuMemRelease(h));
}

SPW_CONFORMANCE("vmm",
                reservations,
                "a reservation keeps its alignment and is freed whole or not at all") {
  if (!env.has_virtual_memory()) return;
  const Range range(env, 1);
  const std::size_t page = range.page();
  cu::DevicePtr p = 0;
  SPW_MUST(env.d.cuMemAddressReserve(&p, 4 * page, 16 * page, 0, 0));
  CHECK(p % (16 * page) == 0);
  SPW_EXPECT(kInvalidValue, env.d.cuMemAddressFree(p, 2 * page));
  SPW_EXPECT(kInvalidValue, env.d.cuMemAddressFree(p + page, 3 * page));
  SPW_OK(env.d.cuMemAddressFree(p, 4 * page));
  SPW_EXPECT(kInvalidValue, env.d.cuMemAddressFree(p, 4 * page));
}

SPW_CONFORMANCE(
    "vmm",
    bad_reservations,
    "a reservation needs a size in pages, an alignment that is a power of two, no flags") {
  if (!env.has_virtual_memory()) return;
  const Range range(env, 1);
  cu::DevicePtr p = 0;
  SPW_EXPECT(kInvalidValue, env.d.cuMemAddressReserve(&p, 0, 0, 0, 0));
  SPW_EXPECT(kInvalidValue, env.d.cuMemAddressReserve(&p, range.page() + 1, 0, 0, 0));
  SPW_EXPECT(kInvalidValue, env.d.cuMemAddressReserve(&p, range.page(), 3 * range.page(), 0, 0));
  SPW_EXPECT(kInvalidValue, env.d.cuMemAddressReserve(&p, range.page(), 0, 0, 1));
  SPW_EXPECT(kInvalidValue, env.d.cuMemAddressReserve(nullptr, range.page(), 0, 0, 0));
}

SPW_CONFORMANCE("vmm", large_reservation, "a terabyte of addresses costs no memory") {
  if (!env.has_virtual_memory()) return;
  std::size_t before = 0;
  std::size_t after = 0;
  std::size_t total = 0;
  const std::size_t bytes = std::size_t{1} << 40;
  SPW_OK(env.d.cuMemGetInfo(&before, &total));
  cu::DevicePtr p = 0;
  SPW_MUST(env.d.cuMemAddressReserve(&p, bytes, 0, 0, 0));
  SPW_OK(env.d.cuMemGetInfo(&after, &total));
  // Page tables may take a little.
  CHECK(after + (std::size_t{64} << 20) >= before);
  SPW_OK(env.d.cuMemAddressFree(p, bytes));
}

SPW_CONFORMANCE("vmm", not_ours_to_free, "mapped memory is not freed by cuMemFree") {
  if (!env.has_virtual_memory()) return;
  const Range range(env, 1);
  const cu::AllocationHandle h = create(env, range.page());
  map(env, range.at(0), range.page(), h);
  fill_and_wait(env, range.at(0), 12, kN);
  SPW_EXPECT(kInvalidValue, env.d.cuMemFree(range.at(0)));
  env.check_words(range.at(0), kN, 12);
  SPW_OK(env.d.cuMemUnmap(range.at(0), range.page()));
  SPW_OK(env.d.cuMemRelease(h));
}

SPW_CONFORMANCE("vmm", release_of_foreign, "a handle that is not one cannot be released") {
  // A real driver answers an error for a number that was never a handle; a handle released too
  // often is undefined and not tried.
  if (!env.has_virtual_memory()) return;
  SPW_EXPECT_FAILURE(env.d.cuMemRelease(0));
}

SPW_CONFORMANCE("vmm",
                shared_as_file_descriptor,
                "a handle exported as a file descriptor and imported again is the same memory") {
  if (!env.has_virtual_memory()) return;
  if (env.attribute(cu::DeviceAttribute::kHandleTypePosixFdSupported) == 0) return;
  const Range range(env, 2);
  PhysicalOptions options;
  options.handle_type = cu::HandleType::kPosixFileDescriptor;
  const auto prop = device_allocation_prop(env.device, options);
  cu::AllocationHandle h = 0;
  SPW_MUST(env.d.cuMemCreate(&h, range.page(), &prop, 0));
  int fd = -1;
  const Result exported =
      env.d.cuMemExportToShareableHandle(&fd, h, cu::HandleType::kPosixFileDescriptor, 0);
  SPW_OK(exported);
  if (exported == Result::kSuccess) {
    cu::AllocationHandle imported = 0;
    // NOLINTNEXTLINE(performance-no-int-to-ptr): the call takes the descriptor as a pointer.
    void* const shareable = reinterpret_cast<void*>(static_cast<std::intptr_t>(fd));
    const Result got = env.d.cuMemImportFromShareableHandle(
        &imported, shareable, cu::HandleType::kPosixFileDescriptor);
    SPW_OK(got);
    if (got == Result::kSuccess) {
      map(env, range.at(0), range.page(), h);
      map(env, range.at(1), range.page(), imported);
      fill_and_wait(env, range.at(0), 13, kN);
      env.check_words(range.at(1), kN, 13);
      SPW_OK(env.d.cuMemUnmap(range.at(0), range.page()));
      SPW_OK(env.d.cuMemUnmap(range.at(1), range.page()));
      SPW_OK(env.d.cuMemRelease(imported));
    }
    CHECK(::close(fd) == 0);
  }
  SPW_OK(env.d.cuMemRelease(h));
}

SPW_CONFORMANCE("vmm",
                export_needs_the_type,
                "a handle created without a shareable type cannot be exported") {
  if (!env.has_virtual_memory()) return;
  const Range range(env, 1);
  const cu::AllocationHandle h = create(env, range.page());
  int fd = -1;
  SPW_EXPECT_FAILURE(
      env.d.cuMemExportToShareableHandle(&fd, h, cu::HandleType::kPosixFileDescriptor, 0));
  SPW_OK(env.d.cuMemRelease(h));
}

}  // namespace
}  // namespace spillway::conformance
