// SPDX-License-Identifier: Apache-2.0
// Small stand-ins for libcuda.so.1 that the loader's tests load: each definition below makes one
// that a machine may really have. Every entry point they hand out is one function that answers
// "not supported"; which look-ups were made can be read back.
#include <cstring>

namespace {

struct Request {
  char name[64];
  int version;
  unsigned long long flags;
};

Request requests[512];
int request_count = 0;

[[maybe_unused]] int unsupported() { return 801; }

[[maybe_unused]] int look_up(const char* name,
                             void** address,
                             int version,
                             unsigned long long flags) {
  if (request_count < 512) {
    Request& request = requests[request_count++];
    std::strncpy(request.name, name, sizeof request.name - 1);
    request.version = version;
    request.flags = flags;
  }
#ifdef FAKE_MISSING
  if (std::strcmp(name, FAKE_MISSING) == 0) {
    *address = nullptr;
    return FAKE_MISSING_RESULT;
  }
#endif
  const auto function = &unsupported;
  std::memcpy(address, &function, sizeof function);
  return 0;
}

}  // namespace

// NOLINTBEGIN(readability-identifier-naming): the driver's names
extern "C" {

int fake_request_count() { return request_count; }
const char* fake_request(int index, int* version, unsigned long long* flags) {
  *version = requests[index].version;
  *flags = requests[index].flags;
  return requests[index].name;
}

#ifndef FAKE_NO_VERSION
int cuDriverGetVersion(int* version) {
#ifdef FAKE_VERSION_RESULT
  *version = 0;
  return FAKE_VERSION_RESULT;
#else
  *version = FAKE_VERSION;
  return 0;
#endif
}
#endif

#if defined(FAKE_OLD_RESOLVER)
int cuGetProcAddress(const char* name, void** address, int version, unsigned long long flags) {
  return look_up(name, address, version, flags);
}
#elif !defined(FAKE_NO_RESOLVER)
int cuGetProcAddress_v2(
    const char* name, void** address, int version, unsigned long long flags, int* status) {
  const int result = look_up(name, address, version, flags);
  *status = *address != nullptr ? 0 : FAKE_MISSING_STATUS;
  return result;
}
#endif
}
// NOLINTEND(readability-identifier-naming)
