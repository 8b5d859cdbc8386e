// SPDX-License-Identifier: Apache-2.0
// All memory of one simulated machine, without the driver's table above it: plain device blocks,
// physical handles, reservations and mappings, pinned, managed and registered host memory. Calls
// are checked, and a refusal says why as an enum (misuse() has the ranges). One thread at a time.
#pragma once

#include "device/sim/address_space.hpp"
#include "device/sim/foreign_memory.hpp"
#include "device/sim/pinned_memory.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace spillway::sim {

enum class MemoryKind : std::uint8_t {
  kNone,        // not ours, or nothing there
  kPlain,       // cuMemAlloc and stream-ordered blocks
  kReserved,    // a reservation, mapped or not
  kPinned,      // host memory of ours; one address for host and device
  kManaged,     // the same for managed memory
  kRegistered,  // the program's own host memory, registered
};

/// What an address is.
struct AddressInfo {
  MemoryKind kind = MemoryKind::kNone;
  std::uint32_t device = 0;  // kPlain: its owner; kReserved: of what is mapped there
  std::uint32_t flags = 0;   // the caller's at allocation
  std::uint64_t serial = 0;  // number of the block, in order of allocation; 0 for other kinds
  ByteRange range;           // addresses of the block, reservation or registration
  ByteRange mapping;         // kReserved: addresses of the mapping there; bytes == 0: none
  std::uint64_t flat = 0;    // of the address itself, where there are bytes (not kRegistered)
  PhysicalId physical;       // kReserved, mapped
};

/// How translate() ended: kOk, or the first address that cannot be reached that way.
struct Translation {
  MemoryError error = MemoryError::kOk;
  std::uint64_t address = 0;
  [[nodiscard]] bool ok() const { return error == MemoryError::kOk; }
};

/// What is still there, as counts and bytes.
struct MemoryInUse {
  std::uint64_t plain_blocks = 0;
  std::uint64_t physical_handles = 0;
  std::uint64_t reservations = 0;
  std::uint64_t mappings = 0;
  std::uint64_t pinned_blocks = 0;  // managed ones included
  std::uint64_t registrations = 0;

  [[nodiscard]] bool none() const {
    return (plain_blocks | physical_handles | reservations | mappings | pinned_blocks |
            registrations) == 0;
  }
};

class Memory {
 public:
  /// kInvalidArgument for options that make no sense, kOutOfMemory or kIo when the machine has no
  /// room for the views.
  static Result<std::unique_ptr<Memory>> create(const MemoryOptions& options);

  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  Memory(Memory&&) = delete;
  Memory& operator=(Memory&&) = delete;
  ~Memory() = default;

  [[nodiscard]] const MemoryLayout& layout() const { return layout_; }
  [[nodiscard]] bool full() const { return backing_ != nullptr; }
  [[nodiscard]] std::uint64_t base() const { return base_; }
  [[nodiscard]] std::uint64_t end() const { return base_ + span_bytes_; }
  /// Whether an address is one of the simulator's (device, pinned or managed).
  [[nodiscard]] bool owns(std::uint64_t address) const { return address - base_ < span_bytes_; }
  [[nodiscard]] PhysicalMemory& physical() { return physical_; }
  [[nodiscard]] const PhysicalMemory& physical() const { return physical_; }
  [[nodiscard]] PinnedMemory& pinned() { return pinned_; }
  [[nodiscard]] const PinnedMemory& pinned() const { return pinned_; }
  [[nodiscard]] ForeignMemory& foreign() { return foreign_; }

  /// Of the last call that failed; offsets from the base.
  [[nodiscard]] const Misuse& misuse() const { return misuse_; }
  [[nodiscard]] std::string describe_misuse() const { return describe(misuse_, span_bytes_); }

  // --- plain device memory ---
  /// A block of `bytes` > 0 on a device, aligned to at least its own rounded size and 8 KiB.
  /// Contents are what the last owner left: the caller poisons.
  MemoryError allocate(std::uint32_t device,
                       std::uint64_t bytes,
                       std::uint32_t flags,
                       std::uint64_t* address);
  /// `freed`, if given, is what find() said before.
  MemoryError free(std::uint64_t address, AddressInfo* freed = nullptr);
  /// Whether a freed plain block is the next one handed out. Call on a fresh memory only.
  void set_immediate_reuse(bool on) {
    for (SlotArena& arena : plain_) arena.set_reuse(on);
  }
  /// Whether `device` may reach plain memory of `owner`.
  void set_peer_access(std::uint32_t device, std::uint32_t owner, bool on);

