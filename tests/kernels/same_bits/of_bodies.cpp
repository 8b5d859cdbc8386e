// SPDX-License-Identifier: Apache-2.0
// The bodies, as the compiler and flags of this program make them: prints a line for each codec,
// dtype and input, or compares the lines with a file. Compiled many times by CMakeLists.txt.
#define SPW_BODY body_same_bits
#include "kernels/host/compiled_bodies.hpp"
#include "tests/kernels/same_bits/cases.hpp"

namespace {

using namespace spillway;

same_bits::Buffers buffers;

const HostKernel& kernel_of(Codec codec, Dtype dtype) {
  const HostKernel* found = nullptr;
  for (const HostKernel& kernel : SPW_BODY::kCompiled)
    if (kernel.codec == codec && kernel.dtype == dtype) found = &kernel;
  return *found;
}

CodecTensor tensor_of(std::uint64_t values, unsigned char* plain, unsigned char* payload) {
  CodecTensor tensor;
  tensor.plain = plain;
  tensor.payload = payload;
  tensor.values = values;
  tensor.tensor_key = same_bits::kTensorKey;
  tensor.step = same_bits::kStep;
  tensor.sparse_capacity = kDefaultSparseCapacity;
  return tensor;
}

std::uint64_t encode(Codec codec, Dtype dtype, std::uint64_t values, same_bits::Buffers* b) {
  return kernel_of(codec, dtype)
      .encode(tensor_of(values, b->source, b->payload), 0, SPW_BODY::tiles_of(values), false)
      .misfits;
}

std::uint64_t decode(Codec codec, Dtype dtype, std::uint64_t values, same_bits::Buffers* b) {
  const CodecOutcome outcome =
      kernel_of(codec, dtype)
          .decode(tensor_of(values, b->back, b->payload), 0, SPW_BODY::tiles_of(values), false);
  return outcome.misfits != 0 ? 1 : 0;
}

__attribute__((noinline)) int run(int argc, char** argv) {
  std::string lines;
  for (const HostKernel& kernel : SPW_BODY::kCompiled)
    same_bits::run_codec(kernel.codec,
                         kernel.dtype,
                         same_bits::name_of_pair(kernel.codec, kernel.dtype).c_str(),
                         &buffers,
                         encode,
                         decode,
                         &lines);
  same_bits::run_fingerprint(&buffers, SPW_BODY::sum_words, &lines);
  if (argc == 2) return same_bits::agrees_with(lines, argv[1]) ? 0 : 1;
  std::fputs(lines.c_str(), stdout);
  return 0;
}

}  // namespace

// SPW_LEVEL: of x86-64, what the program was compiled for.
int main(int argc, char** argv) {
#if defined(__x86_64__)
  const bool has_avx2 = __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("bmi2") != 0;
  const bool has_avx512 = __builtin_cpu_supports("avx512bw") != 0 &&
                          __builtin_cpu_supports("avx512dq") != 0 &&
                          __builtin_cpu_supports("avx512vl") != 0;
  if ((SPW_LEVEL >= 3 && !has_avx2) || (SPW_LEVEL >= 4 && !has_avx512)) {
    std::puts("needs a processor of another level");
    return 77;
  }
#endif
  return run(argc, argv);
}
