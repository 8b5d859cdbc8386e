// SPDX-License-Identifier: Apache-2.0
// The codecs on the host: GB/s of plain bytes for encode, decode and fingerprint, by codec, dtype,
// instruction set and threads, beside memcpy of the same bytes by as many threads, taken in turns.
// Buffers are over four times the last-level cache.
#include "bench/support/machine.hpp"
#include "bench/support/stopwatch.hpp"
#include "core/random.hpp"
#include "core/version.hpp"
#include "kernels/host/parallel.hpp"
#include "kernels/host_codec.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <unistd.h>
#include <utility>
#include <vector>

namespace {

using namespace spillway;
using namespace spillway::bench;

constexpr std::size_t kMiB = std::size_t{1} << 20;

struct Options {
  std::string json_path;  // "" writes none
  std::string filter;     // part of "codec dtype isa"; "" runs all
  std::size_t bytes = 0;  // of plain values; 0: over four times the last-level cache
  std::size_t repetitions = 5;
  double budget_ms = 150;  // of one row; a row has one repetition at least
  bool smoke = false;
};

class Buffer {
 public:
  explicit Buffer(std::size_t bytes)
      : bytes_(bytes), data_(static_cast<std::byte*>(::operator new(bytes, std::align_val_t(64)))) {
    std::memset(data_.get(), 1, bytes);  // every page is there before the first clock
  }
  [[nodiscard]] std::span<std::byte> first(std::size_t bytes) const {
    return {data_.get(), std::min(bytes, bytes_)};
  }
  [[nodiscard]] std::byte* data() const { return data_.get(); }

 private:
  struct Free {
    void operator()(std::byte* data) const { ::operator delete(data, std::align_val_t(64)); }
  };
  std::size_t bytes_;
  std::unique_ptr<std::byte, Free> data_;
};

constexpr std::array kDtypes = {Dtype::kBf16, Dtype::kFp16, Dtype::kFp32, Dtype::kBool};

/// Nearest fp16, ties to even; |value| is far from the largest.
std::uint16_t to_fp16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  std::uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude < 113u << 23) {
    magnitude = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  } else {
    magnitude += 0xfff + (magnitude >> 13 & 1);
    magnitude = (magnitude - (112u << 23)) >> 13;
  }
  return static_cast<std::uint16_t>(magnitude | (bits >> 16 & 0x8000));
}

/// Normal distribution of variance 1; with `relu`, its positive half and zeros.
void fill(Dtype dtype, bool relu, std::span<std::byte> out) {
  Random random(1);
  std::vector<float> table(std::size_t{1} << 16);
  for (float& value : table) {
    const double radius = std::sqrt(-2 * std::log(random.unit() + 1e-12));
    value = static_cast<float>(radius * std::cos(6.283185307179586 * random.unit()));
  }
  const auto step = static_cast<std::size_t>(dtype_bytes(dtype));
  for (std::size_t at = 0; at + step <= out.size(); at += step) {
    float value = table[random.next() & 0xffff];
    if (relu && value < 0) value = 0;
    const auto bits = std::bit_cast<std::uint32_t>(value);
    std::uint32_t raw = bits;
    if (dtype == Dtype::kBf16) raw = bits >> 16;
    if (dtype == Dtype::kFp16) raw = to_fp16(value);
    if (dtype == Dtype::kBool) raw = bits >> 31;
    std::memcpy(out.data() + at, &raw, step);
  }
}

bool wants_zeros(Codec codec) { return codec == Codec::kSparse || codec == Codec::kMask1; }

struct Ground {
  Buffer source, payload, back;
};

struct Row {
  std::string codec, dtype, isa;
  int threads = 1;
  double ratio = 0;  // plain bytes per payload byte
  std::vector<double> encode_ns, decode_ns, memcpy_ns;
};

template <typename Function>
double timed_ns(const Function& function) {
  const double begin = wall_ns();
  function();
  return wall_ns() - begin;
}

void copy(std::span<const std::byte> from, std::byte* to, int threads) {
  struct Copy {
    std::span<const std::byte> from;
    std::byte* to;
  } work{from, to};
  for_each_chunk(
      (from.size() + kMiB - 1) / kMiB, threads, &work, [](void* context, std::uint64_t i) {
        const Copy& w = *static_cast<const Copy*>(context);
        const std::size_t at = static_cast<std::size_t>(i) * kMiB;
        std::memcpy(w.to + at, w.from.data() + at, std::min(kMiB, w.from.size() - at));
      });
}

