// SPDX-License-Identifier: Apache-2.0
// The codec kernels on the machine's first CUDA device against the host's path, bit for bit: every
// input of every conversion, tails of every length, launches of a thousand tensors. Label `gpu`:
// each test says "skipped" where there is no driver, no device or no kernels.
#include "core/random.hpp"
#include "device/capabilities.hpp"
#include "device/context.hpp"
#include "device/cuda/load_driver.hpp"
#include "device/driver_error.hpp"
#include "device/measure/gauge.hpp"
#include "device/pinned_buffer.hpp"
#include "kernels/codec_kernels.hpp"
#include "tests/support/skip.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

using namespace spillway;
using measure::DeviceMemory;

namespace {

constexpr std::uint64_t kAlign = 256;
std::uint64_t rounded(std::uint64_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

/// Device, context, stream, kernels and equal buffers on both sides.
class Bench {
 public:
  /// Nothing, and the reason reported, where it cannot be had.
  static std::unique_ptr<Bench> open() {
    auto bench = std::unique_ptr<Bench>(new Bench);
    const Status status = bench->set_up();
    if (status.ok()) return bench;
    test::report_skipped_without_gpu(status.message());
    return nullptr;
  }

  [[nodiscard]] const CodecKernels& kernels() const { return *kernels_; }
  [[nodiscard]] StreamRef stream() const { return stream_->ref(); }

  /// A batch of tensors, plain bytes given, through both sides; `damage` changes payload bytes
  /// behind the header before they are decoded. What differs, or nothing.
  std::string compare(const CodecFormat& format,
                      const std::vector<std::uint64_t>& lengths,
                      const std::vector<std::byte>& plain,
                      std::uint64_t damage_seed) {
    std::string difference;
    const Status status = try_compare(format, lengths, plain, damage_seed, &difference);
    return status.ok() ? difference : status.message();
  }

  /// Copies, fingerprints on the way and alone, and those of blocks.
  std::string compare_copies(const std::vector<std::uint64_t>& lengths,
                             const std::vector<std::byte>& plain) {
    std::string difference;
    const Status status = try_copies(lengths, plain, &difference);
    return status.ok() ? difference : status.message();
  }

  /// One payload made by hand, decoded by both.
  std::string compare_decode(const CodecFormat& format,
                             std::uint64_t values,
                             const std::vector<std::byte>& payload) {
    std::string difference;
    const Status status = try_decode(format, values, payload, &difference);
    return status.ok() ? difference : status.message();
  }

 private:
  Bench() = default;

  Status set_up() {
    SPW_ASSIGN_OR_RETURN(driver_, load_cuda_driver());
    SPW_ASSIGN_OR_RETURN(const int devices, init_driver(driver_));
    static_cast<void>(devices);
    SPW_ASSIGN_OR_RETURN(Context context, Context::current_or_primary(driver_, 0));
    context_.emplace(std::move(context));
    SPW_ASSIGN_OR_RETURN(ScopedContext entered, ScopedContext::enter(*context_));
    entered_.emplace(std::move(entered));
    SPW_ASSIGN_OR_RETURN(CodecKernels kernels, CodecKernels::load(driver_));
    kernels_.emplace(std::move(kernels));
    SPW_ASSIGN_OR_RETURN(Stream stream, Stream::create(driver_));
    stream_.emplace(std::move(stream));
    return {};
  }

  Status reserve(std::uint64_t plain_bytes, std::uint64_t payload_bytes, std::uint64_t count) {
    if (plain_bytes > plain_room_ || payload_bytes > payload_room_ || count > count_room_) {
      plain_room_ = std::max(plain_room_, plain_bytes);
      payload_room_ = std::max(payload_room_, payload_bytes);
      count_room_ = std::max(count_room_, count);
      device_.clear();
      pinned_.clear();
      for (const std::uint64_t bytes :
           {plain_room_, payload_room_, plain_room_, 2 * count_room_ * 8}) {
        SPW_ASSIGN_OR_RETURN(DeviceMemory memory, DeviceMemory::create(driver_, bytes));
        device_.push_back(std::move(memory));
        SPW_ASSIGN_OR_RETURN(PinnedBuffer buffer, PinnedBuffer::create(driver_, bytes));
        pinned_.push_back(std::move(buffer));
      }
      SPW_ASSIGN_OR_RETURN(
          PinnedBuffer words,
          PinnedBuffer::create(
              driver_, count_room_ * 8, cu::kHostAllocPortable | cu::kHostAllocDeviceMap));
      pinned_.push_back(std::move(words));
    }
    return {};
  }
  [[nodiscard]] std::byte* pinned(int which) const {
    return static_cast<std::byte*>(pinned_[static_cast<std::size_t>(which)].data());
  }
  [[nodiscard]] cu::DevicePtr device(int which) const {
    return device_[static_cast<std::size_t>(which)].pointer();
  }
  Status to_device(int which, std::uint64_t bytes) {
    SPW_CU_TRY(driver_.cuMemcpyHtoDAsync(device(which), pinned(which), bytes, stream().handle()));
    return {};
  }
  Status to_host(int which, std::uint64_t bytes) {
    SPW_CU_TRY(driver_.cuMemcpyDtoHAsync(pinned(which), device(which), bytes, stream().handle()));
    return synchronize(driver_, stream());
  }

  Status try_compare(const CodecFormat& format,
                     const std::vector<std::uint64_t>& lengths,
                     const std::vector<std::byte>& plain,
                     std::uint64_t damage_seed,
                     std::string* difference) {
    const std::uint64_t element = dtype_bytes(format.dtype);
    std::vector<DeviceCodecTensor> there;
    std::vector<DeviceCodecTensor> home;
    std::uint64_t plain_bytes = 0;
    std::uint64_t payload_bytes = 0;
    for (const std::uint64_t values : lengths) {
      plain_bytes += rounded(values * element);
      payload_bytes += rounded(format.payload_bytes_for(values));
    }
    SPW_RETURN_IF_ERROR(reserve(plain_bytes, payload_bytes, lengths.size()));
    DeviceCodecOptions options;
    options.step = 9;
    SPW_ASSIGN_OR_RETURN(options.misfits, pinned_[4].device_pointer());
    options.fingerprints = device(3);
    std::uint64_t plain_at = 0;
    std::uint64_t payload_at = 0;
    std::uint64_t source_at = 0;
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      const std::uint64_t bytes = lengths[i] * element;
      const std::uint64_t payload = format.payload_bytes_for(lengths[i]);
      there.push_back({device(0) + plain_at, device(1) + payload_at, lengths[i], payload, i});
      home.push_back({device(2) + plain_at, device(1) + payload_at, lengths[i], payload, 0});
      std::memcpy(pinned(0) + plain_at, plain.data() + source_at, bytes);
      plain_at += rounded(bytes);
      payload_at += rounded(payload);
      source_at += bytes;
    }
    auto* const words = reinterpret_cast<std::uint32_t*>(pinned(4));
    std::memset(words, 0, lengths.size() * 8);
    SPW_RETURN_IF_ERROR(to_device(0, plain_bytes));
    SPW_RETURN_IF_ERROR(kernels().encode(stream(), format, there, options));
    SPW_RETURN_IF_ERROR(to_host(1, payload_bytes));
    SPW_RETURN_IF_ERROR(to_host(3, lengths.size() * 8));
    const auto* const sums = reinterpret_cast<const std::uint64_t*>(pinned(3));

    const std::vector<std::uint32_t> encode_misfits(words, words + lengths.size());
    const std::vector<std::uint64_t> encode_sums(sums, sums + lengths.size());
    Random damage(damage_seed);
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      const std::uint64_t bytes = lengths[i] * element;
      HostCodecOptions host;
      host.tensor_key = i;
      host.step = 9;
      std::uint64_t sum = 0;
      host.fingerprint = &sum;
      const auto buffer = aligned(there[i].payload_bytes);
      const std::byte* const source = pinned(0) + (there[i].plain - device(0));
      std::byte* const payload = pinned(1) + (there[i].payload - device(1));
      SPW_ASSIGN_OR_RETURN(
          const EncodeResult encoded,
          encode(format, {source, bytes}, {buffer.get(), there[i].payload_bytes}, host));
      const std::string who = std::string(name_of(format.codec)) + " of " +
                              std::string(name_of(format.dtype)) + ", " +
                              std::to_string(lengths[i]) + " values: ";
      for (std::uint64_t b = 0; b < there[i].payload_bytes; ++b) {
        if (payload[b] == buffer.get()[b]) continue;
        *difference = who + "byte " + std::to_string(b) + " of the payload differs";
        return {};
      }
      if (encode_sums[i] != sum) *difference = who + "the encode's fingerprint differs";
      if ((encode_misfits[i] != 0) != (encoded.misfit_tiles != 0))
        *difference = who + "the encode's misfit word differs";
      if (!difference->empty()) return {};
      if (damage_seed != 0 && damage.below(3) == 0)
        for (int n = 0; n < 8; ++n)
          payload[kCodecHeaderBytes + damage.below(there[i].payload_bytes - kCodecHeaderBytes)] =
              static_cast<std::byte>(damage.next());
    }

    std::memset(words, 0, lengths.size() * 4);
    SPW_RETURN_IF_ERROR(to_device(1, payload_bytes));
    SPW_RETURN_IF_ERROR(kernels().decode(stream(), format, home, options));
    SPW_RETURN_IF_ERROR(to_host(2, plain_bytes));
    SPW_RETURN_IF_ERROR(to_host(3, lengths.size() * 8));
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      const std::uint64_t bytes = lengths[i] * element;
      std::uint64_t sum = 0;
      HostCodecOptions host;
      host.fingerprint = &sum;
      const auto buffer = aligned(bytes);
      const std::byte* const payload = pinned(1) + (home[i].payload - device(1));
      const std::byte* const back = pinned(2) + (home[i].plain - device(2));
      const Status decoded = decode({payload, home[i].payload_bytes}, {buffer.get(), bytes}, host);
      if (std::memcmp(buffer.get(), back, bytes) != 0 || sums[i] != sum ||
          decoded.ok() != (words[i] == 0))
        *difference = std::string(name_of(format.codec)) + " of " +
                      std::string(name_of(format.dtype)) + ", " + std::to_string(lengths[i]) +
                      " values: the decode differs";
    }
    return {};
  }

  Status try_decode(const CodecFormat& format,
                    std::uint64_t values,
                    const std::vector<std::byte>& payload,
                    std::string* difference) {
    const std::uint64_t bytes = values * dtype_bytes(format.dtype);
    SPW_RETURN_IF_ERROR(reserve(bytes, payload.size(), 1));
    std::memcpy(pinned(1), payload.data(), payload.size());
    SPW_RETURN_IF_ERROR(to_device(1, payload.size()));
    const DeviceCodecTensor home{device(2), device(1), values, payload.size(), 0};
    SPW_RETURN_IF_ERROR(kernels().decode(stream(), format, {&home, 1}));
    SPW_RETURN_IF_ERROR(to_host(2, bytes));
    const auto buffer = aligned(bytes);
    SPW_RETURN_IF_ERROR(decode({pinned(1), payload.size()}, {buffer.get(), bytes}, {}));
    if (std::memcmp(buffer.get(), pinned(2), bytes) != 0) *difference = "the decode differs";
    return {};
  }

  Status try_copies(const std::vector<std::uint64_t>& lengths,
                    const std::vector<std::byte>& plain,
                    std::string* difference) {
    std::uint64_t all = 0;
    for (const std::uint64_t bytes : lengths) all += rounded(bytes);
    SPW_RETURN_IF_ERROR(reserve(all, all, lengths.size()));
    std::vector<DeviceCopy> copies;
    std::vector<DeviceBytes> ranges;
    std::uint64_t at = 0;
    std::uint64_t source_at = 0;
    for (const std::uint64_t bytes : lengths) {
      std::memcpy(pinned(0) + at, plain.data() + source_at, bytes);
      copies.push_back({device(0) + at, device(2) + at, bytes});
      ranges.push_back({device(2) + at, bytes});
      at += rounded(bytes);
      source_at += bytes;
    }
    DeviceCodecOptions options;
    options.fingerprints = device(3);
    const cu::DevicePtr alone = device(3) + lengths.size() * 8;
    const DeviceBytes last{ranges.back().pointer, ranges.back().bytes};
    SPW_RETURN_IF_ERROR(to_device(0, all));
    SPW_RETURN_IF_ERROR(kernels().copy(stream(), copies, options));
    SPW_RETURN_IF_ERROR(kernels().fingerprint(stream(), ranges, alone));
    SPW_RETURN_IF_ERROR(kernels().fingerprint_blocks(stream(), last, device(1)));
    SPW_RETURN_IF_ERROR(to_host(2, all));
    SPW_RETURN_IF_ERROR(to_host(3, lengths.size() * 16));
    SPW_RETURN_IF_ERROR(to_host(1, (last.bytes + 511) / 512 * 8));
    const auto* const sums = reinterpret_cast<const std::uint64_t*>(pinned(3));
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      const std::byte* const source = pinned(0) + (copies[i].from - device(0));
      const std::byte* const back = pinned(2) + (copies[i].to - device(2));
      const std::uint64_t expected = spillway::fingerprint({source, lengths[i]});
      if (std::memcmp(source, back, lengths[i]) != 0 || sums[i] != expected ||
          sums[lengths.size() + i] != expected)
        *difference = std::to_string(lengths[i]) + " bytes differ";
    }
    const std::vector<std::uint64_t> blocks =
        fingerprint_blocks({pinned(0) + (copies.back().from - device(0)), lengths.back()});
    if (std::memcmp(blocks.data(), pinned(1), blocks.size() * 8) != 0)
      *difference = "the blocks' fingerprints differ";
    return {};
  }

  struct Free {
    void operator()(std::byte* data) const { ::operator delete(data, std::align_val_t(16)); }
  };
  static std::unique_ptr<std::byte, Free> aligned(std::uint64_t bytes) {
    return std::unique_ptr<std::byte, Free>(
        static_cast<std::byte*>(::operator new(bytes, std::align_val_t(16))));
  }

  Driver driver_;
  std::optional<Context> context_;
  std::optional<ScopedContext> entered_;
  std::optional<CodecKernels> kernels_;
  std::optional<Stream> stream_;
  // Plain, payload, what comes back, fingerprints; and on the host the misfit words.
  std::vector<DeviceMemory> device_;
  std::vector<PinnedBuffer> pinned_;
  std::uint64_t plain_room_ = 0;
  std::uint64_t payload_room_ = 0;
  std::uint64_t count_room_ = 0;
};

