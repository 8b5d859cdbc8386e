// SPDX-License-Identifier: Apache-2.0
// A program in C against the driver API, once linked to libcuda.so.1 and once (USE_DLOPEN) with
// what dlsym finds: bytes to the device and back. Needs no toolkit.
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

typedef unsigned long long device_pointer;
#define FUNCTIONS(X)                                        \
  X(cuInit, (unsigned int))                                 \
  X(cuDevicePrimaryCtxRetain, (void**, int))                \
  X(cuCtxSetCurrent, (void*))                               \
  X(cuMemAlloc_v2, (device_pointer*, size_t))               \
  X(cuMemFree_v2, (device_pointer))                         \
  X(cuMemcpyHtoD_v2, (device_pointer, const void*, size_t)) \
  X(cuMemcpyDtoH_v2, (void*, device_pointer, size_t))

#ifdef USE_DLOPEN
#define DECLARE(name, parameters) static int(*name) parameters;
#else
#define DECLARE(name, parameters) int name parameters;
#endif
FUNCTIONS(DECLARE)

#define MUST(call)                                    \
  do {                                                \
    const int result = (call);                        \
    if (result != 0) {                                \
      fprintf(stderr, "%s gave %d\n", #call, result); \
      return 1;                                       \
    }                                                 \
  } while (0)

#ifdef USE_DLOPEN
static void* library;

static int open_driver(void) {
  library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) return 1;
#define FIND(name, parameters)            \
  *(void**)&name = dlsym(library, #name); \
  if (name == NULL) return 1;
  FUNCTIONS(FIND)
  return 0;
}
#endif

int main(void) {
  char sent[1000];
  char got[1000];
  device_pointer memory = 0;
  void* context = NULL;
#ifdef USE_DLOPEN
  MUST(open_driver());
#endif
  memset(sent, 7, sizeof sent);
  memset(got, 0, sizeof got);
  MUST(cuInit(0));
  MUST(cuDevicePrimaryCtxRetain(&context, 0));
  MUST(cuCtxSetCurrent(context));
  MUST(cuMemAlloc_v2(&memory, sizeof sent));
  MUST(cuMemcpyHtoD_v2(memory, sent, sizeof sent));
  MUST(cuMemcpyDtoH_v2(got, memory, sizeof got));
  if (memcmp(sent, got, sizeof sent) != 0) {
    fprintf(stderr, "other bytes came back\n");
    return 1;
  }
#ifdef USE_DLOPEN
  // The machine goes on where it was when the library is closed and opened again.
  MUST(dlclose(library));
  MUST(open_driver());
#endif
  MUST(cuMemFree_v2(memory));
  return 0;
}