/// Repeats a turn of copy, encode and decode; `decode` may be empty.
template <typename Encode, typename Decode>
void measure(const Ground& ground,
             const Options& options,
             std::span<const std::byte> source,
             const Encode& encode_once,
             const Decode& decode_once,
             Row* row) {
  const double begin = wall_ns();
  for (std::size_t i = 0; i < options.repetitions; ++i) {
    row->memcpy_ns.push_back(timed_ns([&] { copy(source, ground.back.data(), row->threads); }));
    row->encode_ns.push_back(timed_ns(encode_once));
    row->decode_ns.push_back(timed_ns(decode_once));
    if (wall_ns() - begin > options.budget_ms * 1e6) break;
  }
}

Spread rates(const std::vector<double>& ns, std::size_t bytes) {
  std::vector<double> gbps;
  gbps.reserve(ns.size());
  for (const double time : ns) gbps.push_back(static_cast<double>(bytes) / time);
  return spread_of(gbps);
}

/// Of one turn after the other: what slowed a turn slowed both.
Spread ratios(const std::vector<double>& ns, const std::vector<double>& memcpy_ns) {
  std::vector<double> all;
  for (std::size_t i = 0; i < ns.size(); ++i) all.push_back(memcpy_ns[i] / ns[i]);
  return spread_of(all);
}

nlohmann::json json_of(const Spread& spread) {
  return {{"median", spread.median}, {"min", spread.min}, {"max", spread.max}};
}

nlohmann::json print_row(const Row& row, std::size_t bytes) {
  const Spread encode_rate = rates(row.encode_ns, bytes);
  const Spread decode_rate = rates(row.decode_ns, bytes);
  const Spread memcpy_rate = rates(row.memcpy_ns, bytes);
  const Spread encode_ratio = ratios(row.encode_ns, row.memcpy_ns);
  const Spread decode_ratio = ratios(row.decode_ns, row.memcpy_ns);
  const bool one_way = row.codec == "fingerprint";
  fmt::print("{:<11} {:<5} {:<8} {:>2} {:>7.3f} {:>6.2f} {:>5.2f} {:>5.2f}-{:<5.2f}",
             row.codec,
             row.dtype,
             row.isa,
             row.threads,
             row.ratio,
             encode_rate.median,
             encode_ratio.median,
             encode_ratio.min,
             encode_ratio.max);
  if (one_way)
    fmt::print(" {:>6} {:>5} {:>11}", "-", "-", "-");
  else
    fmt::print(" {:>6.2f} {:>5.2f} {:>5.2f}-{:<5.2f}",
               decode_rate.median,
               decode_ratio.median,
               decode_ratio.min,
               decode_ratio.max);
  fmt::print(" {:>6.2f} {:>2}\n", memcpy_rate.median, row.encode_ns.size());
  std::fflush(stdout);
  nlohmann::json out = {{"codec", row.codec},
                        {"dtype", row.dtype},
                        {"isa", row.isa},
                        {"threads", row.threads},
                        {"ratio", row.ratio},
                        {"repetitions", row.encode_ns.size()},
                        {"encode_gbps", json_of(encode_rate)},
                        {"encode_to_memcpy", json_of(encode_ratio)},
                        {"memcpy_gbps", json_of(memcpy_rate)}};
  if (!one_way) {
    out["decode_gbps"] = json_of(decode_rate);
    out["decode_to_memcpy"] = json_of(decode_ratio);
  }
  return out;
}

