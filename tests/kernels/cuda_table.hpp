// SPDX-License-Identifier: Apache-2.0
// A table of tensors in host memory, filled as the launcher fills it, and the drivers of the CUDA
// kernels run over it by emulated warps, block by block.
#pragma once

#include "core/codec.hpp"
#include "kernels/body/layout.hpp"
#include "kernels/codec_job.hpp"
#include "kernels/cuda/byte_driver.hpp"
#include "kernels/cuda/warp_tiles.hpp"
#include "tests/kernels/warp_emulator.hpp"

#include <cstdint>
#include <vector>

namespace spillway::test {

class EmulatedTable {
 public:
  EmulatedTable(Codec codec, Dtype dtype) {
    head_.codec = static_cast<std::uint8_t>(codec);
    head_.dtype = static_cast<std::uint8_t>(dtype);
  }
  /// For copies and fingerprints, values are bytes.
  void add(const void* plain,
           const void* payload,
           std::uint64_t values,
           std::uint64_t key = 0,
           std::uint8_t sparse_capacity = 0) {
    CodecJob job{};
    job.plain = reinterpret_cast<std::uintptr_t>(plain);
    job.payload = reinterpret_cast<std::uintptr_t>(payload);
    job.tensor_key = key;
    job.first_tile = head_.total_tiles;
    job.last_tile_values = static_cast<std::uint16_t>((values - 1) % 2048 + 1);
    job.sparse_capacity = sparse_capacity;
    jobs_.push_back(job);
    ++head_.count;
    head_.total_tiles += static_cast<std::uint32_t>(body::tiles_of(values));
  }
  void set_step(std::uint64_t step) { head_.step = step; }

  std::vector<std::uint64_t> fingerprints;
  std::vector<std::uint32_t> misfits;

  template <typename Tiles, bool kEncode>
  [[nodiscard]] bool run_codec(std::uint32_t blocks, std::uint64_t seed) {
    return run(blocks, seed, [](auto lanes, const auto& head, const auto* jobs, const auto& walk) {
      body::run_codec<Tiles, kEncode>(lanes, head, jobs, walk);
    });
  }
  template <body::ByteWork kWork>
  [[nodiscard]] bool run_bytes(std::uint32_t blocks, std::uint64_t seed) {
    return run(blocks, seed, [](auto lanes, const auto& head, const auto* jobs, const auto& walk) {
      body::run_bytes<kWork>(lanes, head, jobs, walk);
    });
  }
  /// Warps sum up, report misfits or do neither.
  bool reports = true;

 private:
  /// False when the lanes of a warp did not meet alike.
  template <typename Work>
  bool run(std::uint32_t blocks, std::uint64_t seed, const Work& work) {
    fingerprints.assign(jobs_.size(), 0);
    misfits.assign(jobs_.size(), 0);
    head_.fingerprints = reports ? reinterpret_cast<std::uintptr_t>(fingerprints.data()) : 0;
    head_.misfits = reports ? reinterpret_cast<std::uintptr_t>(misfits.data()) : 0;
    WarpEmulator warp(seed);
    for (std::uint32_t block = 0; block < blocks; ++block) {
      for (std::uint32_t w = 0; w < kCodecBlockWarps; ++w) {
        const body::TileWalk walk = body::tiles_of_warp(head_.total_tiles, block, blocks, w);
        if (!warp.run(
                [&](const WarpEmulator::Lanes& lanes) { work(lanes, head_, jobs_.data(), walk); }))
          return false;
      }
    }
    return true;
  }

  CodecTableHead head_;
  std::vector<CodecJob> jobs_;
};

}  // namespace spillway::test
