// SPDX-License-Identifier: Apache-2.0
// What an operation does to the bytes when its turn comes: copies in pieces, fills, kernels on
// their host bodies, host functions on the callback thread.
#include "device/sim/engine.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

namespace spillway::sim {
namespace {

constexpr std::byte kInFlight{0xa5};

bool overlap(std::uint64_t a, std::uint64_t b, std::uint64_t bytes) {
  return a < b + bytes && b < a + bytes;
}

}  // namespace

bool Engine::value_arrived(const Op& op) {
  if (!reachable(op.target, 4, 0)) return true;  // execute() finds the fault
  std::uint32_t now = 0;
  std::memcpy(&now, bytes_of(op.target), sizeof(now));
  // "At least" is cyclic: the signed difference is not negative.
  return op.wait_geq ? static_cast<std::int32_t>(now - op.value) >= 0 : now == op.value;
}

/// Addresses are resolved again when the operation runs: what was unmapped meanwhile faults.
bool Engine::check_reachable(const Op& op, const StreamState& stream) {
  if (!has(Semantic::kFaultUnmapped)) return true;
  std::uint64_t failed = 0;
  const auto ok = [&](const Operand& operand, std::uint64_t bytes) {
    if (operand.place == Place::kStaged || operand.place == Place::kPageable) return true;
    failed = operand.address;
    // Each side of a peer copy is reached by the device that it belongs to.
    const int device =
        op.is_peer ? static_cast<int>(memory->find(operand.address).device) : device_of(stream);
    return reachable(operand, bytes, device);
  };
  bool good = true;
  switch (op.kind) {
    case OpKind::kCopy:
      good = ok(op.target, op.bytes) && ok(op.source, op.bytes);
      break;
    case OpKind::kFill:
    case OpKind::kPoison:
    case OpKind::kWaitValue:
    case OpKind::kWriteValue:
      good = ok(op.target, op.bytes);
      break;
    case OpKind::kKernel:
      for (const KernelAccess& access : op.accesses)
        good = good && ok({access.pointer, place_of(access.pointer)}, access.bytes);
      break;
    case OpKind::kMarker:
    case OpKind::kHostFunc:
      break;
  }
  if (good) return true;
  // A pool's block may end after its memory went back to the driver; that hurts nobody.
  if (op.kind == OpKind::kPoison) return false;
  report(ReportKind::kUnmapped,
         fmt::format("{} (op {}) on {} ran into {}, which has no memory any more: an illegal "
                     "address; it was unmapped or freed before the work was done",
                     op.call,
                     op.number,
                     describe(stream),
                     place_text(failed)));
  fail_sticky(cu::Result::kIllegalAddress);
  return false;
}

void Engine::execute(StreamState& stream, Op& op) {
  if (!check_reachable(op, stream) || !has_contents()) return;
  switch (op.kind) {
    case OpKind::kCopy: {
      std::byte* to = bytes_of(op.target);
      const std::byte* from =
          op.source.place == Place::kStaged ? op.staged.data() : bytes_of(op.source);
      if (op.pieces_done == 0 && has(Semantic::kGarbageInFlight) && op.pieces > 1 &&
          !overlap(op.target.address, op.source.address, op.bytes))
        std::memset(to, static_cast<int>(kInFlight), op.bytes);
      const std::uint64_t begin = op.bytes * op.pieces_done / op.pieces;
      const std::uint64_t end = op.bytes * (op.pieces_done + 1) / op.pieces;
      std::memmove(to + begin, from + begin, end - begin);
      break;
    }
    case OpKind::kFill: {
      std::byte* to = bytes_of(op.target);
      if (op.width == 1) {
        std::memset(to, static_cast<int>(op.value & 0xffu), op.bytes);
      } else {
        for (std::uint64_t at = 0; at < op.bytes; at += op.width)
          std::memcpy(to + at, &op.value, op.width);  // little endian, as the device
      }
      break;
    }
    case OpKind::kPoison:
      if (has(Semantic::kPoison))
        std::memset(bytes_of(op.target), static_cast<int>(op.value & 0xffu), op.bytes);
      break;
    case OpKind::kWriteValue:
      std::memcpy(bytes_of(op.target), &op.value, sizeof(op.value));
      break;
    case OpKind::kKernel:
      run_kernel(stream, op);
      break;
    case OpKind::kHostFunc:  // only when callbacks have no thread of their own
      std::swap(self().agent, op.agent);
      op.host_fn(op.user);
      clocks.end_host_function(self().agent);
      std::swap(self().agent, op.agent);
      break;
    case OpKind::kMarker:
    case OpKind::kWaitValue:
      break;
  }
}

namespace {

class Resolver final : public PointerResolver {
 public:
  explicit Resolver(Engine& engine) : engine_(engine) {}
  void* host_address(const void* device_address) const override {
    const auto address =
        static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(device_address));
    if (address == 0) return nullptr;
    return engine_.bytes_of({address, engine_.place_of(address)});
  }

