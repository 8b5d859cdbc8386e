// SPDX-License-Identifier: Apache-2.0
// The codec kernels on the machine's first CUDA device: GB/s moved (read and written) for encode,
// decode and fingerprint, beside a device-to-device copy that moves as many bytes, taken in turns.
// Bits are checked against the host before anything is timed. Without a device: not measured.
#include "bench/support/gpu_ground.hpp"
#include "bench/support/machine.hpp"
#include "bench/support/stopwatch.hpp"
#include "core/random.hpp"
#include "core/version.hpp"
#include "device/driver_error.hpp"
#include "device/event.hpp"
#include "device/measure/gauge.hpp"
#include "device/pinned_buffer.hpp"
#include "kernels/codec_kernels.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace spillway;
using namespace spillway::bench;
using measure::DeviceMemory;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr int kRounds = 21;

struct Workload {
  const char* name;
  std::uint64_t bytes;  // of one tensor
  std::uint64_t count;
};
constexpr Workload kWorkloads[] = {{"64 MiB", 64 * kMiB, 1},
                                   {"256 MiB", 256 * kMiB, 1},
                                   {"1 GiB", 1024 * kMiB, 1},
                                   {"1000 x 256 KiB", kMiB / 4, 1000}};
constexpr Codec kCodecs[] = {Codec::kInt8, Codec::kFp8E4m3, Codec::kLossless12};

nlohmann::json heading() {
  return {{"schema", "spillway-codec-gpu-bench/1"},
          {"machine", machine_text()},
          {"revision", std::string(git_revision())}};
}

Status write_json(const std::string& path, const nlohmann::json& all) {
  if (path.empty()) return {};
  std::ofstream file(path);
  file << all.dump(1) << '\n';
  file.close();
  if (!file) return {Code::kIo, path + ": cannot be written"};
  return {};
}

/// bf16, normally distributed: what activations look like to a codec.
void fill_normal(std::uint16_t* values, std::uint64_t count, std::uint64_t seed) {
  Random random(seed);
  for (std::uint64_t i = 0; i < count; ++i) {
    double sum = -6;  // of 12 uniform numbers: variance 1
    std::uint64_t bits = 0;
    for (int n = 0; n < 12; ++n) {
      if (n % 4 == 0) bits = random.next();
      sum += static_cast<double>(bits & 0xffff) / 65536;
      bits >>= 16;
    }
    const auto value = static_cast<float>(sum);
    std::uint32_t raw = 0;
    std::memcpy(&raw, &value, sizeof(raw));
    values[i] = static_cast<std::uint16_t>(raw >> 16);
  }
}

class CodecBench {
 public:
  CodecBench(const Ground& ground, const CodecKernels& kernels, StreamRef stream)
      : driver_(ground.driver), kernels_(kernels), stream_(stream) {}

  Status run();
  [[nodiscard]] const nlohmann::json& rows() const { return rows_; }

 private:
  struct Buffers {
    DeviceMemory plain;
    DeviceMemory payload;
    DeviceMemory back;
    DeviceMemory sums;
  };
  Status run_workload(const Workload& workload, const std::vector<std::uint16_t>& pattern);
  Status check_bits(const CodecFormat& format,
                    const Buffers& buffers,
                    const DeviceCodecTensor& tensor,
                    const std::vector<std::uint16_t>& pattern);
  template <typename Work>
  Status time(const std::string& what,
              const Workload& workload,
              std::uint64_t moved_bytes,
              const Buffers& buffers,
              const Work& work);

  const Driver& driver_;
  const CodecKernels& kernels_;
  StreamRef stream_;
  nlohmann::json rows_ = nlohmann::json::array();
};

