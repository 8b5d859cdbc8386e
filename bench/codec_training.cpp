// SPDX-License-Identifier: Apache-2.0
// Trains a small transformer once per codec and seed, the same batches and dropout each time, with
// what backward reads kept through the codec. Forward is untouched, so the first loss must be that
// of exact training to the bit, and with lossless codecs every loss: checked, exit code 1.
#include "bench/support/tiny_transformer.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace spillway;
using namespace spillway::bench;

struct Options {
  std::uint64_t steps = 300;
  std::uint64_t seeds = 3;
  std::string output;
};

struct Run {
  Codec codec = Codec::kNone;
  std::uint64_t seed = 0;
  std::vector<double> losses;
  std::uint64_t source_bytes = 0;  // of the last step
  std::uint64_t kept_bytes = 0;
  std::uint64_t coded = 0;    // tensors, over all steps
  std::uint64_t misfits = 0;  // tensors that stayed as they were
  double seconds = 0;
};

constexpr std::array<Codec, 7> kArms = {Codec::kNone,
                                        Codec::kLossless12,
                                        Codec::kSparse,
                                        Codec::kMask1,
                                        Codec::kInt8,
                                        Codec::kFp8E4m3,
                                        Codec::kInt4};

/// Words of a made-up language, each with four that may follow it: learnable, and without anybody's
/// rights.
std::vector<std::uint8_t> grammar_text(std::size_t bytes) {
  Random random(20261122);
  constexpr std::size_t kWords = 48;
  std::vector<std::string> words(kWords);
  for (std::string& word : words)
    for (std::uint64_t letters = 2 + random.below(6); letters > 0; --letters)
      word.push_back(static_cast<char>('a' + random.below(26)));
  std::vector<std::array<std::size_t, 4>> next(kWords);
  for (auto& four : next)
    for (std::size_t& one : four) one = random.below(kWords);
  std::vector<std::uint8_t> text;
  std::size_t word = 0;
  while (text.size() < bytes) {
    text.insert(text.end(), words[word].begin(), words[word].end());
    text.push_back(random.below(8) == 0 ? '.' : ' ');
    const double dice = random.unit();
    word = next[word][dice < 0.5 ? 0 : dice < 0.75 ? 1 : dice < 0.9 ? 2 : 3];
  }
  text.resize(bytes);
  return text;
}

Run train(Codec codec, std::uint64_t seed, std::uint64_t steps) {
  const TransformerShape shape;
  static const std::vector<std::uint8_t> kText = grammar_text(200'000);
  Run run;
  run.codec = codec;
  run.seed = seed;
  TinyTransformer model(shape, seed);
  Stash stash(codec);
  Random data(seed + 1000);
  Random dropout(seed + 2000);
  const auto row = static_cast<std::size_t>(shape.seq) + 1;
  std::vector<std::uint8_t> batch(row * static_cast<std::size_t>(shape.batch));
  const auto begin = std::chrono::steady_clock::now();
  for (std::uint64_t step = 0; step < steps; ++step) {
    for (std::size_t at = 0; at < batch.size(); at += row)
      std::memcpy(batch.data() + at, kText.data() + data.below(kText.size() - row), row);
    stash.begin_step(step);
    run.losses.push_back(model.train_step(batch, &dropout, &stash));
    constexpr double kRate = 3e-3;
    constexpr std::uint64_t kWarmUp = 20;
    const double part = static_cast<double>(step + 1) / static_cast<double>(kWarmUp);
    model.update(kRate * std::min(1.0, part), step);
    run.coded += stash.coded();
    run.misfits += stash.misfits();
  }
  run.source_bytes = stash.source_bytes();
  run.kept_bytes = stash.kept_bytes();
  run.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return run;
}

bool same_bits(double a, double b) { return std::memcmp(&a, &b, sizeof(a)) == 0; }

/// What must hold of `run` beside exact training with the same seed; prints what does not.
bool holds(const Run& run, const Run& exact) {
  const std::string name(name_of(run.codec));
  if (!same_bits(run.losses.front(), exact.losses.front())) {
    std::fprintf(stderr, "%s: the first loss is not that of exact training\n", name.c_str());
    return false;
  }
  if (run.codec != Codec::kNone && run.coded == 0) {
    std::fprintf(stderr, "%s: no tensor went through the codec\n", name.c_str());
    return false;
  }
  for (std::size_t i = 0; i < run.losses.size(); ++i) {
    if (!std::isfinite(run.losses[i])) {
      std::fprintf(stderr, "%s: loss of step %zu is not finite\n", name.c_str(), i);
      return false;
    }
    if (is_lossless(run.codec) && !same_bits(run.losses[i], exact.losses[i])) {
      std::fprintf(stderr, "%s is lossless, but step %zu differs\n", name.c_str(), i);
      return false;
    }
  }
  return true;
}

/// Mean of the last tenth: single batches scatter.
double final_loss(const Run& run) {
  const std::size_t count = std::max<std::size_t>(run.losses.size() / 10, 1);
  double sum = 0;
  for (std::size_t i = run.losses.size() - count; i < run.losses.size(); ++i) sum += run.losses[i];
  return sum / static_cast<double>(count);
}

bool write_json(const std::string& path, const std::vector<Run>& runs) {
  nlohmann::ordered_json out;
  out["schema"] = "spillway.codec_training/1";
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const Run& run : runs) {
    nlohmann::ordered_json row;
    row["codec"] = run.codec == Codec::kNone ? "exact" : std::string(name_of(run.codec));
    row["seed"] = run.seed;
    row["final_loss"] = final_loss(run);
    row["source_bytes"] = run.source_bytes;
    row["kept_bytes"] = run.kept_bytes;
    row["coded"] = run.coded;
    row["misfits"] = run.misfits;
    row["seconds"] = run.seconds;
    row["losses"] = run.losses;
    rows.push_back(std::move(row));
  }
  out["runs"] = std::move(rows);
  std::ofstream file(path, std::ios::binary);
  file << out.dump() << '\n';
  return static_cast<bool>(file.flush());
}