 private:
  Engine& engine_;
};

/// The parameter array that the body expects, over the bytes copied at launch.
std::vector<const void*> parameter_array(const Op& op) {
  std::vector<const void*> pointers;
  pointers.reserve(op.kernel->parameter_bytes.size());
  std::size_t at = 0;
  for (const std::uint32_t size : op.kernel->parameter_bytes) {
    pointers.push_back(op.parameters.data() + at);
    at += parameter_slot_bytes(size);
  }
  return pointers;
}

}  // namespace

void Engine::run_kernel(StreamState& stream, Op& op) {
  if (op.pieces > 1 && op.pieces_done == 0) {
    // The kernel is under way: what it will write is garbage until it ends.
    for (const KernelAccess& access : op.accesses)
      if (access.mode == AccessMode::kWrite)
        std::memset(bytes_of({access.pointer, place_of(access.pointer)}),
                    static_cast<int>(kInFlight),
                    access.bytes);
    return;
  }
  const std::vector<const void*> parameters = parameter_array(op);
  const Resolver resolver(*this);
  if (options.check_kernels) {
    check_kernel(stream, op, parameters.data(), resolver);
  } else {
    op.kernel->body(op.shape, parameters.data(), resolver);
  }
}

/// Proves the declaration of one launch. Runs the body twice, with only declared pages accessible:
/// once on the real bytes, once with every byte changed that the kernel claims not to read. Both
/// runs must write the same, and neither may change what it does not declare as written.
void Engine::check_kernel(const StreamState& stream,
                          const Op& op,
                          const void* const* parameters,
                          const PointerResolver& resolver) {
  struct Page {
    std::uint64_t address = 0;
    std::vector<std::byte> before;
    std::vector<std::uint8_t> may;  // per byte: 1 read, 2 written
  };
  constexpr std::uint64_t kPage = 4096;
  std::vector<Page> pages;
  std::vector<DeclaredRange> declared;
  const auto page_at = [&](std::uint64_t address) -> Page& {
    for (Page& page : pages)
      if (page.address == address) return page;
    pages.push_back({address, {}, std::vector<std::uint8_t>(kPage, 0)});
    Page& page = pages.back();
    const std::byte* bytes = memory->mirror(address);
    page.before.assign(bytes, bytes + kPage);
    return page;
  };
  for (const KernelAccess& access : op.accesses) {
    if (!memory->owns(access.pointer)) continue;  // registered memory has no pages of ours
    const bool reads = access.mode != AccessMode::kWrite;
    const bool writes = access.mode != AccessMode::kRead;
    declared.push_back({access.pointer, access.bytes, true, writes});
    for (std::uint64_t at = access.pointer; at < access.pointer + access.bytes;) {
      Page& page = page_at(at / kPage * kPage);
      const std::uint64_t end =
          std::min<std::uint64_t>(page.address + kPage, access.pointer + access.bytes);
      for (; at < end; ++at)
        page.may[at - page.address] |=
            static_cast<std::uint8_t>((reads ? 1 : 0) | (writes ? 2 : 0));
    }
  }
  const auto run = [&] {
    memory->only_accessible(declared);
    op.kernel->body(op.shape, parameters, resolver);
    memory->all_accessible();
    collect_host_faults(&op, &stream);
  };
  const auto complain = [&](const char* what, std::uint64_t address) {
    report(ReportKind::kUndeclared,
           fmt::format("kernel `{}` (op {}) on {} {} {}",
                       op.call,
                       op.number,
                       describe(stream),
                       what,
                       place_text(address)));
  };

  run();
  std::vector<std::vector<std::byte>> after;
  for (const Page& page : pages) {
    const std::byte* bytes = memory->mirror(page.address);
    after.emplace_back(bytes, bytes + kPage);
    for (std::uint64_t i = 0; i < kPage; ++i) {
      if ((page.may[i] & 2) == 0 && bytes[i] != page.before[i]) {
        complain("changes a byte that it does not declare as written, at", page.address + i);
        break;
      }
    }
  }
  for (const Page& page : pages) {
    std::byte* bytes = memory->mirror(page.address);
    for (std::uint64_t i = 0; i < kPage; ++i)
      bytes[i] = (page.may[i] & 1) != 0 ? page.before[i] : page.before[i] ^ std::byte{0xff};
  }
  run();
  for (std::size_t p = 0; p < pages.size(); ++p) {
    std::byte* bytes = memory->mirror(pages[p].address);
    for (std::uint64_t i = 0; i < kPage; ++i) {
      if ((pages[p].may[i] & 2) != 0 && bytes[i] != after[p][i]) {
        complain(
            "writes what depends on bytes that it does not declare as read (or leaves bytes "
            "that it declares as written), at",
            pages[p].address + i);
        break;
      }
    }
    std::memcpy(bytes, after[p].data(), kPage);
  }
}

}  // namespace spillway::sim
