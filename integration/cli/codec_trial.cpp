// SPDX-License-Identifier: Apache-2.0
// Chunks are whole tiles, so that their payloads are those of the whole tensor, but for int4's
// random numbers, which begin anew in each.
#include "integration/cli/codec_trial.hpp"

#include "kernels/body/lossless12.hpp"
#include "kernels/body/values.hpp"
#include "kernels/host/parallel.hpp"
#include "kernels/host_codec.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <span>

namespace spillway::cli {
namespace {

constexpr std::uint64_t kChunkBytes = std::uint64_t{32} << 20;
constexpr std::uint64_t kCopyBytes = 128 << 10;
static_assert(kChunkBytes % (kCodecTileValues * 4) == 0);

/// Runs that a time is the median of: small files are timed by many, large ones average themselves.
int runs_of(std::uint64_t bytes, std::uint64_t chunk) {
  constexpr std::uint64_t kSmallBytes = std::uint64_t{4} << 20;
  if (bytes <= kSmallBytes) return 15;
  return chunk == 0 ? 3 : 1;
}

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

/// Median time of `runs` calls; at least 1 ns.
template <typename Call>
std::int64_t median_ns(int runs, Call call) {
  std::vector<std::int64_t> times;
  for (int i = 0; i < runs; ++i) {
    const std::int64_t begin_ns = now_ns();
    call();
    times.push_back(std::max<std::int64_t>(now_ns() - begin_ns, 1));
  }
  std::nth_element(times.begin(), times.begin() + runs / 2, times.end());
  return times[static_cast<std::size_t>(runs / 2)];
}

void copy_in_parallel(std::span<const std::byte> from, std::span<std::byte> to, int threads) {
  struct Work {
    std::span<const std::byte> from;
    std::span<std::byte> to;
  } work{from, to};
  for_each_chunk((from.size() + kCopyBytes - 1) / kCopyBytes,
                 threads,
                 &work,
                 [](void* context, std::uint64_t chunk) {
                   const Work& w = *static_cast<Work*>(context);
                   const std::size_t at = chunk * kCopyBytes;
                   std::memcpy(w.to.data() + at,
                               w.from.data() + at,
                               std::min<std::size_t>(kCopyBytes, w.from.size() - at));
                 });
}

template <typename Value>
double number_at(const std::byte* at) {
  typename Value::Word raw;
  std::memcpy(&raw, at, sizeof(raw));
  return static_cast<double>(body::float_of(Value::to_float(raw)));
}

template <typename Value>
bool is_finite_at(const std::byte* at) {
  typename Value::Word raw;
  std::memcpy(&raw, at, sizeof(raw));
  return (raw & Value::kMagnitude) < Value::kInfinity;
}

/// The groups of a chunk: their largest magnitudes, NaN where one has a NaN or an Inf.
template <typename Value>
std::vector<double> group_maxima(std::span<const std::byte> bytes) {
  constexpr std::size_t kGroupBytes = kCodecGroupValues * sizeof(typename Value::Word);
  std::vector<double> maxima;
  for (std::size_t begin = 0; begin < bytes.size(); begin += kGroupBytes) {
    double amax = 0;
    for (std::size_t at = begin; at < std::min(begin + kGroupBytes, bytes.size());
         at += sizeof(typename Value::Word)) {
      if (!is_finite_at<Value>(bytes.data() + at)) {
        amax = std::nan("");
        break;
      }
      amax = std::max(amax, std::fabs(number_at<Value>(bytes.data() + at)));
    }
    maxima.push_back(amax);
  }
  return maxima;
}

template <typename Value>
void add_errors(std::span<const std::byte> source,
                std::span<const std::byte> decoded,
                std::span<const double> maxima,
                CodecTrial* trial) {
  constexpr std::size_t kWord = sizeof(typename Value::Word);
  constexpr std::size_t kGroupBytes = kCodecGroupValues * kWord;
  const CodecErrorBound bound = error_bound(trial->codec);
  for (std::size_t g = 0; g < maxima.size(); ++g) {
    if (std::isnan(maxima[g])) continue;
    const double floor = std::max(bound.of_group_max * maxima[g], bound.absolute);
    trial->error_bound = std::max({trial->error_bound, floor, bound.relative * maxima[g]});
    const std::size_t end = std::min((g + 1) * kGroupBytes, source.size());
    for (std::size_t at = g * kGroupBytes; at < end; at += kWord) {
      const double x = number_at<Value>(source.data() + at);
      const double error = std::fabs(x - number_at<Value>(decoded.data() + at));
      trial->max_error = std::max(trial->max_error, error);
      // Written so that a NaN counts.
      trial->above_bound += error <= std::max(bound.relative * std::fabs(x), floor) ? 0U : 1U;
      trial->signal += x * x;
      trial->noise += error * error;
    }
  }
}

/// Values whose exponent is outside the 15 below the largest of their group.
template <typename Word>
std::uint64_t count_escapes(std::span<const std::byte> source) {
  constexpr std::size_t kGroupBytes = kCodecGroupValues * sizeof(Word);
  std::uint64_t escapes = 0;
  for (std::size_t begin = 0; begin < source.size(); begin += kGroupBytes) {
    std::uint32_t ranks[kCodecGroupValues];
    std::uint32_t count = 0;
    std::uint32_t base = 0;
    const std::size_t end = std::min(begin + kGroupBytes, source.size());
    for (std::size_t at = begin; at < end; at += sizeof(Word)) {
      Word raw;
      std::memcpy(&raw, source.data() + at, sizeof(raw));
      const std::uint32_t high = static_cast<std::uint32_t>(raw) >> (8 * (sizeof(Word) - 2));
      const std::uint32_t rank = body::Lossless12::rank(high);
      base = std::max(base, rank);
      // Zeros and subnormals have a code of their own.
      if ((high & 0x7f80) != 0) ranks[count++] = rank;
    }
    for (std::uint32_t i = 0; i < count; ++i)
      escapes += base - ranks[i] >= body::Lossless12::kEscape ? 1U : 0U;
  }
  return escapes;
}

template <typename Value>
bool signs_agree(std::span<const std::byte> source, std::span<const std::byte> decoded) {
  constexpr std::size_t kWord = sizeof(typename Value::Word);
  for (std::size_t at = 0; at < source.size(); at += kWord)
    if (number_at<Value>(decoded.data() + at) != (number_at<Value>(source.data() + at) > 0 ? 1 : 0))
      return false;
  return true;
}

/// The judges of one dtype, chosen once.
struct Judges {
  std::vector<double> (*maxima)(std::span<const std::byte>) = nullptr;
  void (*errors)(std::span<const std::byte>,
                 std::span<const std::byte>,
                 std::span<const double>,
                 CodecTrial*) = nullptr;
  std::uint64_t (*escapes)(std::span<const std::byte>) = nullptr;
  bool (*signs)(std::span<const std::byte>, std::span<const std::byte>) = nullptr;
};

template <typename Value>
Judges judges_of_numbers() {
  return {&group_maxima<Value>,
          &add_errors<Value>,
          &count_escapes<typename Value::Word>,
          &signs_agree<Value>};
}

Judges judges_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::kBf16:
      return judges_of_numbers<body::Bf16>();
    case Dtype::kFp16:
      return judges_of_numbers<body::Fp16>();
    case Dtype::kFp32:
      return judges_of_numbers<body::Fp32>();
    default:
      return {};  // booleans have no errors
  }
}

