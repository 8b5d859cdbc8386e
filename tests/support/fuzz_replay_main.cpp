// SPDX-License-Identifier: Apache-2.0
// Runs a fuzz target over the files named on the command line (folders are walked), so that seeds
// and past findings are checked in every build, with any compiler. Also tries each file cut short
// at 16 places.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

bool replay(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    std::fprintf(stderr, "%s: cannot be read\n", path.c_str());
    return false;
  }
  const std::vector<char> text{std::istreambuf_iterator<char>(in),
                               std::istreambuf_iterator<char>()};
  constexpr std::size_t kCuts = 16;
  for (std::size_t cut = 0; cut <= kCuts; ++cut) {
    // A copy of exactly the cut's size, so that a sanitizer sees a read past its end.
    const std::size_t size = text.size() * cut / kCuts;
    std::vector<std::uint8_t> bytes(size);
    std::transform(
        text.begin(), text.begin() + static_cast<std::ptrdiff_t>(size), bytes.begin(), [](char c) {
          return static_cast<std::uint8_t>(c);
        });
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::filesystem::path> paths;
  for (int i = 1; i < argc; ++i) {
    const std::filesystem::path given(argv[i]);
    if (std::filesystem::is_directory(given)) {
      for (const auto& entry : std::filesystem::recursive_directory_iterator(given)) {
        if (entry.is_regular_file()) paths.push_back(entry.path());
      }
    } else {
      paths.push_back(given);
    }
  }
  if (paths.empty()) {
    std::fprintf(stderr, "no input file: a fuzz target without a seed corpus proves nothing\n");
    return 1;
  }
  std::sort(paths.begin(), paths.end());
  bool all_read = true;
  for (const auto& path : paths) {
    std::printf("%s\n", path.c_str());
    std::fflush(stdout);
    all_read = replay(path) && all_read;
  }
  std::printf("%zu files replayed\n", paths.size());
  return all_read ? 0 : 1;
}