/// A codec with the dtype's values in the ground's source.
Status measure_codec(const Ground& ground,
                     const Options& options,
                     const CodecFormat& format,
                     HostIsa isa,
                     nlohmann::json* rows) {
  const std::size_t element = static_cast<std::size_t>(dtype_bytes(format.dtype));
  const std::size_t bytes = options.bytes / element * element;
  const auto source = ground.source.first(bytes);
  const auto payload =
      ground.payload.first(static_cast<std::size_t>(format.payload_bytes_for(bytes / element)));
  for (const int threads : {1, 2}) {
    HostCodecOptions with;
    with.threads = threads;
    with.kernels = host_kernels(isa);
    Row row{std::string(name_of(format.codec)),
            std::string(name_of(format.dtype)),
            std::string(name_of(isa)),
            threads,
            static_cast<double>(bytes) / static_cast<double>(payload.size()),
            {},
            {},
            {}};
    Status status;
    measure(
        ground,
        options,
        source,
        [&] {
          const auto encoded = encode(format, source, payload, with);
          if (!encoded.ok()) status = encoded.status();
        },
        [&] {
          const Status decoded = decode(payload, ground.back.first(bytes), with);
          if (!decoded.ok()) status = decoded;
        },
        &row);
    SPW_RETURN_IF_ERROR(status);
    rows->push_back(print_row(row, bytes));
  }
  return {};
}

void measure_fingerprint(const Ground& ground,
                         const Options& options,
                         HostIsa isa,
                         nlohmann::json* rows) {
  const auto source = ground.source.first(options.bytes);
  for (const int threads : {1, 2}) {
    HostCodecOptions with;
    with.threads = threads;
    with.kernels = host_kernels(isa);
    Row row{"fingerprint", "any", std::string(name_of(isa)), threads, 0, {}, {}, {}};
    std::uint64_t sum = 0;
    measure(
        ground, options, source, [&] { sum += fingerprint(source, with); }, [] {}, &row);
    if (sum == 0) fmt::print("a sum of 0\n");  // the sums are read
    rows->push_back(print_row(row, options.bytes));
  }
}

std::string matrix_name(Codec codec, Dtype dtype, HostIsa isa) {
  return fmt::format("{} {} {}", name_of(codec), name_of(dtype), name_of(isa));
}

std::vector<HostIsa> instruction_sets() {
  std::vector<HostIsa> out;
  for (int isa = kHostIsaCount; isa-- > 0;)
    if (host_kernels(static_cast<HostIsa>(isa)) != nullptr)
      out.push_back(static_cast<HostIsa>(isa));
  return out;
}

Status measure_all(const Ground& ground, const Options& options, nlohmann::json* rows) {
  for (const HostIsa isa : instruction_sets())
    if (("fingerprint any " + std::string(name_of(isa))).find(options.filter) != std::string::npos)
      measure_fingerprint(ground, options, isa, rows);
  for (const Dtype dtype : kDtypes)
    for (const bool zeros : {false, true}) {
      bool filled = false;
      for (int c = 1; c < kCodecCount; ++c) {
        const auto codec = static_cast<Codec>(c);
        if (!codec_supports(codec, dtype) || wants_zeros(codec) != zeros) continue;
        for (const HostIsa isa : instruction_sets()) {
          if (matrix_name(codec, dtype, isa).find(options.filter) == std::string::npos) continue;
          if (!std::exchange(filled, true)) fill(dtype, zeros, ground.source.first(options.bytes));
          SPW_RETURN_IF_ERROR(
              measure_codec(ground, options, {codec, dtype, kDefaultSparseCapacity}, isa, rows));
        }
      }
    }
  return {};
}

/// Every row's bytes once: the same payload, plain bytes and fingerprint from each instruction set
/// and number of threads.
Status check_all(const Ground& ground, const Options& options) {
  std::size_t checked = 0;
  for (const Dtype dtype : kDtypes)
    for (int c = 1; c < kCodecCount; ++c) {
      const CodecFormat format{static_cast<Codec>(c), dtype, kDefaultSparseCapacity};
      if (!codec_supports(format.codec, dtype)) continue;
      const auto source = ground.source.first(options.bytes);
      fill(dtype, wants_zeros(format.codec), source);
      const auto payload = ground.payload.first(static_cast<std::size_t>(
          format.payload_bytes_for(options.bytes / static_cast<std::size_t>(dtype_bytes(dtype)))));
      std::uint64_t expected[3] = {};
      for (const HostIsa isa : instruction_sets())
        for (const int threads : {1, 2}) {
          HostCodecOptions with;
          with.threads = threads;
          with.kernels = host_kernels(isa);
          SPW_ASSIGN_OR_RETURN(const EncodeResult encoded, encode(format, source, payload, with));
          const auto back = ground.back.first(options.bytes);
          SPW_RETURN_IF_ERROR(decode(payload, back, with));
          const std::uint64_t found[3] = {
              fingerprint(payload, with), fingerprint(back, with), encoded.misfit_tiles};
          if (expected[0] == 0) std::copy_n(found, 3, expected);
          const bool exact = format.codec == Codec::kLossless12 || format.codec == Codec::kSparse;
          if (!std::equal(found, found + 3, expected) ||
              (exact && found[1] != fingerprint(source, with)) || encoded.misfit_tiles != 0)
            return {Code::kInternal,
                    matrix_name(format.codec, dtype, isa) + ": other bytes than expected"};
          ++checked;
        }
    }
  fmt::print("{} round trips: the same bytes from every instruction set and thread count\n",
             checked);
  return {};
}