struct Chunk {
  std::span<const std::byte> source;
  std::span<std::byte> decoded;
  std::span<const double> maxima;
  std::uint64_t number = 0;
  int runs = 1;
};

Status try_one(const Chunk& chunk,
               const TrialOptions& options,
               const Judges& judges,
               std::vector<std::byte>* payload,
               CodecTrial* trial) {
  CodecFormat format;
  format.codec = trial->codec;
  format.dtype = options.dtype;
  format.sparse_capacity = options.sparse_capacity;
  payload->resize(format.payload_bytes_for(chunk.source.size() / dtype_bytes(options.dtype)));
  HostCodecOptions how;
  how.threads = options.threads;
  how.step = chunk.number;
  Result<EncodeResult> encoded = EncodeResult{};
  Status decoded;
  trial->encode_ns +=
      median_ns(chunk.runs, [&] { encoded = encode(format, chunk.source, *payload, how); });
  if (!encoded.ok()) return encoded.status();
  trial->decode_ns +=
      median_ns(chunk.runs, [&] { decoded = decode(*payload, chunk.decoded, how); });
  trial->misfit_tiles += encoded.value().misfit_tiles;
  // A payload with misfits is no copy: nobody would decode it, and sparse refuses to.
  if (encoded.value().misfit_tiles == 0) SPW_RETURN_IF_ERROR(decoded);
  trial->bit_exact =
      trial->bit_exact &&
      std::memcmp(chunk.source.data(), chunk.decoded.data(), chunk.source.size()) == 0;
  if (trial->codec == Codec::kLossless12) trial->escapes += judges.escapes(chunk.source);
  if (judges.errors == nullptr || !trial->fits()) return {};
  if (trial->codec == Codec::kMask1) {
    trial->sign_exact = trial->sign_exact && judges.signs(chunk.source, chunk.decoded);
  } else {
    judges.errors(chunk.source, chunk.decoded, chunk.maxima, trial);
  }
  return {};
}

}  // namespace