/// `work` and a copy that moves as many bytes, in turns; the first round of both is not counted.
template <typename Work>
Status CodecBench::time(const std::string& what,
                        const Workload& workload,
                        std::uint64_t moved_bytes,
                        const Buffers& buffers,
                        const Work& work) {
  std::vector<Event> events;
  for (int i = 0; i < 3; ++i) {
    SPW_ASSIGN_OR_RETURN(Event event, Event::create(driver_, 0));
    events.push_back(std::move(event));
  }
  std::vector<double> rates;
  std::vector<double> ratios;
  std::vector<double> copies;
  // A copy reads and writes each byte.
  const std::uint64_t copy_bytes =
      std::min(moved_bytes / 2, workload.bytes * workload.count) / 16 * 16;
  for (int round = 0; round <= kRounds; ++round) {
    SPW_RETURN_IF_ERROR(events[0].record(stream_));
    SPW_RETURN_IF_ERROR(work());
    SPW_RETURN_IF_ERROR(events[1].record(stream_));
    SPW_CU_TRY(driver_.cuMemcpyDtoDAsync(
        buffers.back.pointer(), buffers.plain.pointer(), copy_bytes, stream_.handle()));
    SPW_RETURN_IF_ERROR(events[2].record(stream_));
    SPW_RETURN_IF_ERROR(events[2].synchronize());
    float work_ms = 0;
    float copy_ms = 0;
    SPW_CU_TRY(driver_.cuEventElapsedTime(&work_ms, events[0].handle(), events[1].handle()));
    SPW_CU_TRY(driver_.cuEventElapsedTime(&copy_ms, events[1].handle(), events[2].handle()));
    if (round == 0) continue;
    const double rate = static_cast<double>(moved_bytes) / (static_cast<double>(work_ms) * 1e6);
    const double copy = static_cast<double>(2 * copy_bytes) / (static_cast<double>(copy_ms) * 1e6);
    rates.push_back(rate);
    copies.push_back(copy);
    ratios.push_back(rate / copy);
  }
  const Spread rate = spread_of(rates);
  const Spread ratio = spread_of(ratios);
  const Spread copy = spread_of(copies);
  fmt::print("{:<20} {:<16} {:>9.0f} {:>9.0f} {:>7.3f}   {:.3f} to {:.3f}\n",
             what,
             workload.name,
             rate.median,
             copy.median,
             ratio.median,
             ratio.min,
             ratio.max);
  rows_.push_back({{"what", what},
                   {"workload", workload.name},
                   {"tensor_bytes", workload.bytes},
                   {"tensors", workload.count},
                   {"moved_bytes", moved_bytes},
                   {"moved_gbps", rate.median},
                   {"copy_gbps", copy.median},
                   {"ratio", ratio.median},
                   {"ratio_min", ratio.min},
                   {"ratio_max", ratio.max},
                   {"rounds", kRounds}});
  return {};
}

/// The first tensor's payload and what it decodes to, against the host.
Status CodecBench::check_bits(const CodecFormat& format,
                              const Buffers& buffers,
                              const DeviceCodecTensor& tensor,
                              const std::vector<std::uint16_t>& pattern) {
  const std::uint64_t bytes = tensor.values * 2;
  SPW_ASSIGN_OR_RETURN(const PinnedBuffer device,
                       PinnedBuffer::create(driver_, tensor.payload_bytes + bytes));
  SPW_ASSIGN_OR_RETURN(const PinnedBuffer host,
                       PinnedBuffer::create(driver_, tensor.payload_bytes + 2 * bytes));
  auto* const got = static_cast<std::byte*>(device.data());
  SPW_CU_TRY(
      driver_.cuMemcpyDtoHAsync(got, tensor.payload, tensor.payload_bytes, stream_.handle()));
  SPW_CU_TRY(driver_.cuMemcpyDtoHAsync(
      got + tensor.payload_bytes, buffers.back.pointer(), bytes, stream_.handle()));
  SPW_RETURN_IF_ERROR(synchronize(driver_, stream_));
  auto* const source = static_cast<std::byte*>(host.data());
  for (std::uint64_t at = 0; at < bytes; at += pattern.size() * 2)
    std::memcpy(source + at,
                pattern.data(),
                static_cast<std::size_t>(std::min<std::uint64_t>(pattern.size() * 2, bytes - at)));
  std::byte* const back = source + bytes;
  std::byte* const payload = back + bytes;
  HostCodecOptions options;
  SPW_ASSIGN_OR_RETURN(const EncodeResult encoded,
                       encode(format, {source, bytes}, {payload, tensor.payload_bytes}, options));
  static_cast<void>(encoded);
  SPW_RETURN_IF_ERROR(decode({payload, tensor.payload_bytes}, {back, bytes}, options));
  if (std::memcmp(payload, got, tensor.payload_bytes) != 0 ||
      std::memcmp(back, got + tensor.payload_bytes, bytes) != 0)
    return {Code::kInternal, std::string(name_of(format.codec)) + ": not the host's bits"};
  return {};
}