std::vector<CodecFormat> all_formats() {
  std::vector<CodecFormat> formats;
  for (int c = 1; c < kCodecCount; ++c)
    for (int d = 0; d <= static_cast<int>(Dtype::kFp64); ++d)
      if (codec_supports(static_cast<Codec>(c), static_cast<Dtype>(d)))
        formats.push_back({static_cast<Codec>(c), static_cast<Dtype>(d), 11});
  return formats;
}

/// Values of about one size, with zeros, tiny ones and, rarely, any bits.
std::vector<std::byte> random_plain(Dtype dtype, std::uint64_t values, Random* random) {
  const std::uint64_t element = dtype_bytes(dtype);
  std::vector<std::byte> plain(values * element);
  const unsigned mantissa = dtype == Dtype::kFp32 ? 23 : dtype == Dtype::kBf16 ? 7 : 10;
  for (std::uint64_t i = 0; i < values; ++i) {
    std::uint64_t raw = random->next();
    const std::uint64_t kind = random->below(1000);
    if (dtype == Dtype::kBool) {
      raw &= kind == 0 ? 0xff : 1;
    } else if (kind != 0) {
      const std::uint64_t exponent =
          (dtype == Dtype::kFp16 ? 15u : 120u) - random->below(kind < 5 ? 15 : 7);
      raw = (raw >> 40 & 1) << (8 * element - 1) | exponent << mantissa |
            (raw & ((1ull << mantissa) - 1));
      if (kind % 3 == 0) raw = 0;
    }
    std::memcpy(plain.data() + i * element, &raw, element);
  }
  return plain;
}

}  // namespace

