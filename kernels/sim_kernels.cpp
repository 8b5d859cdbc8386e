// SPDX-License-Identifier: Apache-2.0
// See sim_kernels.hpp.
#include "kernels/sim_kernels.hpp"

#include "device/kernel_registry.hpp"
#include "kernels/body/header.hpp"
#include "kernels/codec_job.hpp"
#include "kernels/host_codec.hpp"
#include "kernels/kernel_names.hpp"

#include <array>
#include <cstdint>
#include <cstring>

namespace spillway {
namespace {

const void* address(std::uint64_t device_address) {
  return reinterpret_cast<const void*>(static_cast<std::uintptr_t>(device_address));
}

/// One job with its sizes.
struct Sizes {
  std::uint64_t values = 0;
  std::uint64_t plain_bytes = 0;
  std::uint64_t payload_bytes = 0;
};

template <CodecWork kWork>
Sizes sizes_of(const CodecTableHead& head, const CodecJob* jobs, std::uint32_t i) {
  Sizes sizes;
  sizes.values = job_values(head, jobs, i);
  if constexpr (kWork == CodecWork::kEncode || kWork == CodecWork::kDecode) {
    const CodecFormat format{static_cast<Codec>(head.codec),
                             static_cast<Dtype>(head.dtype),
                             static_cast<std::uint8_t>(jobs[i].sparse_capacity)};
    sizes.plain_bytes = sizes.values * dtype_bytes(format.dtype);
    sizes.payload_bytes = format.payload_bytes_for(sizes.values);
  } else {
    sizes.plain_bytes = sizes.values;
    if (kWork == CodecWork::kCopy) sizes.payload_bytes = sizes.values;
    if (kWork == CodecWork::kFingerprintBlocks)
      sizes.payload_bytes = (sizes.values + kFingerprintBlock - 1) / kFingerprintBlock * 8;
  }
  return sizes;
}

body::PayloadHeader expected_header(const CodecTableHead& head,
                                    const CodecTensor& tensor,
                                    std::uint64_t payload_bytes) {
  const bool is_random = static_cast<Codec>(head.codec) == Codec::kInt4;
  const bool is_sparse = static_cast<Codec>(head.codec) == Codec::kSparse;
  return body::make_header(head.codec,
                           head.dtype,
                           is_sparse ? tensor.sparse_capacity : std::uint8_t{0},
                           tensor.values,
                           payload_bytes,
                           is_random ? tensor.tensor_key : 0,
                           is_random ? tensor.step : 0);
}

/// What the kernel compares: all but the random key, which is the payload's own.
bool header_matches(body::PayloadHeader expected, const std::uint8_t* payload) {
  body::PayloadHeader found{};
  std::memcpy(&found, payload, sizeof(found));
  const bool sound = found.check == body::header_check(found);
  return sound && std::memcmp(&expected, &found, offsetof(body::PayloadHeader, tensor_key)) == 0;
}

struct Outcome {
  std::uint32_t misfit = 0;
  std::uint64_t fingerprint = 0;
};

template <CodecWork kWork>
Outcome run_job(const CodecTableHead& head, const CodecTensor& tensor, const Sizes& sizes) {
  const HostKernels& host = best_host_kernels();
  Outcome outcome;
  if constexpr (kWork == CodecWork::kEncode || kWork == CodecWork::kDecode) {
    const HostKernel* kernel =
        host.find(static_cast<Codec>(head.codec), static_cast<Dtype>(head.dtype));
    const body::PayloadHeader header = expected_header(head, tensor, sizes.payload_bytes);
    if (kWork == CodecWork::kEncode) {
      std::memcpy(tensor.payload, &header, sizeof(header));
    } else if (!header_matches(header, tensor.payload)) {
      outcome.misfit = kMisfitHeader;
      return outcome;
    }
    const auto tiles = kWork == CodecWork::kEncode ? kernel->encode : kernel->decode;
    const CodecOutcome done =
        tiles(tensor, 0, body::tiles_of(tensor.values), head.fingerprints != 0);
    if (done.misfits != 0) outcome.misfit = kMisfitTile;
    outcome.fingerprint = body::fingerprint_start(sizes.plain_bytes) + done.fingerprint_sum;
  } else {
    if (kWork == CodecWork::kCopy) std::memmove(tensor.payload, tensor.plain, sizes.plain_bytes);
    if (kWork == CodecWork::kFingerprintBlocks) {
      HostCodecOptions options;
      options.threads = 1;
      const std::vector<std::uint64_t> blocks = fingerprint_blocks(
          {static_cast<const std::byte*>(tensor.plain), sizes.plain_bytes}, options);
      std::memcpy(tensor.payload, blocks.data(), sizes.payload_bytes);
    } else if (head.fingerprints != 0) {
      outcome.fingerprint = body::fingerprint_start(sizes.plain_bytes) +
                            host.fingerprint_sum(tensor.plain, sizes.plain_bytes, 0);
    }
  }
  return outcome;
}

template <typename Table, CodecWork kWork>
void run_table(const LaunchShape& /*shape*/,
               const void* const* parameters,
               const PointerResolver& resolver) {
  const Table& table = *static_cast<const Table*>(parameters[0]);
  const CodecTableHead& head = table.head;
  for (std::uint32_t i = 0; i < head.count; ++i) {
    const CodecJob& job = table.jobs[i];
    const Sizes sizes = sizes_of<kWork>(head, table.jobs, i);
    CodecTensor tensor;
    tensor.plain = resolver.host_address(address(job.plain));
    tensor.payload = static_cast<std::uint8_t*>(resolver.host_address(address(job.payload)));
    tensor.values = sizes.values;
    tensor.tensor_key = job.tensor_key;
    tensor.step = head.step;
    tensor.sparse_capacity = static_cast<std::uint8_t>(job.sparse_capacity);
    const Outcome outcome = run_job<kWork>(head, tensor, sizes);
    if (head.fingerprints != 0 && kWork != CodecWork::kFingerprintBlocks) {
      auto* const sum = static_cast<std::uint64_t*>(
          resolver.host_address(address(head.fingerprints + std::uint64_t{i} * 8)));
      *sum += outcome.fingerprint;
    }
    if (head.misfits != 0 && outcome.misfit != 0) {
      auto* const word = static_cast<std::uint32_t*>(
          resolver.host_address(address(head.misfits + std::uint64_t{i} * 4)));
      *word = outcome.misfit;
    }
  }
}

template <typename Table, CodecWork kWork>
void declare_table(AccessList& list, const LaunchShape& /*shape*/, const void* const* parameters) {
  const Table& table = *static_cast<const Table*>(parameters[0]);
  const CodecTableHead& head = table.head;
  for (std::uint32_t i = 0; i < head.count; ++i) {
    const CodecJob& job = table.jobs[i];
    const Sizes sizes = sizes_of<kWork>(head, table.jobs, i);
    if (kWork == CodecWork::kDecode) {
      list.reads(address(job.payload), sizes.payload_bytes);
      list.writes(address(job.plain), sizes.plain_bytes);
    } else {
      list.reads(address(job.plain), sizes.plain_bytes);
      list.writes(address(job.payload), sizes.payload_bytes);
    }
  }
  if (head.fingerprints != 0)
    list.updates(address(head.fingerprints), std::uint64_t{head.count} * 8);
  if (head.misfits != 0) list.updates(address(head.misfits), std::uint64_t{head.count} * 4);
}

template <typename Table, CodecWork kWork>
KernelCost cost_of_table(const LaunchShape& /*shape*/, const void* const* parameters) {
  const Table& table = *static_cast<const Table*>(parameters[0]);
  KernelCost cost;
  for (std::uint32_t i = 0; i < table.head.count; ++i) {
    const Sizes sizes = sizes_of<kWork>(table.head, table.jobs, i);
    cost.memory_bytes += sizes.plain_bytes + sizes.payload_bytes;
  }
  return cost;
}

template <typename Table, CodecWork kWork>
void add(const char* name) {
  static constexpr std::array<std::uint32_t, 1> kBytes{sizeof(Table)};
  KernelSpec spec;
  spec.name = name;
  spec.parameter_bytes = kBytes;
  spec.body = &run_table<Table, kWork>;
  spec.accesses = &declare_table<Table, kWork>;
  spec.cost = &cost_of_table<Table, kWork>;
  register_kernel(spec);
}

template <CodecWork kWork>
void add_both(const CodecKernelName& name) {
  add<SmallCodecTable, kWork>(name.small);
  add<LargeCodecTable, kWork>(name.large);
}

}  // namespace

void register_codec_kernels() {
  for (const CodecKernelName& name : codec_kernel_names()) {
    switch (name.work) {
      case CodecWork::kEncode:
        add_both<CodecWork::kEncode>(name);
        break;
      case CodecWork::kDecode:
        add_both<CodecWork::kDecode>(name);
        break;
      case CodecWork::kCopy:
        add_both<CodecWork::kCopy>(name);
        break;
      case CodecWork::kFingerprint:
        add_both<CodecWork::kFingerprint>(name);
        break;
      case CodecWork::kFingerprintBlocks:
        add_both<CodecWork::kFingerprintBlocks>(name);
        break;
    }
  }
}

}  // namespace spillway
