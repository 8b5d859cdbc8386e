// SPDX-License-Identifier: Apache-2.0
// What an interposer is at its smallest: for LD_PRELOAD, sees cuMemAlloc by its symbol and by
// cuGetProcAddress, and writes the sizes that it saw to the file $SPW_SHIM_LOG.
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>

namespace {

using Allocate = int (*)(unsigned long long*, std::size_t);
using LookUp = int (*)(const char*, void**, int, unsigned long long, int*);

Allocate looked_up = nullptr;

void log(const char* way, std::size_t bytes) {
  std::FILE* file = std::fopen(std::getenv("SPW_SHIM_LOG"), "a");
  if (file == nullptr) return;
  std::fprintf(file, "%s %zu\n", way, bytes);
  std::fclose(file);
}

int allocate_looked_up(unsigned long long* pointer, std::size_t bytes) {
  log("looked-up", bytes);
  return looked_up(pointer, bytes);
}

}  // namespace

// NOLINTBEGIN(readability-identifier-naming): the driver's names
extern "C" int cuMemAlloc_v2(unsigned long long* pointer, std::size_t bytes) {
  static const auto kReal = reinterpret_cast<Allocate>(dlsym(RTLD_NEXT, "cuMemAlloc_v2"));
  log("symbol", bytes);
  return kReal(pointer, bytes);
}

extern "C" int cuGetProcAddress_v2(
    const char* symbol, void** address, int version, unsigned long long flags, int* status) {
  static const auto kReal = reinterpret_cast<LookUp>(dlsym(RTLD_NEXT, "cuGetProcAddress_v2"));
  const int result = kReal(symbol, address, version, flags, status);
  if (result == 0 && *address != nullptr && std::strcmp(symbol, "cuMemAlloc") == 0) {
    looked_up = reinterpret_cast<Allocate>(*address);
    *address = reinterpret_cast<void*>(&allocate_looked_up);
  }
  return result;
}
// NOLINTEND(readability-identifier-naming)