TEST_SUITE("gpu") {
  TEST_CASE("a device encodes and decodes tails of every length as the host does") {
    const auto bench = Bench::open();
    if (!bench) return;
    std::printf("seed 1\n");
    Random random(1);
    for (const CodecFormat& format : all_formats()) {
      std::vector<std::uint64_t> lengths;
      std::uint64_t all = 0;
      for (std::uint64_t length = 1; length <= 300; ++length) lengths.push_back(length);
      for (const std::uint64_t length : {2047u, 2048u, 2049u, 4095u, 100000u})
        lengths.push_back(length);
      for (const std::uint64_t length : lengths) all += length;
      CHECK(bench->compare(format, lengths, random_plain(format.dtype, all, &random), 7) == "");
    }
  }

  TEST_CASE("a device does a thousand tensors in one launch as the host does") {
    const auto bench = Bench::open();
    if (!bench) return;
    std::printf("seed 2\n");
    Random random(2);
    for (const CodecFormat& format : all_formats()) {
      std::vector<std::uint64_t> lengths;
      std::uint64_t all = 0;
      for (std::uint32_t i = 0; i < kLargeTableJobs; ++i) {
        lengths.push_back(1 + random.below(10000));
        all += lengths.back();
      }
      CHECK(bench->compare(format, lengths, random_plain(format.dtype, all, &random), 0) == "");
    }
  }

  TEST_CASE("a device converts all 65,536 bf16 and fp16 values as the host does, at every scale") {
    const auto bench = Bench::open();
    if (!bench) return;
    for (const CodecFormat& format : all_formats()) {
      if (dtype_bytes(format.dtype) != 2) continue;
      // Each pattern beside an anchor of each exponent, 127 patterns a group.
      std::vector<std::uint16_t> plain;
      const unsigned mantissa = format.dtype == Dtype::kBf16 ? 7 : 10;
      const std::uint32_t exponents = format.dtype == Dtype::kBf16 ? 256 : 32;
      const std::uint32_t stride = format.codec == Codec::kInt4 ? 8 : 1;
      for (std::uint32_t e = 0; e < exponents; e += stride) {
        const std::uint32_t anchor = e << mantissa;
        for (std::uint32_t raw = 0; raw < 65536; ++raw) {
          if (plain.size() % 128 == 0) plain.push_back(static_cast<std::uint16_t>(anchor));
          // Larger ones would set the scale themselves; they come with their own anchor.
          const bool fits = (raw & 0x7fff) <= (anchor | ((1u << mantissa) - 1));
          plain.push_back(static_cast<std::uint16_t>(fits ? raw : raw & 0x8000));
        }
      }
      std::vector<std::byte> bytes(plain.size() * 2);
      std::memcpy(bytes.data(), plain.data(), bytes.size());
      CHECK(bench->compare(format, {plain.size()}, bytes, 0) == "");
    }
  }

  TEST_CASE("a device decodes every code at every scale as the host does") {
    const auto bench = Bench::open();
    if (!bench) return;
    for (const CodecFormat& format : all_formats()) {
      if (format.codec != Codec::kInt8 && format.codec != Codec::kFp8E4m3 &&
          format.codec != Codec::kFp8E5m2)
        continue;
      constexpr std::uint64_t kValues = 256 * 256;
      const std::vector<std::byte> zeros(kValues * dtype_bytes(format.dtype));
      std::vector<std::byte> payload(format.payload_bytes_for(kValues) + 16);
      std::byte* const at =
          payload.data() + (16 - reinterpret_cast<std::uintptr_t>(payload.data()) % 16) % 16;
      std::vector<std::byte> source(zeros.size() + 16);
      std::byte* const plain =
          source.data() + (16 - reinterpret_cast<std::uintptr_t>(source.data()) % 16) % 16;
      REQUIRE(encode(format, {plain, zeros.size()}, {at, payload.size() - 16}, {}).ok());
      for (std::uint64_t i = 0; i < kValues; ++i)
        at[kCodecHeaderBytes + i] = static_cast<std::byte>(i);
      // Two groups of 128 codes share a scale; scales lie behind the codes.
      for (std::uint64_t group = 0; group < kValues / 128; ++group)
        at[kCodecHeaderBytes + kValues + group] = static_cast<std::byte>(group / 2);
      const std::vector<std::byte> made(at, at + payload.size() - 16);
      CHECK(bench->compare_decode(format, kValues, made) == "");
    }
  }

  TEST_CASE("a device converts all 2^32 fp32 values as the host does") {
    const auto bench = Bench::open();
    if (!bench) return;
    struct Sweep {
      Codec codec;
      std::uint32_t top;  // fp32 bits of the largest value at scale 1
    };
    for (const Sweep& sweep : {Sweep{Codec::kInt8, 0x42fe0000},
                               Sweep{Codec::kFp8E4m3, 0x43e00000},
                               Sweep{Codec::kFp8E5m2, 0x47600000}}) {
      // Groups of one anchor and 127 neighbours of both signs: below the top at scale 1, above it
      // beside the largest finite value, then NaN and Inf.
      constexpr std::uint64_t kGroups = std::uint64_t{1} << 19;
      std::uint64_t next = 0;  // magnitude bits and sign, in turns
      while (next < std::uint64_t{1} << 32) {
        std::vector<std::byte> plain(kGroups * 512);
        for (std::uint64_t group = 0; group < kGroups; ++group) {
          std::uint32_t values[128] = {};
          for (int i = 1; i < 128; ++i, ++next)
            values[i] = next < std::uint64_t{1} << 32
                            ? static_cast<std::uint32_t>(next >> 1 | next << 31)
                            : 0;
          const std::uint32_t largest = values[127] & 0x7fffffff;
          values[0] = largest <= sweep.top ? sweep.top : 0x7f7fffff;
          std::memcpy(plain.data() + group * 512, values, 512);
        }
        const std::string difference =
            bench->compare({sweep.codec, Dtype::kFp32}, {kGroups * 128}, plain, 0);
        CAPTURE(next);
        REQUIRE(difference == "");
      }
    }
  }

  TEST_CASE("a device's copies and fingerprints are the host's") {
    const auto bench = Bench::open();
    if (!bench) return;
    Random random(5);
    std::vector<std::uint64_t> lengths;
    std::uint64_t all = 0;
    for (std::uint64_t length = 1; length <= 300; ++length) lengths.push_back(length);
    lengths.push_back(1000000);
    for (const std::uint64_t length : lengths) all += length;
    std::vector<std::byte> plain(all);
    for (std::byte& one : plain) one = static_cast<std::byte>(random.next());
    CHECK(bench->compare_copies(lengths, plain) == "");
  }
}
