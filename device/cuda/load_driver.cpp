// SPDX-License-Identifier: Apache-2.0
// Entry points are asked for through cuGetProcAddress by the name and the version of the table, as
// the CUDA runtime does, so that a driver of any age gives the ABI that the table declares.
#include "device/cuda/load_driver.hpp"

#include <algorithm>
#include <cstring>
#include <dlfcn.h>
#include <string_view>

namespace spillway {
namespace {

struct Entry {
  const char* symbol;  // as exported, with its ABI suffix
  int version;
  bool takes_stream;
};

constexpr Entry kEntries[] = {
#define SPW_PLAIN_ENTRY(member, symbol, version, parameters) {#symbol, version, false},
#define SPW_STREAM_ENTRY(member, symbol, version, parameters) {#symbol, version, true},
    SPW_DRIVER_PLAIN(SPW_PLAIN_ENTRY) SPW_DRIVER_STREAM(SPW_STREAM_ENTRY)
#undef SPW_PLAIN_ENTRY
#undef SPW_STREAM_ENTRY
};
constexpr std::size_t kEntryCount = std::size(kEntries);

// Per-thread default streams came with this CUDA version, so no older one of their entry points
// exists.
constexpr int kFirstPerThreadVersion = 7000;

/// cuGetProcAddress knows entry points without their ABI suffix: the version chooses it.
/// (cuGraphInstantiateWithFlags keeps its long name: version 11000 of "cuGraphInstantiate" has
/// other parameters.)
std::string lookup_name(std::string_view symbol) {
  const std::size_t at = symbol.rfind("_v");
  const bool suffixed = at != std::string_view::npos && at + 2 < symbol.size() &&
                        std::all_of(symbol.begin() + static_cast<std::ptrdiff_t>(at) + 2,
                                    symbol.end(),
                                    [](char c) { return c >= '0' && c <= '9'; });
  return std::string(suffixed ? symbol.substr(0, at) : symbol);
}

template <typename Function>
Function as_function(void* address) {
  static_assert(sizeof(Function) == sizeof address);
  Function function = nullptr;
  std::memcpy(&function, &address, sizeof function);
  return function;
}

/// Both shapes of cuGetProcAddress: with a status since 12.0, without before.
struct Resolver {
  using WithStatus =
      cu::Result (*)(const char*, void**, int, unsigned long long, cu::ProcAddressStatus*);
  using Plain = cu::Result (*)(const char*, void**, int, unsigned long long);
  WithStatus with_status = nullptr;
  Plain plain = nullptr;

  cu::Result operator()(const char* name,
                        void** address,
                        int version,
                        unsigned long long flags,
                        cu::ProcAddressStatus* status) const {
    if (with_status != nullptr) return with_status(name, address, version, flags, status);
    return plain(name, address, version, flags);
  }
};

Result<void*> open_library(const std::string& name) {
  // NODELETE: streams, events and exit handlers of others may outlive every owner of ours.
  void* library = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library != nullptr) return library;
  const char* error = ::dlerror();  // NOLINT(concurrency-mt-unsafe): glibc keeps it per thread
  const std::string text = error == nullptr ? name + ": dlopen failed" : error;
  if (text.find("No such file or directory") != std::string::npos)
    return Status(Code::kNotFound, "no CUDA driver: " + text);
  return Status(Code::kUnsupported, "cannot load the CUDA driver: " + text);
}

Result<int> driver_version(void* library, const std::string& name) {
  void* address = ::dlsym(library, "cuDriverGetVersion");
  if (address == nullptr)
    return Status(Code::kUnsupported,
                  name + ": expected a CUDA driver, found a library without cuDriverGetVersion");
  int version = 0;
  const auto result = as_function<cu::Result (*)(int*)>(address)(&version);
  if (result == cu::Result::kStubLibrary)
    return Status(Code::kUnsupported,
                  name +
                      ": expected a CUDA driver, found the toolkit's stub library (error 34): "
                      "remove lib64/stubs from the library path");
  if (result != cu::Result::kSuccess)
    return Status(Code::kUnsupported,
                  name + ": cuDriverGetVersion failed with error " +
                      std::to_string(static_cast<int>(result)));
  if (version < kLeastDriverVersion)
    return Status(Code::kUnsupported,
                  name + ": expected a driver for CUDA " +
                      driver_version_text(kLeastDriverVersion) + " or newer, found CUDA " +
                      driver_version_text(version));
  return version;
}

Result<Resolver> find_resolver(void* library, const std::string& name) {
  Resolver resolver;
  if (void* address = ::dlsym(library, "cuGetProcAddress_v2"))
    resolver.with_status = as_function<Resolver::WithStatus>(address);
  else if (void* old = ::dlsym(library, "cuGetProcAddress"))
    resolver.plain = as_function<Resolver::Plain>(old);
  else
    return Status(Code::kUnsupported, name + ": the driver has no cuGetProcAddress");
  return resolver;
}

const char* reason(cu::Result result, cu::ProcAddressStatus status) {
  if (status == cu::ProcAddressStatus::kVersionNotSufficient) return "not in this version";
  if (status == cu::ProcAddressStatus::kSymbolNotFound || result == cu::Result::kNotFound)
    return "unknown to it";
  return "refused";
}

}  // namespace

std::string driver_version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

Result<Driver> load_cuda_driver(const LoadOptions& options) {
  const std::string& name = options.library;
  SPW_ASSIGN_OR_RETURN(void* const library, open_library(name));
  SPW_ASSIGN_OR_RETURN(const int version, driver_version(library, name));
  SPW_ASSIGN_OR_RETURN(const Resolver resolve, find_resolver(library, name));

  const bool per_thread = options.default_stream == DefaultStream::kPerThread;
  const unsigned long long flags =
      per_thread ? cu::kProcAddressPerThreadStream : cu::kProcAddressLegacyStream;
  void* addresses[kEntryCount] = {};
  std::size_t missing = 0;
  std::string first_missing;
  for (std::size_t i = 0; i < kEntryCount; ++i) {
    const Entry& entry = kEntries[i];
    const int asked = per_thread && entry.takes_stream
                          ? std::max(entry.version, kFirstPerThreadVersion)
                          : entry.version;
    const std::string lookup = lookup_name(entry.symbol);
    auto status = cu::ProcAddressStatus::kSuccess;
    const cu::Result result = resolve(lookup.c_str(), &addresses[i], asked, flags, &status);
    if (result == cu::Result::kSuccess && addresses[i] != nullptr) continue;
    if (missing++ == 0)
      first_missing = std::string(entry.symbol) + " (" + reason(result, status) + ")";
  }
  if (missing > 0)
    return Status(Code::kUnsupported,
                  name + ": the driver for CUDA " + driver_version_text(version) + " lacks " +
                      first_missing +
                      (missing > 1 ? " and " + std::to_string(missing - 1) + " more" : ""));

  Driver driver;
  std::size_t next = 0;
#define SPW_FILL_MEMBER(member, symbol, version, parameters) \
  driver.member = as_function<decltype(driver.member)>(addresses[next++]);
  SPW_DRIVER_FUNCTIONS(SPW_FILL_MEMBER)
#undef SPW_FILL_MEMBER
  return driver;
}

}  // namespace spillway