  // --- physical handles, reservations, mappings ---
  MemoryError create_physical(std::uint32_t device, std::uint64_t bytes, PhysicalId* id);
  MemoryError retain_physical(PhysicalId id) { return physical_.retain(id, &misuse_); }
  MemoryError release_physical(PhysicalId id) { return physical_.release(id, &misuse_); }
  const PhysicalBlock* find_physical(PhysicalId id) { return physical_.find(id, &misuse_); }
  MemoryError reserve(std::uint64_t bytes,
                      std::uint64_t alignment,
                      std::uint64_t hint,
                      std::uint64_t* address);
  MemoryError free_reservation(std::uint64_t address, std::uint64_t bytes);
  MemoryError map(std::uint64_t address,
                  std::uint64_t bytes,
                  PhysicalId id,
                  std::uint64_t handle_offset = 0);
  MemoryError unmap(std::uint64_t address, std::uint64_t bytes);
  MemoryError set_access(std::uint64_t address,
                         std::uint64_t bytes,
                         std::uint32_t device,
                         Access access);
  MemoryError get_access(std::uint64_t address, std::uint32_t device, Access* access);

  // --- pinned, managed and registered host memory ---
  MemoryError allocate_pinned(std::uint64_t bytes, std::uint32_t flags, std::uint64_t* address);
  MemoryError free_pinned(std::uint64_t address, AddressInfo* freed = nullptr);
  MemoryError allocate_managed(std::uint64_t bytes, std::uint32_t flags, std::uint64_t* address);
  MemoryError free_managed(std::uint64_t address, AddressInfo* freed = nullptr);
  MemoryError register_host(std::uint64_t address, std::uint64_t bytes, std::uint32_t flags);
  MemoryError unregister_host(std::uint64_t address);
  /// Takes pages of a pinned or managed block from the host while an operation is in flight. No
  /// effect without contents. kTooManyMappings leaves some pages open, and is undone as usual.
  MemoryError guard(std::uint64_t address, std::uint64_t bytes, GuardKind kind) {
    return pinned_.guard(address - base_, bytes, kind, &misuse_);
  }
  MemoryError unguard(std::uint64_t address, std::uint64_t bytes, GuardKind kind) {
    return pinned_.unguard(address - base_, bytes, kind, &misuse_);
  }

  // --- look-up ---
  [[nodiscard]] AddressInfo find(std::uint64_t address) const;
  /// visit(flat begin, bytes) for the pieces of [address, address + bytes), in order, when all of
  /// it can be reached by `device` for `access`; otherwise no visit and the first address that
  /// cannot. Plain and host blocks end where their owner asked them to. Nothing for 0 bytes.
  template <typename Visit>
  Translation translate(std::uint64_t address,
                        std::uint64_t bytes,
                        std::uint32_t device,
                        Access access,
                        Visit&& visit);

