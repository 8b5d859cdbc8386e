// SPDX-License-Identifier: Apache-2.0
// The launcher of the codec kernels on the simulated GPU: tables, streams and events, misfit words,
// what it refuses; the bits are the host's, since the simulator runs the host's path.
#include "core/random.hpp"
#include "device/sim/simulator.hpp"
#include "kernels/codec_kernels.hpp"
#include "kernels/kernel_names.hpp"
#include "tests/kernels/lab.hpp"
#include "tests/support/sim_lab.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

using namespace spillway;
using codec_lab::Buffer;
using test::Lab;
using test::lab_options;

namespace {

/// Runs `program` on a fresh simulated machine, which then has nothing to report; or a race.
void in_lab(const sim::Options& options,
            const std::function<void(Lab&)>& program,
            bool expect_race = false) {
  static const std::unique_ptr<sim::Simulator> kSimulator =
      std::move(sim::Simulator::create(lab_options()).value());
  sim::Simulator& simulator = *kSimulator;
  REQUIRE(simulator.reset(options).ok());
  simulator.run([&] {
    Lab lab(simulator);
    program(lab);
    CHECK(lab.failure == cu::Result::kSuccess);
  });
  CAPTURE(simulator.report_text());
  if (expect_race)
    CHECK(simulator.has_report(sim::ReportKind::kRace));
  else
    CHECK(simulator.reports().empty());
}

StreamRef ref(const Lab& lab, cu::Stream stream) {
  const Result<StreamRef> made = StreamRef::of(lab.cu, stream);
  REQUIRE(made.ok());
  return made.value();
}

CodecKernels load(const Lab& lab) {
  Result<CodecKernels> kernels = CodecKernels::load(lab.cu);
  REQUIRE_MESSAGE(kernels.ok(), kernels.status().message());
  return std::move(kernels.value());
}

/// bf16 of about one size, as bytes.
Buffer some_values(std::uint64_t values, Random* random) {
  Buffer out(values * 2);
  for (std::uint64_t i = 0; i < values; ++i)
    out.set<std::uint16_t>(i, static_cast<std::uint16_t>(0x3f00 + random->below(0x100)));
  return out;
}

/// A tensor in device memory with room for its payload and for what comes back.
struct OnDevice {
  cu::DevicePtr plain;
  cu::DevicePtr payload;
  cu::DevicePtr back;
  std::uint64_t values;
  std::uint64_t plain_bytes;
  std::uint64_t payload_bytes;

  OnDevice(Lab* lab, const CodecFormat& format, std::uint64_t count)
      : plain(lab->device(count * dtype_bytes(format.dtype))),
        payload(lab->device(format.payload_bytes_for(count))),
        back(lab->device(count * dtype_bytes(format.dtype))),
        values(count),
        plain_bytes(count * dtype_bytes(format.dtype)),
        payload_bytes(format.payload_bytes_for(count)) {}
  [[nodiscard]] DeviceCodecTensor to_encode() const {
    return {plain, payload, values, payload_bytes, 77};
  }
  [[nodiscard]] DeviceCodecTensor to_decode() const {
    return {back, payload, values, payload_bytes, 0};
  }
};

std::uint32_t* misfit_words(Lab* lab, std::size_t count, DeviceCodecOptions* options) {
  auto* const words = reinterpret_cast<std::uint32_t*>(lab->pinned(count * 4));
  std::memset(words, 0, count * 4);
  lab->note(lab->cu.cuMemHostGetDevicePointer(&options->misfits, words, 0));
  return words;
}

}  // namespace

