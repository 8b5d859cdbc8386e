// SPDX-License-Identifier: Apache-2.0
// What kernel bodies see: aliases, remaps, declared pages only, and the limit of mappings.
#include "device/sim/mirror.hpp"

#include "tests/device/sim/memory_maker.hpp"

#include <string>
#include <vector>

using namespace spillway;
using namespace spillway::sim;

namespace {

constexpr std::uint64_t kPage = kPageBytes;

std::size_t fault_count(Memory& memory) {
  std::vector<HostFault> faults;
  memory.take_faults(&faults);
  for (const HostFault& fault : faults) CHECK(fault.kind == HostFaultKind::kKernel);
  return faults.size();
}

struct AreasMax {
  explicit AreasMax(std::uint64_t areas) { MemoryBacking::set_areas_max(areas); }
  ~AreasMax() { MemoryBacking::set_areas_max(0); }
  AreasMax(const AreasMax&) = delete;
  AreasMax& operator=(const AreasMax&) = delete;
  AreasMax(AreasMax&&) = delete;
  AreasMax& operator=(AreasMax&&) = delete;
};

}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("an alias shows the same bytes, and a remap keeps them") {
    const auto memory = small_memory();
    PhysicalId id;
    const std::uint64_t a = map_new(*memory, 2 * kPage, &id);
    std::uint64_t b = 0;
    REQUIRE(memory->reserve(2 * kPage, 0, 0, &b) == MemoryError::kOk);
    REQUIRE(memory->map(b, 2 * kPage, id) == MemoryError::kOk);
    REQUIRE(memory->set_access(b, 2 * kPage, 0, Access::kReadWrite) == MemoryError::kOk);
    poke(mirror_address(*memory, a + kPage), 17);
    CHECK(touch(mirror_address(*memory, b + kPage)) == 17);
    REQUIRE(memory->unmap(a, 2 * kPage) == MemoryError::kOk);
    CHECK(touch(mirror_address(*memory, b + kPage)) == 17);
    CHECK(memory->mirror(b) - memory->mirror(a) == static_cast<std::ptrdiff_t>(b - a));
    CHECK(fault_count(*memory) == 0);
  }

  TEST_CASE("another handle at the same address shows its own bytes") {
    const auto memory = small_memory();
    PhysicalId first;
    PhysicalId second;
    const std::uint64_t at = map_new(*memory, 4 * kPage, &first);
    memory->fill(at, 4 * kPage, std::byte{1});
    REQUIRE(memory->unmap(at, 4 * kPage) == MemoryError::kOk);
    REQUIRE(memory->create_physical(0, 2 * kPage, &second) == MemoryError::kOk);
    REQUIRE(memory->map(at + kPage, 2 * kPage, second) == MemoryError::kOk);
    REQUIRE(memory->set_access(at + kPage, 2 * kPage, 0, Access::kReadWrite) == MemoryError::kOk);
    memory->fill(at + kPage, 2 * kPage, std::byte{2});
    CHECK(touch(mirror_address(*memory, at + kPage)) == 2);
    CHECK(touch(mirror_address(*memory, at + 3 * kPage - 1)) == 2);
    CHECK(fault_count(*memory) == 0);
    (void)touch(mirror_address(*memory, at));
    (void)touch(mirror_address(*memory, at + 3 * kPage));
    CHECK(fault_count(*memory) == 2);
    REQUIRE(memory->unmap(at + kPage, 2 * kPage) == MemoryError::kOk);
    REQUIRE(memory->map(at, 4 * kPage, first) == MemoryError::kOk);
    REQUIRE(memory->set_access(at, 4 * kPage, 0, Access::kRead) == MemoryError::kOk);
    for (std::uint64_t page = 0; page < 4; ++page) {
      CHECK(touch(mirror_address(*memory, at + page * kPage)) == 1);
    }
    CHECK(fault_count(*memory) == 0);
  }

  TEST_CASE("in check mode only declared pages are reachable, and as declared") {
    const auto memory = small_memory();
    PhysicalId id;
    const std::uint64_t mapped = map_new(*memory, 3 * kPage, &id);
    std::uint64_t plain = 0;
    std::uint64_t other = 0;
    std::uint64_t pinned = 0;
    REQUIRE(memory->allocate(0, 3 * kPage, 0, &plain) == MemoryError::kOk);
    REQUIRE(memory->allocate(0, kPage, 0, &other) == MemoryError::kOk);
    REQUIRE(memory->allocate_pinned(kPage, 0, &pinned) == MemoryError::kOk);
    const std::vector<DeclaredRange> declared = {{plain + 10, 20, true, false},
                                                 {plain + kPage, kPage, false, true},
                                                 {mapped + kPage, 5, true, false},
                                                 {pinned, 1, true, true}};
    memory->only_accessible(declared);
    (void)touch(mirror_address(*memory, plain + 10));
    poke(mirror_address(*memory, plain + kPage), 1);
    (void)touch(mirror_address(*memory, mapped + kPage));
    poke(mirror_address(*memory, pinned), 1);
    CHECK_FALSE(memory->any_faults());
    const std::vector<std::uint64_t> forbidden = {
        plain + 2 * kPage, other, mapped, mapped + 2 * kPage};
    for (const std::uint64_t at : forbidden) (void)touch(mirror_address(*memory, at));
    poke(mirror_address(*memory, plain + 11), 1);
    poke(mirror_address(*memory, mapped + kPage + 1), 1);
    memory->all_accessible();
    std::vector<HostFault> faults;
    REQUIRE(memory->take_faults(&faults));
    REQUIRE(faults.size() == forbidden.size() + 2);
    for (std::size_t i = 0; i < forbidden.size(); ++i) CHECK(faults[i].address == forbidden[i]);
    memory->fill(plain, 3 * kPage, std::byte{6});
    memory->fill(other, kPage, std::byte{6});
    memory->fill(mapped, 3 * kPage, std::byte{6});
    for (const std::uint64_t at : forbidden) {
      CHECK(touch(mirror_address(*memory, at)) == 6);
      poke(mirror_address(*memory, at), 7);
      CHECK(*memory->window(memory->find(at).flat) == std::byte{7});
    }
    CHECK_FALSE(memory->any_faults());
  }

  TEST_CASE("a page that one range reads and another writes is writable") {
    const auto memory = small_memory();
    std::uint64_t at = 0;
    REQUIRE(memory->allocate(0, 100, 0, &at) == MemoryError::kOk);
    const std::vector<DeclaredRange> declared = {{at + 50, 10, false, true}, {at, 50, true, false}};
    memory->only_accessible(declared);
    poke(mirror_address(*memory, at + 50), 1);
    memory->all_accessible();
    CHECK(fault_count(*memory) == 0);
  }

  TEST_CASE("declaring a write does not make a read-only mapping writable") {
    const auto memory = small_memory();
    PhysicalId id;
    const std::uint64_t at = map_new(*memory, kPage, &id);
    memory->fill(at, kPage, std::byte{5});
    REQUIRE(memory->set_access(at, kPage, 0, Access::kRead) == MemoryError::kOk);
    const std::vector<DeclaredRange> declared = {{at, kPage, true, true}};
    memory->only_accessible(declared);
    CHECK(touch(mirror_address(*memory, at)) == 5);
    CHECK_FALSE(memory->any_faults());
    poke(mirror_address(*memory, at), 6);
    memory->all_accessible();
    CHECK(fault_count(*memory) == 1);
    CHECK(touch(mirror_address(*memory, at)) == 5);
  }

  TEST_CASE("near the limit of mappings old ones go first, then it is an error and not a crash") {
    const auto memory = small_memory();
    const std::uint64_t before = MemoryBacking::areas_in_use();
    const AreasMax limit(before + 20);
    std::uint64_t at = 0;
    REQUIRE(memory->reserve(64 * kPage, 0, 0, &at) == MemoryError::kOk);
    std::vector<PhysicalId> ids;
    MemoryError error = MemoryError::kOk;
    std::uint64_t shown = 0;
    for (; shown < 32 && error == MemoryError::kOk; ++shown) {
      PhysicalId id;
      REQUIRE(memory->create_physical(0, kPage, &id) == MemoryError::kOk);
      REQUIRE(memory->map(at + 2 * shown * kPage, kPage, id) == MemoryError::kOk);
      error = memory->set_access(at + 2 * shown * kPage, kPage, 0, Access::kReadWrite);
      if (error == MemoryError::kOk) ids.push_back(id);
    }
    CHECK(error == MemoryError::kTooManyMappings);
    CHECK(ids.size() > 4);
    CHECK(memory->describe_misuse().find("vm.max_map_count") != std::string::npos);
    Access access = Access::kReadWrite;
    const std::uint64_t refused = at + 2 * ids.size() * kPage;
    REQUIRE(memory->get_access(refused, 0, &access) == MemoryError::kOk);
    CHECK(access == Access::kNone);
    // Unmapped segments stay in place for reuse, but make room when there is need.
    REQUIRE(memory->unmap(at, kPage) == MemoryError::kOk);
    CHECK(memory->set_access(refused, kPage, 0, Access::kReadWrite) == MemoryError::kOk);
    poke(mirror_address(*memory, refused), 1);
    CHECK_FALSE(memory->any_faults());
    (void)touch(mirror_address(*memory, at));
    CHECK(fault_count(*memory) == 1);
  }

  TEST_CASE("a simulator that is gone gives its mappings back") {
    const std::uint64_t before = MemoryBacking::areas_in_use();
    {
      const auto memory = small_memory();
      PhysicalId id;
      std::uint64_t pinned = 0;
      (void)map_new(*memory, kPage, &id);
      REQUIRE(memory->allocate_pinned(kPage, 0, &pinned) == MemoryError::kOk);
      CHECK(MemoryBacking::areas_in_use() > before);
    }
    CHECK(MemoryBacking::areas_in_use() == before);
  }
}
