// SPDX-License-Identifier: Apache-2.0
// A hash table from address to a small number that empties in constant time: the simulator forgets
// all locks and atomics between two runs. Look-up only; there is no way to iterate, because an
// order by address would differ from run to run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace spillway::sim {

class AddressTable {
 public:
  static constexpr std::uint32_t kAbsent = 0xffffffffu;

  AddressTable() : entries_(64) {}

  [[nodiscard]] std::uint32_t find(const void* address) const {
    for (std::size_t i = home(address);; i = next(i)) {
      if (entries_[i].run != run_) return kAbsent;
      if (entries_[i].address == address) return entries_[i].value;
    }
  }

  /// REQUIRES: absent.
  void insert(const void* address, std::uint32_t value) {
    if (2 * (size_ + 1) > entries_.size()) grow();
    place(address, value);
    ++size_;
  }

  /// REQUIRES: present. Later entries of the same probe sequence move up, so no tombstones remain.
  void erase(const void* address) {
    std::size_t hole = home(address);
    while (entries_[hole].address != address) hole = next(hole);
    for (std::size_t i = next(hole); entries_[i].run == run_; i = next(i)) {
      const std::size_t wanted = home(entries_[i].address);
      // May move into the hole unless its home lies cyclically in (hole, i].
      const bool stays = hole <= i ? hole < wanted && wanted <= i : hole < wanted || wanted <= i;
      if (stays) continue;
      entries_[hole] = entries_[i];
      hole = i;
    }
    entries_[hole].run = 0;
    --size_;
  }

  void clear() {
    ++run_;
    size_ = 0;
  }

 private:
  struct Entry {
    const void* address = nullptr;
    std::uint64_t run = 0;  // valid when equal to run_
    std::uint32_t value = 0;
  };

  [[nodiscard]] std::size_t next(std::size_t i) const { return (i + 1) & (entries_.size() - 1); }
  [[nodiscard]] std::size_t home(const void* address) const {
    const auto bits = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(address));
    return static_cast<std::size_t>((bits * 0x9e3779b97f4a7c15ull) >> 32) & (entries_.size() - 1);
  }

  void place(const void* address, std::uint32_t value) {
    std::size_t i = home(address);
    while (entries_[i].run == run_) i = next(i);
    entries_[i] = {address, run_, value};
  }

  void grow() {
    std::vector<Entry> old(2 * entries_.size());
    old.swap(entries_);
    for (const Entry& entry : old) {
      if (entry.run == run_) place(entry.address, entry.value);
    }
  }

  // INVARIANT: entries_.size() is a power of two and at least 2 * size_.
  std::vector<Entry> entries_;
  std::size_t size_ = 0;
  std::uint64_t run_ = 1;
};

}  // namespace spillway::sim