  // --- contents; all no-ops (or null) without them ---
  /// The engine's view of a flat offset: always readable and writable.
  [[nodiscard]] std::byte* window(std::uint64_t flat) const {
    return backing_ == nullptr ? nullptr : backing_->window(flat);
  }
  /// The kernel bodies' view of an address: contiguous as the address is. Addresses of others
  /// are themselves.
  [[nodiscard]] std::byte* mirror(std::uint64_t address) const {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): host addresses come as numbers
    if (!owns(address)) return reinterpret_cast<std::byte*>(address);
    return backing_ == nullptr ? nullptr : backing_->mirror(address - base_);
  }
  void fill_flat(std::uint64_t flat, std::uint64_t bytes, std::byte value);
  /// Whatever the access rights; stops at the first address without bytes.
  void fill(std::uint64_t address, std::uint64_t bytes, std::byte value);

  // --- kernel bodies in check mode ---
  void only_accessible(std::span<const DeclaredRange> declared) {
    mirror_.only_accessible(declared, base_);
  }
  void all_accessible() { mirror_.all_accessible(); }
  /// Flat ranges of everything alive that no declared range touches, in order.
  [[nodiscard]] std::vector<ByteRange> undeclared(std::span<const DeclaredRange> declared);

  // --- faults of the host and of kernel bodies ---
  [[nodiscard]] bool any_faults() const { return backing_ != nullptr && backing_->guard().any(); }
  /// Appends the faults since the last call and puts the pages back. False when there were more
  /// than could be recorded.
  bool take_faults(std::vector<HostFault>* faults);

  // --- the end of a run ---
  [[nodiscard]] MemoryInUse in_use() const;
  /// visit(what: AddressInfo) for each plain, pinned, managed block, reservation and registration
  /// still there, in address order by kind.
  template <typename Visit>
  void for_each_in_use(Visit&& visit) const;
  /// Back to the fresh state: the next run gets the addresses and handles of a first run. Contents
  /// stay as they are (what is handed out is poisoned then), and so do the views.
  void reset();

  /// Host memory that the contents take.
  [[nodiscard]] std::uint64_t resident_bytes() const {
    return backing_ == nullptr ? 0 : backing_->resident_bytes();
  }

 private:
  explicit Memory(const MemoryLayout& layout, std::unique_ptr<MemoryBacking> backing);

  MemoryError refuse(MemoryError error, ByteRange asked, ByteRange found) {
    misuse_ = Misuse{error, asked, found};
    return error;
  }
  MemoryError free_host(std::uint64_t address, bool managed, AddressInfo* freed);
  /// The block at an address offset that is not in a reservation.
  [[nodiscard]] AddressInfo find_block(std::uint64_t offset) const;
  Translation cannot(MemoryError error, std::uint64_t offset) {
    return Translation{error, base_ + offset};
  }
  Translation reach(std::uint64_t offset, std::uint64_t bytes, std::uint32_t device, Access access);
  void note_growth(std::uint64_t bytes);

  MemoryLayout layout_;
  std::unique_ptr<MemoryBacking> backing_;
  std::uint64_t base_;
  std::uint64_t span_bytes_;
  PhysicalMemory physical_;
  std::vector<SlotArena> plain_;      // one per device
  std::vector<std::uint32_t> peers_;  // bit o of peers_[d]: d reaches plain memory of o
  Mirror mirror_;
  AddressSpace space_;
  PinnedMemory pinned_;
  ForeignMemory foreign_;
  Misuse misuse_;
  std::uint64_t serial_ = 0;
  std::uint64_t grown_bytes_ = 0;  // handed out since resident_bytes() was looked at
};

template <typename Visit>
Translation Memory::translate(std::uint64_t address,
                              std::uint64_t bytes,
                              std::uint32_t device,
                              Access access,
                              Visit&& visit) {
  if (bytes == 0) return {};
  const std::uint64_t offset = address - base_;
  if (!owns(address)) {
    const ForeignMemory::Registration there = foreign_.find(address);
    if (there.range.bytes == 0) return Translation{MemoryError::kForeign, address};
    if (bytes > there.range.end() - address) {
      return Translation{MemoryError::kOutOfBounds, there.range.end()};
    }
    foreign_.flat_of(address, bytes, [&](std::uint64_t flat, std::uint64_t piece, std::uint64_t) {
      visit(flat, piece);
    });
    return {};
  }
  const Translation reached = reach(offset, bytes, device, access);
  if (!reached.ok()) return reached;
  if (offset < layout_.linear_end()) {
    visit(offset, bytes);
    return {};
  }
  for (std::uint64_t done = 0; done < bytes;) {
    const Mapping& mapping = *space_.find_mapping(offset + done);
    const std::uint64_t inside = offset + done - mapping.range.begin;
    const std::uint64_t piece = std::min(bytes - done, mapping.range.bytes - inside);
    visit(mapping.flat + inside, piece);
    done += piece;
  }
  return {};
}

template <typename Visit>
void Memory::for_each_in_use(Visit&& visit) const {
  for (std::uint32_t device = 0; device < plain_.size(); ++device) {
    plain_[device].for_each_live([&](std::uint64_t begin, const SlotArena::Slot&) {
      visit(find(base_ + layout_.plain_begin(device) + begin));
    });
  }
  pinned_.for_each_live([&](const PinnedBlock& block) { visit(find(base_ + block.range.begin)); });
  space_.for_each_reservation([&](const ByteRange& range) { visit(find(base_ + range.begin)); });
  foreign_.for_each_live(
      [&](const ForeignMemory::Registration& there) { visit(find(there.range.begin)); });
}

}  // namespace spillway::sim