Result<TrialResult> try_codecs(ValueFile& file, const TrialOptions& options, Progress& progress) {
  TrialResult result;
  result.bytes = file.bytes();
  result.values = file.bytes() / dtype_bytes(options.dtype);
  result.groups = (result.values + kCodecGroupValues - 1) / kCodecGroupValues;
  for (int i = 0; i < kCodecCount; ++i) {
    const auto codec = static_cast<Codec>(i);
    if (!codec_supports(codec, options.dtype)) continue;
    CodecTrial trial;
    trial.codec = codec;
    trial.payload_bytes =
        payload_bytes(codec, options.dtype, result.bytes, options.sparse_capacity);
    result.codecs.push_back(trial);
  }

  const Judges judges = judges_of(options.dtype);
  const auto chunk_bytes = static_cast<std::size_t>(std::min(kChunkBytes, result.bytes));
  std::vector<std::byte> source(chunk_bytes);
  std::vector<std::byte> decoded(chunk_bytes);
  std::vector<std::byte> payload;
  std::uint64_t number = 0;
  for (std::uint64_t at = 0; at < result.bytes; at += chunk_bytes, ++number) {
    progress.show("trying codecs", at, result.bytes);
    const auto bytes =
        static_cast<std::size_t>(std::min<std::uint64_t>(chunk_bytes, result.bytes - at));
    SPW_RETURN_IF_ERROR(file.read(std::span(source).first(bytes)));
    Chunk chunk;
    chunk.source = std::span<const std::byte>(source).first(bytes);
    chunk.decoded = std::span(decoded).first(bytes);
    chunk.number = number;
    chunk.runs = runs_of(result.bytes, number);
    std::vector<double> maxima;
    if (judges.maxima != nullptr) maxima = judges.maxima(chunk.source);
    for (const double amax : maxima) result.nonfinite_groups += std::isnan(amax) ? 1U : 0U;
    chunk.maxima = maxima;
    const std::int64_t copy_ns = median_ns(
        chunk.runs, [&] { copy_in_parallel(chunk.source, chunk.decoded, options.threads); });
    result.memcpy_ns += copy_ns;
    for (CodecTrial& trial : result.codecs) {
      if (trial.codec == Codec::kNone) {
        // What copy_in_parallel has just done, there and back.
        trial.encode_ns += copy_ns;
        trial.decode_ns += copy_ns;
        trial.bit_exact =
            trial.bit_exact && std::memcmp(chunk.source.data(), chunk.decoded.data(), bytes) == 0;
        if (judges.errors != nullptr) judges.errors(chunk.source, chunk.decoded, maxima, &trial);
        continue;
      }
      SPW_RETURN_IF_ERROR(try_one(chunk, options, judges, &payload, &trial));
    }
  }
  for (CodecTrial& trial : result.codecs)
    if (trial.codec != Codec::kLossless12) trial.escapes = trial.misfit_tiles;
  return result;
}

}  // namespace spillway::cli
