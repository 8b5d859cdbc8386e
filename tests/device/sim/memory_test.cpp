// SPDX-License-Identifier: Apache-2.0
// The whole of simulated memory: plain blocks, translation, reset, huge devices for nothing; and a
// model test against page tables and byte maps that know no trick.
#include "device/sim/memory.hpp"

#include "core/random.hpp"
#include "tests/device/sim/memory_maker.hpp"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

using namespace spillway;
using namespace spillway::sim;

namespace {
constexpr std::uint64_t kPage = kPageBytes;
const auto kIgnore = [](std::uint64_t, std::uint64_t) {};
}  // namespace

TEST_SUITE("unit") {
  TEST_CASE("options that make no sense are refused in words") {
    const auto refused = [](auto&& change) {
      MemoryOptions options = small_options(Contents::kNone);
      change(options);
      return Memory::create(options).status().code() == Code::kInvalidArgument;
    };
    CHECK(refused([](MemoryOptions& o) { o.device_count = 0; }));
    CHECK(refused([](MemoryOptions& o) { o.device_count = 33; }));
    CHECK(refused([](MemoryOptions& o) { o.granularity_bytes = 3 << 20; }));
    CHECK(refused([](MemoryOptions& o) { o.granularity_bytes = 512; }));
    CHECK(refused([](MemoryOptions& o) { o.memory_bytes = 100; }));
    CHECK(refused([](MemoryOptions& o) { o.memory_bytes = std::uint64_t{1} << 60; }));
  }

  TEST_CASE("a plain block is charged by pages, found from inside and freed once") {
    for (const Contents contents : {Contents::kFull, Contents::kNone}) {
      const auto memory = small_memory(contents);
      std::uint64_t at = 0;
      REQUIRE(memory->allocate(1, 5000, 12, &at) == MemoryError::kOk);
      CHECK(at % 512 == 0);
      CHECK(memory->physical().used_bytes(1) == 2 * kPage);
      const AddressInfo info = memory->find(at + 4999);
      CHECK(info.kind == MemoryKind::kPlain);
      CHECK(info.device == 1);
      CHECK(info.flags == 12);
      CHECK(info.serial == 1);
      CHECK(info.range == ByteRange{at, 5000});
      CHECK(memory->find(at + 5000).kind == MemoryKind::kNone);
      CHECK(memory->free(at + 1) == MemoryError::kInterior);
      CHECK(memory->free(12345) == MemoryError::kForeign);
      AddressInfo freed;
      REQUIRE(memory->free(at, &freed) == MemoryError::kOk);
      CHECK(freed.range == ByteRange{at, 5000});
      CHECK(freed.flat == info.flat - 4999);
      CHECK(memory->free(at) == MemoryError::kDoubleFree);
      CHECK(memory->describe_misuse().find("double free: base+0x") == 0);
      CHECK(memory->physical().used_bytes(1) == 0);
      std::uint64_t again = 0;
      REQUIRE(memory->allocate(1, 6000, 0, &again) == MemoryError::kOk);
      CHECK(again == at);
    }
  }

  TEST_CASE("sizes that overflow or do not fit are refused without effect") {
    const auto memory = small_memory(Contents::kNone);
    std::uint64_t at = 77;
    CHECK(memory->allocate(0, 0, 0, &at) == MemoryError::kBadSize);
    CHECK(memory->allocate(9, 1, 0, &at) == MemoryError::kBadDevice);
    CHECK(memory->allocate(0, ~std::uint64_t{0}, 0, &at) == MemoryError::kOutOfMemory);
    CHECK(memory->allocate(0, ~std::uint64_t{0} - 4095, 0, &at) == MemoryError::kOutOfMemory);
    CHECK(memory->allocate(0, (1 << 20) + 1, 0, &at) == MemoryError::kOutOfMemory);
    CHECK(at == 77);
    CHECK(memory->in_use().none());
    CHECK(memory->allocate(0, 1 << 20, 0, &at) == MemoryError::kOk);
  }

  TEST_CASE("translation names the first address that cannot be reached and why") {
    const auto memory = small_memory(Contents::kNone);
    std::uint64_t plain = 0;
    REQUIRE(memory->allocate(0, 100, 0, &plain) == MemoryError::kOk);
    CHECK(memory->translate(plain, 100, 0, Access::kReadWrite, kIgnore).ok());
    CHECK(memory->translate(plain, 0, 0, Access::kReadWrite, kIgnore).ok());
    Translation over = memory->translate(plain + 50, 51, 0, Access::kRead, kIgnore);
    CHECK(over.error == MemoryError::kOutOfBounds);
    CHECK(over.address == plain + 100);
    CHECK(memory->translate(plain, 1, 1, Access::kRead, kIgnore).error == MemoryError::kNoAccess);
    memory->set_peer_access(1, 0, true);
    CHECK(memory->translate(plain, 1, 1, Access::kRead, kIgnore).ok());
    memory->set_peer_access(1, 0, false);
    CHECK(memory->translate(plain, 1, 1, Access::kRead, kIgnore).error == MemoryError::kNoAccess);
    CHECK(memory->translate(plain, ~std::uint64_t{0}, 0, Access::kRead, kIgnore).error ==
          MemoryError::kForeign);
    CHECK(memory->translate(8, 1, 0, Access::kRead, kIgnore).error == MemoryError::kForeign);
    REQUIRE(memory->free(plain) == MemoryError::kOk);
    CHECK(memory->translate(plain, 1, 0, Access::kRead, kIgnore).error == MemoryError::kFreed);

    std::uint64_t at = 0;
    PhysicalId id;
    REQUIRE(memory->reserve(4 * kPage, 0, 0, &at) == MemoryError::kOk);
    REQUIRE(memory->create_physical(0, kPage, &id) == MemoryError::kOk);
    REQUIRE(memory->map(at, kPage, id) == MemoryError::kOk);
    CHECK(memory->translate(at, 1, 0, Access::kRead, kIgnore).error == MemoryError::kNoAccess);
    REQUIRE(memory->set_access(at, kPage, 0, Access::kRead) == MemoryError::kOk);
    CHECK(memory->translate(at, 1, 0, Access::kRead, kIgnore).ok());
    const Translation gap = memory->translate(at + 9, kPage, 0, Access::kRead, kIgnore);
    CHECK(gap.error == MemoryError::kNotMapped);
    CHECK(gap.address == at + kPage);
    CHECK(memory->translate(at + 4 * kPage, 1, 0, Access::kRead, kIgnore).error ==
          MemoryError::kNotReserved);
  }

  TEST_CASE("a run after a reset gets the addresses, handles and bytes of a first run") {
    const auto program = [](Memory& memory) {
      std::vector<std::uint64_t> results;
      std::uint64_t at = 0;
      PhysicalId id;
      for (const std::uint64_t bytes : {100u, 9000u, 100u}) {
        REQUIRE(memory.allocate(0, bytes, 0, &at) == MemoryError::kOk);
        results.push_back(at - memory.base());
        results.push_back(memory.find(at).serial);
      }
      REQUIRE(memory.free(at) == MemoryError::kOk);
      results.push_back(map_new(memory, 2 * kPage, &id) - memory.base());
      results.push_back(id.value);
      results.push_back(memory.find(memory.base() + results[6]).flat);
      REQUIRE(memory.allocate_pinned(100, 0, &at) == MemoryError::kOk);
      results.push_back(at - memory.base());
      REQUIRE(memory.guard(at, 100, GuardKind::kNoAccess) == MemoryError::kOk);
      REQUIRE(memory.register_host(1 << 20, 100, 0) == MemoryError::kOk);
      REQUIRE(memory
                  .translate((1 << 20) + 5,
                             50,
                             0,
                             Access::kRead,
                             [&](std::uint64_t flat, std::uint64_t) { results.push_back(flat); })
                  .ok());
      memory.physical().set_other_tenant_bytes(0, 5);
      memory.pinned().set_limit_bytes(2 * kPage);
      memory.set_peer_access(0, 1, true);
      results.push_back(memory.physical().peak_bytes(0));
      return results;
    };
    std::vector<std::uint64_t> first;
    for (const Contents contents : {Contents::kFull, Contents::kNone}) {
      const auto memory = small_memory(contents);
      for (int round = 0; round < 3; ++round) {
        CAPTURE(round);
        const std::vector<std::uint64_t> results = program(*memory);
        if (first.empty()) first = results;
        CHECK(results == first);
        const MemoryInUse use = memory->in_use();
        CHECK(use.plain_blocks == 2);
        CHECK(use.physical_handles == 1);
        CHECK(use.reservations == 1);
        CHECK(use.mappings == 1);
        CHECK(use.pinned_blocks == 1);
        CHECK(use.registrations == 1);
        int seen = 0;
        memory->for_each_in_use([&](const AddressInfo& info) {
          ++seen;
          CHECK(info.kind != MemoryKind::kNone);
          CHECK(info.range.bytes != 0);
        });
        CHECK(seen == 5);
        memory->reset();
        CHECK(memory->in_use().none());
        std::uint64_t of_peer = 0;
        REQUIRE(memory->allocate(1, 1, 0, &of_peer) == MemoryError::kOk);
        CHECK(memory->translate(of_peer, 1, 0, Access::kRead, kIgnore).error ==
              MemoryError::kNoAccess);
        memory->reset();
        CHECK(memory->pinned().limit_bytes() == 1 << 20);
        CHECK(memory->physical().free_bytes(0) == memory->physical().capacity_bytes(0));
      }
    }
  }

  TEST_CASE("after a reset pinned memory and mappings of the last run are out of reach") {
    const auto memory = small_memory();
    PhysicalId id;
    const std::uint64_t mapped = map_new(*memory, kPage, &id);
    std::uint64_t pinned = 0;
    REQUIRE(memory->allocate_pinned(kPage, 0, &pinned) == MemoryError::kOk);
    (void)touch(mapped);
    memory->reset();
    CHECK_FALSE(memory->any_faults());
    (void)touch(pinned);
    (void)touch(mapped);
    (void)touch(mirror_address(*memory, mapped));
    std::vector<HostFault> faults;
    REQUIRE(memory->take_faults(&faults));
    REQUIRE(faults.size() == 3);
    CHECK(faults[0].kind == HostFaultKind::kNotAllocated);
    CHECK(faults[1].kind == HostFaultKind::kDeviceAddress);
    CHECK(faults[2].kind == HostFaultKind::kKernel);
  }

  TEST_CASE("without contents eight large devices and terabytes of addresses cost nothing") {
    MemoryOptions options;
    options.device_count = 8;
    options.memory_bytes = std::uint64_t{141} << 30;
    options.contents = Contents::kNone;
    const auto memory = make_memory(options);
    std::uint64_t at = 0;
    for (std::uint32_t device = 0; device < 8; ++device) {
      REQUIRE(memory->allocate(device, std::uint64_t{140} << 30, 0, &at) == MemoryError::kOk);
    }
    REQUIRE(memory->reserve(std::uint64_t{8} << 40, 0, 0, &at) == MemoryError::kOk);
    REQUIRE(memory->allocate_pinned(std::uint64_t{900} << 30, 0, &at) == MemoryError::kOk);
    CHECK(memory->mirror(at) == nullptr);
    CHECK(memory->window(0) == nullptr);
    CHECK(memory->resident_bytes() == 0);
    memory->fill(at, std::uint64_t{900} << 30, std::byte{1});
    CHECK(memory->end() < std::uint64_t{1} << 52);
  }

  TEST_CASE("freed memory of ever other sizes is given back to the machine") {
    MemoryOptions options = small_options(Contents::kFull);
    options.device_count = 1;
    options.memory_bytes = 16u << 20;
    options.idle_bytes_max = 4u << 20;
    const auto memory = make_memory(options);
    for (int round = 0; round < 3; ++round) {
      for (std::uint64_t bytes = 2u << 20; bytes <= 16u << 20; bytes *= 2) {
        std::vector<std::uint64_t> blocks;
        std::uint64_t at = 0;
        while (memory->allocate(0, bytes - kPage, 0, &at) == MemoryError::kOk) {
          memory->fill(at, bytes - kPage, std::byte{0xFF});
          blocks.push_back(at);
        }
        CHECK(memory->resident_bytes() <= 16u << 20 << 1);
        for (const std::uint64_t block : blocks) REQUIRE(memory->free(block) == MemoryError::kOk);
      }
    }
  }
}