TEST_SUITE("sim") {
  TEST_CASE("what one stream encodes another decodes behind an event, with the host's bits") {
    for (std::uint64_t seed = 0; seed < 8; ++seed) {
      CAPTURE(seed);
      sim::Options checked = lab_options(sim::Mode::kRandom, seed);
      checked.check_kernels = seed % 2 == 0;  // what they declare is what they touch
      in_lab(checked, [&](Lab& lab) {
        const CodecKernels kernels = load(lab);
        Random random(seed);
        for (const Codec codec : {Codec::kInt8,
                                  Codec::kFp8E4m3,
                                  Codec::kFp8E5m2,
                                  Codec::kInt4,
                                  Codec::kLossless12,
                                  Codec::kSparse,
                                  Codec::kMask1,
                                  Codec::kNone}) {
          CAPTURE(name_of(codec));
          const CodecFormat format{codec, Dtype::kBf16, 16};
          const std::uint64_t values = 3000 + random.below(3000);
          const Buffer source = some_values(values, &random);
          const OnDevice tensor(&lab, format, values);
          const cu::DevicePtr sums = lab.device(16);
          const cu::Stream a = lab.stream();
          const cu::Stream b = lab.stream();
          DeviceCodecOptions options;
          options.step = 5;
          const std::uint32_t* words = misfit_words(&lab, 1, &options);
          lab.h2d(a, tensor.plain, source.data(), source.size());
          options.fingerprints = sums;
          const DeviceCodecTensor there = tensor.to_encode();
          Status done = kernels.encode(ref(lab, a), format, {&there, 1}, options);
          REQUIRE_MESSAGE(done.ok(), done.message());
          lab.order(a, b);
          options.fingerprints = sums + 8;
          const DeviceCodecTensor home = tensor.to_decode();
          done = kernels.decode(ref(lab, b), format, {&home, 1}, options);
          REQUIRE_MESSAGE(done.ok(), done.message());
          const Buffer payload(tensor.payload_bytes);
          const Buffer back(source.size());
          std::uint64_t got[2] = {0, 0};
          auto* const staging = lab.pinned(payload.size() + back.size() + 16);
          lab.d2h(b, staging, tensor.payload, payload.size());
          lab.d2h(b, staging + payload.size(), tensor.back, back.size());
          lab.d2h(b, staging + payload.size() + back.size(), sums, 16);
          lab.sync(b);
          std::memcpy(payload.data(), staging, payload.size());
          std::memcpy(back.data(), staging + payload.size(), back.size());
          std::memcpy(got, staging + payload.size() + back.size(), 16);
          CHECK(lab.failure == cu::Result::kSuccess);
          CHECK(words[0] == 0);

          HostCodecOptions host;
          host.threads = 1;
          host.tensor_key = 77;
          host.step = 5;
          std::uint64_t expected_sum = 0;
          host.fingerprint = &expected_sum;
          const Buffer expected(payload.size());
          const Buffer expected_back(source.size());
          REQUIRE(encode(format, source.span(), expected.span(), host).ok());
          CHECK(codec_lab::same_bytes(payload, expected));
          CHECK(got[0] == expected_sum);
          if (codec == Codec::kNone) {
            CHECK(codec_lab::same_bytes(back, source));
          } else {
            REQUIRE(decode(expected.span(), expected_back.span(), host).ok());
            CHECK(codec_lab::same_bytes(back, expected_back));
            CHECK(got[1] == expected_sum);
          }
        }
      });
    }
  }

  TEST_CASE("a decode that does not wait for the encode is a race, whatever the order was") {
    for (std::uint64_t seed = 0; seed < 8; ++seed) {
      CAPTURE(seed);
      in_lab(
          lab_options(sim::Mode::kRandom, seed),
          [&](Lab& lab) {
            const CodecKernels kernels = load(lab);
            const CodecFormat format{Codec::kInt8, Dtype::kBf16};
            const OnDevice tensor(&lab, format, 4000);
            const cu::Stream a = lab.stream();
            const cu::Stream b = lab.stream();
            lab.fill(a, tensor.plain, 1, tensor.plain_bytes);
            const DeviceCodecTensor there = tensor.to_encode();
            const DeviceCodecTensor home = tensor.to_decode();
            REQUIRE(kernels.encode(ref(lab, a), format, {&there, 1}).ok());
            REQUIRE(kernels.decode(ref(lab, b), format, {&home, 1}).ok());
            lab.sync(a);
            lab.sync(b);
          },
          true);
    }
  }

  TEST_CASE("tensors that do not fit, and payloads that are another one, are told in host memory") {
    in_lab(lab_options(), [](Lab& lab) {
      const CodecKernels kernels = load(lab);
      const CodecFormat format{Codec::kLossless12, Dtype::kBf16};
      std::vector<OnDevice> tensors;
      std::vector<DeviceCodecTensor> there;
      std::vector<DeviceCodecTensor> home;
      const cu::Stream stream = lab.stream();
      Random random(3);
      for (int i = 0; i < 4; ++i) {
        tensors.emplace_back(&lab, format, 5000);
        Buffer source = some_values(5000, &random);
        // The second has exponents all over the place.
        if (i == 1)
          for (std::uint64_t v = 0; v < 5000; ++v)
            source.set<std::uint16_t>(v, static_cast<std::uint16_t>(random.next()));
        auto* const staging = lab.pinned(source.size());
        std::memcpy(staging, source.data(), source.size());
        lab.h2d(stream, tensors.back().plain, staging, source.size());
        there.push_back(tensors.back().to_encode());
        home.push_back(tensors.back().to_decode());
      }
      DeviceCodecOptions options;
      std::uint32_t* const words = misfit_words(&lab, 4, &options);
      REQUIRE(kernels.encode(ref(lab, stream), format, there, options).ok());
      lab.sync(stream);
      CHECK(words[0] == 0);
      CHECK(words[1] == kMisfitTile);
      CHECK(words[2] == 0);
      CHECK(words[3] == 0);

      lab.fill(stream, tensors[2].payload, 0, 16);
      lab.fill(stream, tensors[2].back, 9, tensors[2].plain_bytes);
      std::memset(words, 0, 16);
      REQUIRE(kernels.decode(ref(lab, stream), format, home, options).ok());
      lab.sync(stream);
      CHECK(words[0] == 0);
      CHECK(words[2] == kMisfitHeader);
      CHECK(words[3] == 0);
    });
  }

  TEST_CASE("2,100 tensors go in three launches, a thousand in one") {
    in_lab(lab_options(), [](Lab& lab) {
      const CodecKernels kernels = load(lab);
      const CodecFormat format{Codec::kInt8, Dtype::kBf16};
      constexpr std::uint64_t kValues = 130;
      constexpr std::uint64_t kCount = 2 * kLargeTableJobs + 100;
      const std::uint64_t room = (format.payload_bytes_for(kValues) + 255) / 256 * 256;
      const cu::DevicePtr plain = lab.device(kCount * 512);
      const cu::DevicePtr payload = lab.device(kCount * room);
      const cu::DevicePtr back = lab.device(kCount * 512);
      const cu::DevicePtr sums = lab.device(kCount * 8);
      auto* const source = lab.pinned(kCount * 512);
      auto* const result = lab.pinned(kCount * 512);
      auto* const got = reinterpret_cast<std::uint64_t*>(lab.pinned(kCount * 8));
      Random random(4);
      for (std::uint64_t i = 0; i < kCount * 512; i += 2) {
        source[i] = 0x80;  // powers of two: int8 keeps them
        source[i + 1] = 0x3f;
        if (random.below(3) == 0) source[i + 1] = 0xbf;
      }
      const cu::Stream stream = lab.stream();
      lab.h2d(stream, plain, source, kCount * 512);
      std::vector<DeviceCodecTensor> there;
      std::vector<DeviceCodecTensor> home;
      for (std::uint64_t i = 0; i < kCount; ++i) {
        const DeviceCodecTensor one{
            plain + i * 512, payload + i * room, kValues, format.payload_bytes_for(kValues), i};
        there.push_back(one);
        home.push_back(one);
        home.back().plain = back + i * 512;
      }
      DeviceCodecOptions options;
      options.fingerprints = sums;
      const std::uint32_t* const words = misfit_words(&lab, kCount, &options);
      REQUIRE(kernels.encode(ref(lab, stream), format, there, options).ok());
      REQUIRE(kernels.decode(ref(lab, stream), format, home, {}).ok());
      lab.fill(stream, back + kValues * 2, 0, 512 - kValues * 2);
      lab.d2h(stream, result, back, kCount * 512);
      lab.d2h(stream, got, sums, kCount * 8);
      lab.sync(stream);
      CHECK(lab.failure == cu::Result::kSuccess);
      std::uint64_t wrong = 0;
      for (std::uint64_t i = 0; i < kCount; ++i) {
        if (std::memcmp(result + i * 512, source + i * 512, kValues * 2) != 0) ++wrong;
        const auto* const bytes = reinterpret_cast<const std::byte*>(source + i * 512);
        if (got[i] != fingerprint({bytes, kValues * 2})) ++wrong;
        if (words[i] != 0) ++wrong;
      }
      CHECK(wrong == 0);
    });
  }

  TEST_CASE("copies and fingerprints of many ranges are those of the host") {
    in_lab(lab_options(), [](Lab& lab) {
      const CodecKernels kernels = load(lab);
      const cu::Stream stream = lab.stream();
      constexpr std::uint64_t kRoom = 8192;
      auto* const source = lab.pinned(20 * kRoom);
      auto* const result = lab.pinned(20 * kRoom);
      Random random(6);
      for (std::uint64_t i = 0; i < 20 * kRoom; ++i)
        source[i] = static_cast<std::uint8_t>(random.next());
      const cu::DevicePtr from = lab.device(20 * kRoom);
      const cu::DevicePtr to = lab.device(20 * kRoom);
      const cu::DevicePtr sums = lab.device(20 * 8);
      const cu::DevicePtr blocks = lab.device(kRoom / 512 * 8);
      lab.h2d(stream, from, source, 20 * kRoom);
      lab.fill(stream, to, 0, 20 * kRoom);
      std::vector<DeviceCopy> copies;
      std::vector<DeviceBytes> ranges;
      for (std::uint64_t i = 0; i < 20; ++i) {
        const std::uint64_t bytes = 1 + random.below(kRoom);
        copies.push_back({from + i * kRoom, to + i * kRoom, bytes});
        ranges.push_back({to + i * kRoom, bytes});
      }
      REQUIRE(kernels.copy(ref(lab, stream), copies).ok());
      REQUIRE(kernels.fingerprint(ref(lab, stream), ranges, sums).ok());
      REQUIRE(kernels.fingerprint_blocks(ref(lab, stream), ranges[7], blocks).ok());
      auto* const got = reinterpret_cast<std::uint64_t*>(lab.pinned(20 * 8));
      auto* const got_blocks = reinterpret_cast<std::uint64_t*>(lab.pinned(kRoom / 512 * 8));
      const std::uint64_t block_count = (ranges[7].bytes + 511) / 512;
      lab.d2h(stream, result, to, 20 * kRoom);
      lab.d2h(stream, got, sums, 20 * 8);
      lab.d2h(stream, got_blocks, blocks, block_count * 8);
      lab.sync(stream);
      for (std::uint64_t i = 0; i < 20; ++i) {
        CAPTURE(i);
        CHECK(std::memcmp(source + i * kRoom, result + i * kRoom, copies[i].bytes) == 0);
        const auto* const bytes = reinterpret_cast<const std::byte*>(source + i * kRoom);
        CHECK(got[i] == fingerprint({bytes, copies[i].bytes}));
      }
      const auto* const bytes = reinterpret_cast<const std::byte*>(source + 7 * kRoom);
      const std::vector<std::uint64_t> expected = fingerprint_blocks({bytes, ranges[7].bytes});
      REQUIRE(expected.size() == block_count);
      CHECK(std::memcmp(expected.data(), got_blocks, block_count * 8) == 0);
    });
  }

  TEST_CASE("an encode takes the time of the bytes it moves, and a launch") {
    sim::Options timed = lab_options(sim::Mode::kTimed);
    timed.memory_bytes = 64ull << 20;
    in_lab(timed, [](Lab& lab) {
      const CodecKernels kernels = load(lab);
      const CodecFormat format{Codec::kInt8, Dtype::kBf16};
      const cu::Stream stream = lab.stream();
      const auto time_of = [&](const OnDevice& tensor) {
        const cu::Event begin = lab.event(0);
        const cu::Event end = lab.event(0);
        const DeviceCodecTensor there = tensor.to_encode();
        lab.record(begin, stream);
        REQUIRE(kernels.encode(ref(lab, stream), format, {&there, 1}).ok());
        lab.record(end, stream);
        lab.sync(end);
        float ms = 0;
        lab.note(lab.cu.cuEventElapsedTime(&ms, begin, end));
        return static_cast<double>(ms);
      };
      const OnDevice one(&lab, format, 1 << 20);
      const OnDevice eight(&lab, format, 8 << 20);
      const double short_ms = time_of(one);
      const double long_ms = time_of(eight);
      CHECK(lab.failure == cu::Result::kSuccess);
      CHECK(short_ms > 0);
      CHECK(long_ms > short_ms);
      CHECK(long_ms < 9 * short_ms);
    });
  }

  TEST_CASE("what cannot be encoded is refused before anything is queued") {
    in_lab(lab_options(), [](Lab& lab) {
      const CodecKernels kernels = load(lab);
      const cu::Stream stream = lab.stream();
      const StreamRef s = ref(lab, stream);
      const CodecFormat format{Codec::kInt8, Dtype::kBf16};
      const std::uint64_t bytes = format.payload_bytes_for(1000);
      const cu::DevicePtr plain = lab.device(4096);
      const cu::DevicePtr payload = lab.device(4096);
      const DeviceCodecTensor good{plain, payload, 1000, bytes, 0};
      CHECK(kernels.encode(s, format, {}).ok());
      const auto refused = [&](DeviceCodecTensor tensor,
                               CodecFormat f = {Codec::kInt8, Dtype::kBf16}) {
        const Status a = kernels.encode(s, f, {&tensor, 1});
        const Status b = kernels.decode(s, f, {&tensor, 1});
        return a.code() == Code::kInvalidArgument && b.code() == Code::kInvalidArgument;
      };
      DeviceCodecTensor bad = good;
      bad.plain = 0;
      CHECK(refused(bad));
      bad = good;
      bad.payload = 0;
      CHECK(refused(bad));
      bad = good;
      bad.plain += 8;
      CHECK(refused(bad));
      bad = good;
      bad.payload += 1;
      CHECK(refused(bad));
      bad = good;
      bad.values = 0;
      CHECK(refused(bad));
      bad = good;
      bad.values = ~std::uint64_t{0};
      CHECK(refused(bad));
      bad = good;
      bad.payload_bytes -= 1;
      CHECK(refused(bad));
      bad = good;
      bad.payload = plain + 1984;  // 2000 bytes of values
      CHECK(refused(bad));
      CHECK(refused(good, {Codec::kLossless12, Dtype::kFp16}));
      CHECK(refused(good, {Codec::kInt8, Dtype::kInt32}));
      CHECK(refused(good, {Codec::kSparse, Dtype::kBf16, 17}));
      DeviceCodecOptions options;
      options.fingerprints = plain + 4;
      CHECK(kernels.encode(s, format, {&good, 1}, options).code() == Code::kInvalidArgument);
      options.fingerprints = 0;
      options.misfits = plain + 2;
      CHECK(kernels.encode(s, format, {&good, 1}, options).code() == Code::kInvalidArgument);
      const DeviceBytes nothing{plain, 0};
      CHECK(kernels.fingerprint(s, {&nothing, 1}, payload).code() == Code::kInvalidArgument);
      const DeviceBytes odd{plain + 2, 8};
      CHECK(kernels.fingerprint(s, {&odd, 1}, payload).code() == Code::kInvalidArgument);
      const DeviceBytes whole{plain, 4096};
      CHECK(kernels.fingerprint(s, {&whole, 1}, 0).code() == Code::kInvalidArgument);
      CHECK(kernels.fingerprint_blocks(s, whole, plain).code() == Code::kInvalidArgument);
      const DeviceCopy onto_itself{plain, plain + 16, 64};
      CHECK(kernels.copy(s, {&onto_itself, 1}).code() == Code::kInvalidArgument);
      lab.sync(stream);
    });
  }
}

TEST_SUITE("unit") {
  TEST_CASE("every codec has kernels for every dtype that it takes, each under its own names") {
    std::set<std::string> names;
    for (const CodecKernelName& name : codec_kernel_names()) {
      CHECK(names.insert(name.small).second);
      CHECK(names.insert(name.large).second);
    }
    for (int c = 1; c < kCodecCount; ++c) {
      for (int d = 0; d <= static_cast<int>(Dtype::kFp64); ++d) {
        const auto codec = static_cast<Codec>(c);
        const auto dtype = static_cast<Dtype>(d);
        for (const CodecWork work : {CodecWork::kEncode, CodecWork::kDecode}) {
          const auto index = codec_kernel_index(work, codec, dtype);
          CHECK(index.has_value() == codec_supports(codec, dtype));
          if (index) CHECK(codec_kernel_names()[*index].work == work);
        }
      }
    }
  }
}