Status CodecBench::run_workload(const Workload& workload,
                                const std::vector<std::uint16_t>& pattern) {
  const std::uint64_t values = workload.bytes / 2;
  const std::uint64_t all = workload.bytes * workload.count;
  std::uint64_t largest = 0;
  for (const Codec codec : kCodecs)
    largest = std::max(largest, CodecFormat{codec, Dtype::kBf16}.payload_bytes_for(values));
  const std::uint64_t room = (largest + 255) / 256 * 256;
  SPW_ASSIGN_OR_RETURN(DeviceMemory plain, DeviceMemory::create(driver_, all));
  SPW_ASSIGN_OR_RETURN(DeviceMemory payload, DeviceMemory::create(driver_, room * workload.count));
  SPW_ASSIGN_OR_RETURN(DeviceMemory back, DeviceMemory::create(driver_, all));
  SPW_ASSIGN_OR_RETURN(DeviceMemory sums, DeviceMemory::create(driver_, workload.count * 8));
  const Buffers buffers{std::move(plain), std::move(payload), std::move(back), std::move(sums)};
  for (std::uint64_t at = 0; at < all; at += pattern.size() * 2)
    SPW_CU_TRY(driver_.cuMemcpyHtoD(
        buffers.plain.pointer() + at,
        pattern.data(),
        static_cast<std::size_t>(std::min<std::uint64_t>(pattern.size() * 2, all - at))));

  for (const Codec codec : kCodecs) {
    const CodecFormat format{codec, Dtype::kBf16};
    const std::uint64_t payload_bytes = format.payload_bytes_for(values);
    std::vector<DeviceCodecTensor> there;
    std::vector<DeviceCodecTensor> home;
    for (std::uint64_t i = 0; i < workload.count; ++i) {
      there.push_back({buffers.plain.pointer() + i * workload.bytes,
                       buffers.payload.pointer() + i * room,
                       values,
                       payload_bytes,
                       0});
      home.push_back(there.back());
      home.back().plain = buffers.back.pointer() + i * workload.bytes;
    }
    SPW_RETURN_IF_ERROR(kernels_.encode(stream_, format, there));
    SPW_RETURN_IF_ERROR(kernels_.decode(stream_, format, home));
    SPW_RETURN_IF_ERROR(check_bits(format, buffers, there.front(), pattern));
    const std::uint64_t moved = (workload.bytes + payload_bytes) * workload.count;
    const std::string name(name_of(codec));
    SPW_RETURN_IF_ERROR(time(name + " encode", workload, moved, buffers, [&] {
      return kernels_.encode(stream_, format, there);
    }));
    SPW_RETURN_IF_ERROR(time(name + " decode", workload, moved, buffers, [&] {
      return kernels_.decode(stream_, format, home);
    }));
  }
  std::vector<DeviceBytes> ranges;
  for (std::uint64_t i = 0; i < workload.count; ++i)
    ranges.push_back({buffers.plain.pointer() + i * workload.bytes, workload.bytes});
  return time("fingerprint", workload, all, buffers, [&] {
    return kernels_.fingerprint(stream_, ranges, buffers.sums.pointer());
  });
}

Status CodecBench::run() {
  fmt::print("{:<20} {:<16} {:>9} {:>9} {:>7}   {}\n",
             "bf16, normal",
             "tensors",
             "GB/s",
             "copy GB/s",
             "ratio",
             "lowest to highest");
  std::vector<std::uint16_t> pattern(8 * kMiB);
  fill_normal(pattern.data(), pattern.size(), 1);
  for (const Workload& workload : kWorkloads) SPW_RETURN_IF_ERROR(run_workload(workload, pattern));
  return {};
}

Status run_bench(const Ground& ground, const std::string& driver, const std::string& json_path) {
  fmt::print("machine   {}\nload      {}\nrevision  {}\ndriver    {}\n",
             machine_text(),
             load_text(),
             git_revision(),
             driver);
  SPW_ASSIGN_OR_RETURN(const CodecKernels kernels, CodecKernels::load(ground.driver));
  SPW_ASSIGN_OR_RETURN(const StreamRef stream,
                       StreamRef::of(ground.driver, ground.streams.front()));
  CodecBench bench(ground, kernels, stream);
  SPW_RETURN_IF_ERROR(bench.run());
  nlohmann::json all = heading();
  all["measured"] = true;
  all["driver"] = driver;
  all["rows"] = bench.rows();
  return write_json(json_path, all);
}

/// The same table without figures.
Status not_measured(const Status& why, const std::string& json_path) {
  nlohmann::json all = heading();
  all["measured"] = false;
  all["why"] = why.message();
  all["rows"] = nlohmann::json::array();
  fmt::print("machine   {}\nrevision  {}\n", machine_text(), git_revision());
  for (const Workload& workload : kWorkloads) {
    for (const char* what : {"int8 encode",
                             "int8 decode",
                             "fp8-e4m3 encode",
                             "fp8-e4m3 decode",
                             "lossless12 encode",
                             "lossless12 decode",
                             "fingerprint"}) {
      fmt::print("{:<20} {:<16} not measured\n", what, workload.name);
      all["rows"].push_back(
          {{"what", what}, {"workload", workload.name}, {"ratio", "not measured"}});
    }
  }
  return write_json(json_path, all);
}

}  // namespace

// NOLINTNEXTLINE(bugprone-exception-escape): out of host memory ends a bench
int main(int argc, char** argv) {
  std::string json_path;
  if (argc == 3 && std::string_view(argv[1]) == "--json") {
    json_path = argv[2];
  } else if (argc != 1) {
    std::fprintf(stderr, "usage: %s [--json FILE]\n", argv[0]);
    return 1;
  }
  std::string driver;
  const Result<Ground> ground = gpu_ground(16, &driver);
  if (!ground.ok()) {
    const Status written = not_measured(ground.status(), json_path);
    if (!written.ok()) {
      std::fprintf(stderr, "codec_gpu_bench: %s\n", written.message().c_str());
      return 4;
    }
    return skipped(ground.status());
  }
  const Status done = run_bench(ground.value(), driver, json_path);
  give_back(ground.value());
  if (done.ok()) return 0;
  std::fprintf(stderr, "codec_gpu_bench: %s\n", done.message().c_str());
  return 4;
}
