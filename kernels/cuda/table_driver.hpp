// SPDX-License-Identifier: Apache-2.0
// What a warp does with a table of tensors: finds the job of its first tile, then walks; writes or
// checks headers, sums fingerprints, reports misfits. Written against Lanes, so that a test runs
// this very code with 32 emulated lanes on the host.
#pragma once

#include "kernels/body/header.hpp"
#include "kernels/codec_job.hpp"
#include "kernels/cuda/plain_tile.hpp"

namespace spillway::SPW_BODY {

/// Tiles first, first + stride, ... below end: those of one warp.
struct TileWalk {
  uint32_t first;
  uint32_t end;
  uint32_t stride;
};

/// Block `block` of `blocks` takes a contiguous range of the tiles, its warps every eighth of them.
SPW_HD TileWalk tiles_of_warp(uint32_t total, uint32_t block, uint32_t blocks, uint32_t warp) {
  const uint32_t each = total / blocks;
  const uint32_t more = total % blocks;
  const uint32_t first = block * each + smaller(block, more);
  return {first + warp, first + each + (block < more ? 1 : 0), kCodecBlockWarps};
}

/// The job that `tile` belongs to.
SPW_HD uint32_t find_job(const CodecTableHead& head, const CodecJob* jobs, uint32_t tile) {
  uint32_t low = 0;
  uint32_t high = head.count;
  while (high - low > 1) {
    const uint32_t middle = low + (high - low) / 2;
    if (jobs[middle].first_tile <= tile)
      low = middle;
    else
      high = middle;
  }
  return low;
}

/// Calls run(tensor, job, range) for each job that the walk meets, in order.
template <typename Run>
SPW_HD void walk_jobs(const CodecTableHead& head,
                      const CodecJob* jobs,
                      const TileWalk& walk,
                      const Run& run) {
  if (walk.first >= walk.end) return;
  uint32_t tile = walk.first;
  uint32_t job = find_job(head, jobs, tile);
  for (;;) {
    const uint32_t begin = jobs[job].first_tile;
    const uint32_t job_end = job + 1 < head.count ? jobs[job + 1].first_tile : head.total_tiles;
    CodecTensor t;
    t.plain = reinterpret_cast<void*>(jobs[job].plain);
    t.payload = reinterpret_cast<uint8_t*>(jobs[job].payload);
    t.values =
        (static_cast<uint64_t>(job_end - begin) - 1) * kTileValues + jobs[job].last_tile_values;
    t.tensor_key = jobs[job].tensor_key;
    t.step = head.step;
    t.sparse_capacity = static_cast<uint8_t>(jobs[job].sparse_capacity);
    const uint32_t stop = smaller(job_end, walk.end);
    const TileWalk mine{tile - begin, stop - begin, walk.stride};
    run(t, job, mine);
    // Tiles that this walk steps over may be all there are of a job.
    tile += (stop - tile + walk.stride - 1) / walk.stride * walk.stride;
    if (tile >= walk.end) return;
    do ++job;
    while (job + 1 < head.count && jobs[job + 1].first_tile <= tile);
  }
}

/// Encoded tensors begin with it; only lane 0 calls this.
template <typename Tiles>
SPW_HD void write_header(const CodecTableHead& head, const CodecTensor& t) {
  const PayloadHeader header = make_header(head.codec,
                                           head.dtype,
                                           Tiles::kIsSparse ? t.sparse_capacity : uint8_t{0},
                                           t.values,
                                           Tiles::payload_bytes(t.values, t.sparse_capacity),
                                           Tiles::kIsRandom ? t.tensor_key : 0,
                                           Tiles::kIsRandom ? t.step : 0);
  uint32_t words[16];
  __builtin_memcpy(words, &header, sizeof(header));
  store<64>(t.payload, words);
}

/// Whether the payload says that it is what the job expects; the same on all lanes.
template <typename Tiles, typename Lanes>
SPW_HD bool header_matches(const Lanes& lanes, const CodecTableHead& head, const CodecTensor& t) {
  const uint32_t lane = lanes.lane();
  uint64_t word;
  load_stream<8>(&word, t.payload + lane % 8 * 8);
  const uint64_t capacity = Tiles::kIsSparse ? t.sparse_capacity : 0;
  const uint64_t kind = PayloadHeader::kMagic | uint64_t{1} << 32 |
                        static_cast<uint64_t>(head.codec) << 40 |
                        static_cast<uint64_t>(head.dtype) << 48 | capacity << 56;
  bool good = true;
  if (lane == 0) good = word == kind;
  if (lane == 1) good = word == t.values;
  if (lane == 2) good = word == Tiles::payload_bytes(t.values, t.sparse_capacity);
  const uint64_t mixed = lane < 7 ? mix(word, (lane + 1) * kFingerprintStride) : 0;
  const uint64_t check = lanes.sum(mixed);
  if (lane == 7) good = word == check;
  return !lanes.any(!good);
}

/// What a warp leaves behind when it is done with a job. `misfit`: of any lane.
template <typename Lanes>
SPW_HD void leave_job(const Lanes& lanes,
                      const CodecTableHead& head,
                      uint32_t job,
                      bool misfit,
                      const LaneSum& sum,
                      uint64_t start) {
  if (head.misfits != 0 && lanes.any(misfit)) {
    if (lanes.lane() == 0) reinterpret_cast<uint32_t*>(head.misfits)[job] = kMisfitTile;
  }
  if (sum.wanted) {
    const uint64_t all = lanes.sum(sum.sum) + start;
    if (lanes.lane() == 0) lanes.add(reinterpret_cast<uint64_t*>(head.fingerprints) + job, all);
  }
}

/// What one tile came to, on one lane.
struct TileOutcome {
  uint64_t sum = 0;
  bool fits = true;
};

template <typename Tiles, bool kWhole, typename Lanes>
SPW_HD TileOutcome
encode_tile(const Lanes& lanes, const CodecTensor& t, uint64_t tile, bool wants_sum) {
  using Word = typename Tiles::Word;
  const PlainTile<Word, kWhole> plain(lanes, t, tile);
  typename Tiles::Encoder encoder(lanes, t, tile);
  TileOutcome outcome;
  // Two steps at a time: the loads of both are under way together.
  SPW_NO_UNROLL
  for (uint32_t s = 0; s < kTileSteps; s += 2) {
    uint32_t in[2][sizeof(Word) * kLaneValues / 4];
    plain.load(s, in[0]);
    plain.load(s + 1, in[1]);
    SPW_UNROLL
    for (uint32_t i = 0; i < 2; ++i) {
      if (wants_sum) outcome.sum += plain.sum_of(s + i, in[i]);
      if constexpr (Tiles::kIsRandom && !kWhole) plain.fill(lanes, s + i, in[i]);
      encoder.step(lanes, s + i, in[i], plain.group_exists(lanes, s + i));
    }
  }
  outcome.fits = encoder.finish(lanes);
  return outcome;
}

template <typename Tiles, bool kWhole, typename Lanes>
SPW_HD TileOutcome
decode_tile(const Lanes& lanes, const CodecTensor& t, uint64_t tile, bool wants_sum) {
  using Word = typename Tiles::Word;
  const PlainTile<Word, kWhole> plain(lanes, t, tile);
  typename Tiles::Decoder decoder(lanes, t, tile);
  TileOutcome outcome;
  SPW_NO_UNROLL
  for (uint32_t s = 0; s < kTileSteps; s += 2) {
    typename Tiles::Decoder::Loaded loaded[2] = {};
    decoder.load(s, plain.group_exists(lanes, s), &loaded[0]);
    decoder.load(s + 1, plain.group_exists(lanes, s + 1), &loaded[1]);
    SPW_UNROLL
    for (uint32_t i = 0; i < 2; ++i) {
      uint32_t out[sizeof(Word) * kLaneValues / 4];
      decoder.step(lanes, s + i, loaded[i], out);
      if (wants_sum) outcome.sum += plain.sum_of(s + i, out);
      plain.put(s + i, out);
    }
  }
  outcome.fits = decoder.finish();
  return outcome;
}

/// The last tile of a tensor, when it is not whole.
template <typename Tiles, bool kEncode, typename Lanes>
SPW_HD_RARE TileOutcome last_tile(Lanes lanes, CodecTensor t, uint64_t tile, bool wants_sum) {
  if constexpr (kEncode) return encode_tile<Tiles, false>(lanes, t, tile, wants_sum);
  return decode_tile<Tiles, false>(lanes, t, tile, wants_sum);
}

template <typename Tiles, bool kEncode, typename Lanes>
SPW_HD TileOutcome
whole_tile(const Lanes& lanes, const CodecTensor& t, uint64_t tile, bool wants_sum) {
  if constexpr (kEncode) return encode_tile<Tiles, true>(lanes, t, tile, wants_sum);
  return decode_tile<Tiles, true>(lanes, t, tile, wants_sum);
}

template <typename Tiles, bool kEncode, typename Lanes>
SPW_HD void run_codec(const Lanes& lanes,
                      const CodecTableHead& head,
                      const CodecJob* jobs,
                      const TileWalk& walk) {
  walk_jobs(head, jobs, walk, [&](const CodecTensor& t, uint32_t job, const TileWalk& tiles) {
    const bool begins = tiles.first == 0;
    if constexpr (kEncode) {
      if (begins && lanes.lane() == 0) write_header<Tiles>(head, t);
    } else if (!header_matches<Tiles>(lanes, head, t)) {
      if (head.misfits != 0 && lanes.lane() == 0)
        reinterpret_cast<uint32_t*>(head.misfits)[job] = kMisfitHeader;
      return;
    }
    LaneSum sum{head.fingerprints != 0, 0};
    bool fits = true;
    const uint32_t whole = static_cast<uint32_t>(t.values / kTileValues);
    SPW_NO_UNROLL
    for (uint32_t tile = tiles.first; tile < tiles.end; tile += tiles.stride) {
      const TileOutcome outcome = tile < whole
                                      ? whole_tile<Tiles, kEncode>(lanes, t, tile, sum.wanted)
                                      : last_tile<Tiles, kEncode>(lanes, t, tile, sum.wanted);
      sum.sum += outcome.sum;
      fits = fits && outcome.fits;
    }
    const uint64_t bytes = t.values * sizeof(typename Tiles::Word);
    leave_job(lanes, head, job, !fits, sum, begins ? fingerprint_start(bytes) : 0);
  });
}

}  // namespace spillway::SPW_BODY