TEST_SUITE("model") {
  namespace {

  // A page table with one entry per page, and one byte value per physical page.
  struct Oracle {
    struct Page {
      std::uint64_t mapping = 0;  // number of the map call
      std::uint64_t flat = 0;
      std::array<Access, 2> access{};
    };
    struct Handle {
      std::uint64_t bytes = 0;
      std::uint64_t flat = 0;
      std::uint32_t device = 0;
      bool held = true;
      int mapped = 0;
    };
    std::map<std::uint64_t, std::uint64_t> reserved;       // page -> begin of its reservation
    std::map<std::uint64_t, std::uint64_t> reservations;   // begin -> bytes
    std::map<std::uint64_t, Page> pages;                   // address offset -> page
    std::map<std::uint64_t, std::uint64_t> mapping_pages;  // number -> pages
    std::map<std::uint64_t, std::uint64_t> mapping_handle;
    std::map<std::uint64_t, Handle> handles;                                  // id -> handle
    std::map<std::uint64_t, std::pair<std::uint64_t, std::uint32_t>> blocks;  // begin -> bytes, dev
    std::map<std::uint64_t, std::uint64_t> pinned;                            // begin -> bytes
    std::map<std::uint64_t, std::uint8_t> bytes;  // flat page -> its value
    std::uint64_t next_mapping = 1;

    [[nodiscard]] std::uint64_t used(std::uint32_t device) const {
      std::uint64_t sum = 0;
      for (const auto& [id, handle] : handles) {
        if (handle.device == device && (handle.held || handle.mapped > 0)) sum += handle.bytes;
      }
      for (const auto& [begin, block] : blocks) {
        if (block.second == device) sum += (block.first + kPage - 1) / kPage * kPage;
      }
      return sum;
    }
    [[nodiscard]] bool whole_mappings(std::uint64_t begin, std::uint64_t length) const {
      std::map<std::uint64_t, std::uint64_t> seen;
      for (std::uint64_t at = begin; at < begin + length; at += kPage) {
        const auto page = pages.find(at);
        if (page == pages.end()) return false;
        ++seen[page->second.mapping];
      }
      for (const auto& [number, count] : seen) {
        if (mapping_pages.at(number) != count) return false;
      }
      return length > 0;
    }
  };

  struct Pair {
    std::unique_ptr<Memory> full = small_memory(Contents::kFull);
    std::unique_ptr<Memory> none = small_memory(Contents::kNone);

    // The same call on both: the same error, and the same ranges in words.
    template <typename Call>
    MemoryError both(Call&& call) {
      const MemoryError error = call(*full);
      const MemoryError other = call(*none);
      REQUIRE(error == other);
      if (error != MemoryError::kOk) REQUIRE(full->describe_misuse() == none->describe_misuse());
      return error;
    }
  };

  template <typename Map>
  typename Map::const_iterator pick(const Map& map, Random& random) {
    auto it = map.begin();
    std::advance(it, static_cast<std::ptrdiff_t>(random.below(map.size())));
    return it;
  }

  void compare(const Oracle& oracle, Pair& pair) {
    for (std::uint32_t device = 0; device < 2; ++device) {
      REQUIRE(pair.full->physical().used_bytes(device) == oracle.used(device));
      REQUIRE(pair.none->physical().used_bytes(device) == oracle.used(device));
    }
    std::uint64_t pinned = 0;
    for (const auto& [begin, bytes] : oracle.pinned) pinned += (bytes + kPage - 1) / kPage * kPage;
    REQUIRE(pair.full->pinned().pinned_bytes() == pinned);
    REQUIRE(pair.none->pinned().pinned_bytes() == pinned);
    REQUIRE(pair.full->in_use().plain_blocks == oracle.blocks.size());
    REQUIRE(pair.full->in_use().reservations == oracle.reservations.size());
    Memory& memory = *pair.full;
    for (const auto& [at, page] : oracle.pages) {
      for (std::uint32_t device = 0; device < 2; ++device) {
        std::uint64_t flat = 0;
        const Translation read = memory.translate(
            memory.base() + at, kPage, device, Access::kRead, [&](std::uint64_t begin, auto) {
              flat = begin;
            });
        REQUIRE(read.ok() == (page.access[device] != Access::kNone));
        if (read.ok()) REQUIRE(flat == page.flat);
        REQUIRE(
            memory.translate(memory.base() + at, kPage, device, Access::kReadWrite, kIgnore).ok() ==
            (page.access[device] == Access::kReadWrite));
      }
      if (page.access[0] == Access::kNone && page.access[1] == Access::kNone) continue;
      const std::uint64_t seen = mirror_address(memory, memory.base() + at);
      REQUIRE(touch(seen) == oracle.bytes.at(page.flat));
      REQUIRE(touch(seen + kPage - 1) == oracle.bytes.at(page.flat));
    }
    for (const auto& [begin, block] : oracle.blocks) {
      const std::uint64_t seen = mirror_address(memory, memory.base() + begin);
      REQUIRE(touch(seen) == oracle.bytes.at(begin));
      REQUIRE(touch(seen + block.first - 1) == oracle.bytes.at(begin));
    }
    for (const auto& [begin, bytes] : oracle.pinned) {
      REQUIRE(touch(memory.base() + begin) == oracle.bytes.at(begin));
      REQUIRE(touch(memory.base() + begin + bytes - 1) == oracle.bytes.at(begin));
    }
    REQUIRE_FALSE(memory.any_faults());
  }

  void step(Oracle& oracle, Pair& pair, Random& random) {
    std::uint64_t out_full = 0;
    std::uint64_t out_none = 0;
    const auto out = [&](const Memory& m) { return &m == pair.full.get() ? &out_full : &out_none; };
    const auto same_offset = [&] {
      REQUIRE(out_full - pair.full->base() == out_none - pair.none->base());
      return out_full - pair.full->base();
    };
    const auto capacity = pair.full->physical().capacity_bytes(0);
    const auto value = static_cast<std::uint8_t>(random.below(256));
    const auto device = static_cast<std::uint32_t>(random.below(2));
    switch (random.below(14)) {
      case 0:
      case 1: {  // plain block
        const std::uint64_t bytes = 1 + random.below(random.below(8) == 0 ? capacity : 5 * kPage);
        const MemoryError error =
            pair.both([&](Memory& m) { return m.allocate(device, bytes, 0, out(m)); });
        const std::uint64_t rounded = (bytes + kPage - 1) / kPage * kPage;
        REQUIRE((error == MemoryError::kOk) == (oracle.used(device) + rounded <= capacity));
        if (error != MemoryError::kOk) break;
        const std::uint64_t at = same_offset();
        for (const auto& [begin, block] : oracle.blocks) {
          REQUIRE((at + rounded <= begin || begin + block.first <= at));
        }
        oracle.blocks[at] = {bytes, device};
        pair.full->fill(out_full, bytes, std::byte{value});
        oracle.bytes[at] = value;
        break;
      }
      case 2: {  // free it, or something else
        if (oracle.blocks.empty()) break;
        const std::uint64_t at = pick(oracle.blocks, random)->first;
        const std::uint64_t off = random.below(4) == 0 ? 1 + random.below(kPage) : 0;
        const MemoryError error = pair.both([&](Memory& m) { return m.free(m.base() + at + off); });
        REQUIRE((error == MemoryError::kOk) == (off == 0));
        if (error == MemoryError::kOk) oracle.blocks.erase(at);
        break;
      }
      case 3: {  // physical handle
        const std::uint64_t bytes = kPage * (1 + random.below(random.below(8) == 0 ? 300 : 6));
        PhysicalId full_id;
        PhysicalId none_id;
        const MemoryError error = pair.both([&](Memory& m) {
          return m.create_physical(device, bytes, &m == pair.full.get() ? &full_id : &none_id);
        });
        REQUIRE((error == MemoryError::kOk) == (oracle.used(device) + bytes <= capacity));
        if (error != MemoryError::kOk) break;
        REQUIRE(full_id == none_id);
        const std::uint64_t flat = pair.full->find_physical(full_id)->flat.begin;
        for (const auto& [id, handle] : oracle.handles) {
          if (!handle.held && handle.mapped == 0) continue;
          REQUIRE((flat + bytes <= handle.flat || handle.flat + handle.bytes <= flat));
        }
        oracle.handles[full_id.value] = {bytes, flat, device};
        pair.full->fill_flat(flat, bytes, std::byte{value});
        for (std::uint64_t at = flat; at < flat + bytes; at += kPage) oracle.bytes[at] = value;
        break;
      }
      case 4: {  // release
        if (oracle.handles.empty()) break;
        auto it = oracle.handles.find(pick(oracle.handles, random)->first);
        const MemoryError error =
            pair.both([&](Memory& m) { return m.release_physical(PhysicalId{it->first}); });
        REQUIRE((error == MemoryError::kOk) == it->second.held);
        it->second.held = false;
        break;
      }
      case 5: {  // reserve
        const std::uint64_t bytes = kPage * (1 + random.below(12));
        const std::uint64_t alignment = random.below(3) == 0 ? kPage << random.below(8) : 0;
        if (oracle.reservations.size() > 12) break;
        const MemoryError error =
            pair.both([&](Memory& m) { return m.reserve(bytes, alignment, 0, out(m)); });
        REQUIRE(error == MemoryError::kOk);
        const std::uint64_t at = same_offset();
        if (alignment != 0) REQUIRE(at % alignment == 0);
        for (std::uint64_t page = at; page < at + bytes; page += kPage) {
          REQUIRE(oracle.reserved.emplace(page, at).second);
        }
        oracle.reservations[at] = bytes;
        break;
      }
      case 6: {  // release a reservation
        if (oracle.reservations.empty()) break;
        const auto [at, whole] = *pick(oracle.reservations, random);
        const std::uint64_t begin = at;
        const std::uint64_t bytes = random.below(5) == 0 ? kPage * (1 + random.below(12)) : whole;
        bool mapped = false;
        for (std::uint64_t page = at; page < at + whole; page += kPage) {
          mapped = mapped || oracle.pages.count(page) != 0;
        }
        const MemoryError error =
            pair.both([&](Memory& m) { return m.free_reservation(m.base() + begin, bytes); });
        REQUIRE((error == MemoryError::kOk) == (bytes == whole && !mapped));
        if (error != MemoryError::kOk) break;
        for (std::uint64_t page = at; page < at + bytes; page += kPage) oracle.reserved.erase(page);
        oracle.reservations.erase(at);
        break;
      }
      case 7:
      case 8: {  // map
        if (oracle.handles.empty() || oracle.reservations.empty()) break;
        auto handle = oracle.handles.find(pick(oracle.handles, random)->first);
        const auto [start, whole] = *pick(oracle.reservations, random);
        const std::uint64_t at = start + kPage * random.below(whole / kPage);
        const std::uint64_t bytes = handle->second.bytes;
        bool fits = handle->second.held;
        for (std::uint64_t page = at; page < at + bytes; page += kPage) {
          const auto there = oracle.reserved.find(page);
          fits = fits && there != oracle.reserved.end() && there->second == start &&
                 oracle.pages.count(page) == 0;
        }
        const MemoryError error = pair.both(
            [&](Memory& m) { return m.map(m.base() + at, bytes, PhysicalId{handle->first}); });
        REQUIRE((error == MemoryError::kOk) == fits);
        if (!fits) break;
        const std::uint64_t number = oracle.next_mapping++;
        for (std::uint64_t done = 0; done < bytes; done += kPage) {
          oracle.pages[at + done] = {number, handle->second.flat + done, {}};
        }
        oracle.mapping_pages[number] = bytes / kPage;
        oracle.mapping_handle[number] = handle->first;
        ++handle->second.mapped;
        break;
      }
      case 9:
      case 10:
      case 11: {  // unmap or access, mostly of one whole mapping
        if (oracle.pages.empty()) break;
        const auto first = pick(oracle.pages, random);
        std::uint64_t begin = first->first;
        std::uint64_t bytes = kPage * (1 + random.below(6));
        if (random.below(4) != 0) {
          const std::uint64_t number = first->second.mapping;
          while (oracle.pages.count(begin - kPage) != 0 &&
                 oracle.pages[begin - kPage].mapping == number) {
            begin -= kPage;
          }
          bytes = oracle.mapping_pages[number] * kPage;
        }
        const bool whole = oracle.whole_mappings(begin, bytes);
        if (random.below(2) == 0) {
          const MemoryError error =
              pair.both([&](Memory& m) { return m.unmap(m.base() + begin, bytes); });
          REQUIRE((error == MemoryError::kOk) == whole);
          if (!whole) break;
          for (std::uint64_t at = begin; at < begin + bytes; at += kPage) {
            const std::uint64_t number = oracle.pages[at].mapping;
            oracle.pages.erase(at);
            if (--oracle.mapping_pages[number] == 0) {
              --oracle.handles[oracle.mapping_handle[number]].mapped;
            }
          }
        } else {
          const Access access = std::array<Access, 3>{
              Access::kNone, Access::kRead, Access::kReadWrite}[random.below(3)];
          const MemoryError error = pair.both(
              [&](Memory& m) { return m.set_access(m.base() + begin, bytes, device, access); });
          REQUIRE((error == MemoryError::kOk) == whole);
          if (!whole) break;
          for (std::uint64_t at = begin; at < begin + bytes; at += kPage) {
            oracle.pages[at].access[device] = access;
          }
        }
        break;
      }
      case 12: {  // a kernel writes a mapped page
        if (oracle.pages.empty()) break;
        const auto page = pick(oracle.pages, random);
        pair.full->fill(pair.full->base() + page->first, kPage, std::byte{value});
        oracle.bytes[page->second.flat] = value;
        break;
      }
      case 13: {  // pinned memory
        if (random.below(2) == 0 && !oracle.pinned.empty()) {
          const std::uint64_t at = pick(oracle.pinned, random)->first;
          REQUIRE(pair.both([&](Memory& m) { return m.free_pinned(m.base() + at); }) ==
                  MemoryError::kOk);
          oracle.pinned.erase(at);
          break;
        }
        const std::uint64_t bytes = 1 + random.below(5 * kPage);
        const MemoryError error =
            pair.both([&](Memory& m) { return m.allocate_pinned(bytes, 0, out(m)); });
        if (error != MemoryError::kOk) break;
        const std::uint64_t at = same_offset();
        oracle.pinned[at] = bytes;
        pair.full->fill(out_full, bytes, std::byte{value});
        oracle.bytes[at] = value;
        break;
      }
      default:
        break;
    }
  }

  }  // namespace

  TEST_CASE("random programs agree with page tables, and with themselves without contents") {
    const char* text = std::getenv("SPILLWAY_TEST_SEED");
    const std::uint64_t begin = text != nullptr ? std::strtoull(text, nullptr, 10) : 1;
    const std::uint64_t end = text != nullptr ? begin + 1 : 41;
    Pair pair;
    for (std::uint64_t seed = begin; seed < end; ++seed) {
      CAPTURE(seed);
      INFO("repeat with SPILLWAY_TEST_SEED=" << seed);
      Random random(seed);
      Oracle oracle;
      for (int i = 0; i < 400; ++i) {
        step(oracle, pair, random);
        if (i % 10 == 0) compare(oracle, pair);
      }
      compare(oracle, pair);
      pair.full->reset();
      pair.none->reset();
    }
  }
}
