// SPDX-License-Identifier: Apache-2.0
// A program of the runtime API built for per-thread default streams: it links the flavoured names.
#define CUDA_API_PER_THREAD_DEFAULT_STREAM 1
#include "tests/emulated/programs/must.hpp"

#include <cuda_runtime_api.h>

#include <cstring>
#include <thread>

namespace {

unsigned long long id_of_default_stream() {
  unsigned long long id = 0;
  GIVES(cudaSuccess, cudaStreamGetId(nullptr, &id));
  return id;
}

}  // namespace

int main() {
  const unsigned long long mine = id_of_default_stream();
  unsigned long long other = 0;
  std::thread([&other] { other = id_of_default_stream(); }).join();
  MUST(mine != other);
  char sent[512];
  char got[512] = {};
  std::memset(sent, 5, sizeof sent);
  void* memory = nullptr;
  GIVES(cudaSuccess, cudaMalloc(&memory, sizeof sent));
  GIVES(cudaSuccess, cudaMemset(memory, 1, sizeof sent));
  GIVES(cudaSuccess, cudaMemcpyAsync(memory, sent, sizeof sent, cudaMemcpyHostToDevice, nullptr));
  GIVES(cudaSuccess, cudaMemcpy(got, memory, sizeof got, cudaMemcpyDeviceToHost));
  MUST(std::memcmp(sent, got, sizeof sent) == 0);
  GIVES(cudaSuccess, cudaFree(memory));
  return 0;
}