std::optional<Options> parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word(argv[i]);
    if (word == "--smoke") {
      options.steps = 4;
      options.seeds = 1;
      continue;
    }
    if (i + 1 == argc) return std::nullopt;
    const std::string_view value(argv[++i]);
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    const bool is_number = error == std::errc() && end == value.data() + value.size() && number > 0;
    if (word == "--json") {
      options.output = value;
    } else if (word == "--steps" && is_number) {
      options.steps = number;
    } else if (word == "--seeds" && is_number) {
      options.seeds = number;
    } else {
      return std::nullopt;
    }
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  const std::optional<Options> options = parse(argc, argv);
  if (!options) {
    std::fprintf(stderr, "usage: codec_training [--smoke] [--steps N] [--seeds N] [--json FILE]\n");
    return 1;
  }
  std::vector<Run> runs;
  std::printf("%-11s %4s  %8s  %8s  %7s  %7s  %7s\n",
              "codec",
              "seed",
              "last 10%",
              "to exact",
              "bytes",
              "misfits",
              "seconds");
  for (std::uint64_t seed = 1; seed <= options->seeds; ++seed) {
    const std::size_t exact = runs.size();
    for (const Codec codec : kArms) {
      // Curves that must be exact training's need one seed.
      if (seed > 1 && codec != Codec::kNone && is_lossless(codec)) continue;
      runs.push_back(train(codec, seed, options->steps));
      const Run& run = runs.back();
      if (!holds(run, runs[exact])) return 1;
      std::printf("%-11s %4llu  %8.4f  %+8.4f  %6.1f%%  %7llu  %7.1f\n",
                  codec == Codec::kNone ? "exact" : std::string(name_of(codec)).c_str(),
                  static_cast<unsigned long long>(seed),
                  final_loss(run),
                  final_loss(run) - final_loss(runs[exact]),
                  100 * static_cast<double>(run.kept_bytes) / static_cast<double>(run.source_bytes),
                  static_cast<unsigned long long>(run.misfits),
                  run.seconds);
      std::fflush(stdout);
    }
  }
  std::printf("first losses equal exact training's to the bit; lossless codecs, all losses\n");
  if (!options->output.empty() && !write_json(options->output, runs)) {
    std::fprintf(stderr, "%s: cannot be written\n", options->output.c_str());
    return 1;
  }
  return 0;
}