Result<Options> parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : nullptr;
    if (name == "--smoke") {
      options.smoke = true;
      continue;
    }
    if (value == nullptr) return Status(Code::kInvalidArgument, std::string(name));
    ++i;
    if (name == "--json")
      options.json_path = value;
    else if (name == "--filter")
      options.filter = value;
    else if (name == "--mib")
      options.bytes = std::strtoull(value, nullptr, 10) * kMiB;
    else if (name == "--repetitions")
      options.repetitions = std::max<std::size_t>(1, std::strtoull(value, nullptr, 10));
    else if (name == "--budget-ms")
      options.budget_ms = std::strtod(value, nullptr);
    else
      return Status(Code::kInvalidArgument, std::string(name));
  }
  return options;
}

Status run(Options options) {
  const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
  const std::size_t cache_bytes = cache > 0 ? static_cast<std::size_t>(cache) : 32 * kMiB;
  if (options.smoke) options.bytes = kMiB;
  if (options.bytes == 0) options.bytes = (4 * cache_bytes / kMiB + 2) * kMiB;
  // No payload is larger than its source and this.
  const Ground ground{Buffer(options.bytes),
                      Buffer(options.bytes + options.bytes / 4 + kMiB),
                      Buffer(options.bytes)};
  if (options.smoke) return check_all(ground, options);

  const std::string input = fmt::format(
      "{} MiB of normally distributed values (mask1, sparse: their positive half and "
      "zeros); last-level cache {} MiB",
      options.bytes / kMiB,
      cache_bytes / kMiB);
  fmt::print("machine: {}\nload before: {}\nrevision: {}\ninput: {}\n",
             machine_text(),
             load_text(),
             git_revision(),
             input);
  fmt::print(
      "GB/s of plain bytes, medians; 'of copy': ratio to memcpy by as many threads in the "
      "same turn, median and range\n\n");
  fmt::print("{:<11} {:<5} {:<8} {:>2} {:>7} {:>6} {:>17} {:>6} {:>17} {:>6} {:>2}\n",
             "codec",
             "dtype",
             "isa",
             "th",
             "ratio",
             "encode",
             "of copy",
             "decode",
             "of copy",
             "memcpy",
             "n");
  nlohmann::json rows = nlohmann::json::array();
  SPW_RETURN_IF_ERROR(measure_all(ground, options, &rows));
  fmt::print("load after: {}\n", load_text());
  if (options.json_path.empty()) return {};
  const nlohmann::json all = {{"schema", "spillway-codec-bench/1"},
                              {"machine", machine_text()},
                              {"revision", git_revision()},
                              {"input", input},
                              {"rows", rows}};
  std::ofstream file(options.json_path);
  file << all.dump(1) << '\n';
  file.close();
  if (!file) return {Code::kIo, options.json_path + ": cannot be written"};
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  const Result<Options> options = parse(argc, argv);
  if (!options.ok()) {
    std::fprintf(
        stderr,
        "%s: unknown or without a value\nusage: %s [--json FILE] [--filter TEXT] [--mib N] "
        "[--repetitions N] [--budget-ms N] [--smoke]\n",
        options.status().message().c_str(),
        argv[0]);
    return 2;
  }
  const Status done = run(options.value());
  if (!done.ok()) std::fprintf(stderr, "%s\n", done.message().c_str());
  return done.ok() ? 0 : 1;
}
