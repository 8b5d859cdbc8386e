// SPDX-License-Identifier: Apache-2.0
// Modules, kernels and launches, and the names of errors. Source: CUDA driver API, module
// management, execution control and error handling.
#include "tests/device/conformance/cases.hpp"
#include "tests/device/conformance/kernels.hpp"

#include <cstring>

namespace spillway::conformance {
namespace {

constexpr std::size_t kN = 1000;  // no multiple of a block

SPW_CONFORMANCE("launch", all_elements, "a kernel does all its elements, whatever its grid") {
  const Memory a = env.filled(kN + 1, 0);
  const Memory b = env.filled(kN + 1, 0);
  SPW_OK(env.launch_fill(nullptr, a, 5, kN));
  SPW_OK(env.launch_increment(nullptr, a, kN));
  SPW_OK(env.launch_copy(nullptr, b, a, kN));
  SPW_OK(env.d.cuStreamSynchronize(nullptr));
  env.check_words(b, kN, 6);
  env.check_words(b + kN * 4, 1, 0);
  std::uint64_t n = kN;
  cu::DevicePtr pointer = a;
  void* parameters[] = {&pointer, &n};
  SPW_OK(env.d.cuLaunchKernel(env.increment, 2, 1, 1, 32, 1, 1, 0, nullptr, parameters, nullptr));
  SPW_OK(env.d.cuStreamSynchronize(nullptr));
  env.check_words(a, kN, 7);
}

SPW_CONFORMANCE("launch", extended, "a launch by configuration is a launch") {
  const Memory a = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  cu::LaunchConfig config;
  config.grid_x = 4;
  config.block_x = 64;
  config.stream = s.handle();
  cu::DevicePtr pointer = a;
  std::uint64_t n = kN;
  void* parameters[] = {&pointer, &n};
  SPW_OK(env.d.cuLaunchKernelEx(&config, env.increment, parameters, nullptr));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  env.check_words(a, kN, 1);
}

SPW_CONFORMANCE("launch",
                arguments_are_copied,
                "arguments may change as soon as the launch returns") {
  const Memory a = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  cu::DevicePtr pointer = a;
  std::uint32_t value = 3;
  std::uint64_t n = kN;
  void* parameters[] = {&pointer, &value, &n};
  SPW_OK(env.launch_spin(s.handle()));
  SPW_OK(env.d.cuLaunchKernel(env.fill, 8, 1, 1, 128, 1, 1, 0, s.handle(), parameters, nullptr));
  pointer = 0;
  value = 0;
  n = 0;
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  env.check_words(a, kN, 3);
}

SPW_CONFORMANCE("launch",
                bad_shapes,
                "a launch without blocks or with too many threads is refused") {
  const Memory a = env.filled(kN, 9);
  cu::DevicePtr pointer = a;
  std::uint64_t n = kN;
  void* parameters[] = {&pointer, &n};
  const auto launch = [&](unsigned int grid, unsigned int block) {
    return env.d.cuLaunchKernel(
        env.increment, grid, 1, 1, block, 1, 1, 0, nullptr, parameters, nullptr);
  };
  SPW_EXPECT(kInvalidValue, launch(0, 128));
  SPW_EXPECT(kInvalidValue, launch(1, 0));
  SPW_EXPECT(kInvalidValue, launch(1, 100'000));
  SPW_OK(env.d.cuStreamSynchronize(nullptr));
  env.check_words(a, kN, 9);
}

SPW_CONFORMANCE("launch", no_function, "nothing is launched when there is no function") {
  // Both codes fit; which one is not documented.
  SPW_EXPECT_ONE_OF(env.d.cuLaunchKernel(nullptr, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr),
                    {Result::kInvalidHandle, Result::kInvalidValue});
  SPW_OK(env.d.cuCtxSynchronize());
}

SPW_CONFORMANCE("launch",
                modules,
                "a module is found by its functions' names, and garbage is none") {
  cu::Module module = nullptr;
  cu::Function function = nullptr;
  SPW_MUST(env.d.cuModuleLoadData(&module, kernels_ptx()));
  SPW_OK(env.d.cuModuleGetFunction(&function, module, kFillName));
  CHECK(function != nullptr);
  SPW_EXPECT(kNotFound, env.d.cuModuleGetFunction(&function, module, "no_such_kernel"));
  SPW_EXPECT(kInvalidValue, env.d.cuModuleGetFunction(nullptr, module, kFillName));
  SPW_OK(env.d.cuModuleUnload(module));
  SPW_EXPECT_ONE_OF(env.d.cuModuleLoadData(&module, "this is no program"),
                    {Result::kInvalidImage, Result::kInvalidPtx, Result::kNoBinaryForGpu});
  SPW_EXPECT(kInvalidValue, env.d.cuModuleLoadData(&module, nullptr));
}

SPW_CONFORMANCE("launch", libraries, "a kernel found in a library runs like one of a module") {
  const Memory a = env.filled(kN, 0);
  cu::Library library = nullptr;
  cu::Kernel kernel = nullptr;
  cu::Function function = nullptr;
  SPW_MUST(
      env.d.cuLibraryLoadData(&library, kernels_ptx(), nullptr, nullptr, 0, nullptr, nullptr, 0));
  SPW_OK(env.d.cuLibraryGetKernel(&kernel, library, kIncrementName));
  cu::Kernel missing = nullptr;
  SPW_EXPECT(kNotFound, env.d.cuLibraryGetKernel(&missing, library, "no_such_kernel"));
  SPW_OK(env.d.cuKernelGetFunction(&function, kernel));
  cu::DevicePtr pointer = a;
  std::uint64_t n = kN;
  void* parameters[] = {&pointer, &n};
  SPW_OK(env.d.cuLaunchKernel(function, 8, 1, 1, 128, 1, 1, 0, nullptr, parameters, nullptr));
  SPW_OK(env.d.cuStreamSynchronize(nullptr));
  env.check_words(a, kN, 1);
  SPW_OK(env.d.cuLibraryUnload(library));
}

SPW_CONFORMANCE("launch",
                function_attributes,
                "a function tells its registers, and some of it fits") {
  int registers = -1;
  SPW_OK(env.d.cuFuncGetAttribute(&registers, cu::FunctionAttribute::kNumRegs, env.fill));
  CHECK(registers >= 0);
  SPW_OK(
      env.d.cuFuncSetAttribute(env.fill, cu::FunctionAttribute::kMaxDynamicSharedSizeBytes, 1024));
  int blocks = 0;
  SPW_OK(env.d.cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, env.fill, 128, 0));
  CHECK(blocks >= 1);
}

// --- Errors --------------------------------------------------------------------------------------

SPW_CONFORMANCE("errors", names, "an error has its name and a text") {
  const char* text = nullptr;
  SPW_OK(env.d.cuGetErrorName(Result::kOutOfMemory, &text));
  REQUIRE(text != nullptr);
  CHECK(std::strcmp(text, "CUDA_ERROR_OUT_OF_MEMORY") == 0);
  SPW_OK(env.d.cuGetErrorName(Result::kSuccess, &text));
  REQUIRE(text != nullptr);
  CHECK(std::strcmp(text, "CUDA_SUCCESS") == 0);
  SPW_OK(env.d.cuGetErrorString(Result::kIllegalAddress, &text));
  REQUIRE(text != nullptr);
  CHECK(std::strlen(text) > 0);
}

SPW_CONFORMANCE("errors", every_code_has_its_name, "the names are those of our own list"){
#define SPW_CHECK_NAME(constant, number, name)                        \
  {                                                                   \
    const char* text = nullptr;                                       \
    const Result got = env.d.cuGetErrorName(Result::constant, &text); \
    INFO(#name);                                                      \
    CHECK(got == Result::kSuccess);                                   \
    if (text != nullptr) CHECK(std::strcmp(text, #name) == 0);        \
  }
    SPW_CU_RESULTS(SPW_CHECK_NAME)
#undef SPW_CHECK_NAME
}

SPW_CONFORMANCE("errors", unknown_code, "a number that is no error has no name") {
  const char* text = "before";
  SPW_EXPECT(kInvalidValue, env.d.cuGetErrorName(static_cast<Result>(12345), &text));
  CHECK(text == nullptr);
  text = "before";
  SPW_EXPECT(kInvalidValue, env.d.cuGetErrorString(static_cast<Result>(12345), &text));
  CHECK(text == nullptr);
}

SPW_CONFORMANCE("errors",
                failures_do_not_stick,
                "refused calls leave the context as it was, and pending work runs on") {
  const Memory a = env.filled(kN, 0);
  const Stream s = env.non_blocking_stream();
  cu::DevicePtr p = 0;
  SPW_OK(env.launch_spin(s.handle()));
  SPW_OK(env.launch_fill(s.handle(), a, 1, kN));
  SPW_EXPECT(kOutOfMemory, env.d.cuMemAlloc(&p, std::size_t{1} << 50));
  SPW_EXPECT(kInvalidValue, env.d.cuMemAlloc(&p, 0));
  SPW_EXPECT(kInvalidValue, env.d.cuMemFree(0x10));
  SPW_OK(env.launch_increment(s.handle(), a, kN));
  SPW_OK(env.d.cuStreamSynchronize(s.handle()));
  env.check_words(a, kN, 2);
}

// --- Look-up of entry points ---------------------------------------------------------------------

SPW_CONFORMANCE("look-up", found, "an entry point is found by its plain name, and works") {
  void* address = nullptr;
  auto status = cu::ProcAddressStatus::kSymbolNotFound;
  SPW_OK(env.d.cuGetProcAddress(
      "cuDriverGetVersion", &address, 2020, cu::kProcAddressDefault, &status));
  CHECK(status == cu::ProcAddressStatus::kSuccess);
  REQUIRE(address != nullptr);
  Result (*get_version)(int*) = nullptr;
  std::memcpy(&get_version, &address, sizeof address);
  int direct = 0;
  int found = 0;
  SPW_OK(env.d.cuDriverGetVersion(&direct));
  SPW_OK(get_version(&found));
  CHECK(found == direct);
}

SPW_CONFORMANCE("look-up",
                whole_table,
                "every entry point of the table is found, in both flavours of the default stream") {
  int version = 0;
  SPW_OK(env.d.cuDriverGetVersion(&version));
  const auto look = [&](const char* symbol) {
    std::string name = symbol;
    const std::size_t at = name.rfind("_v");
    if (at != std::string::npos && at + 3 == name.size()) name.resize(at);
    INFO(name);
    for (const auto flags : {cu::kProcAddressLegacyStream, cu::kProcAddressPerThreadStream}) {
      void* address = nullptr;
      auto status = cu::ProcAddressStatus::kSymbolNotFound;
      const Result got = env.d.cuGetProcAddress(name.c_str(), &address, version, flags, &status);
      CHECK(got == Result::kSuccess);
      CHECK(address != nullptr);
      CHECK(status == cu::ProcAddressStatus::kSuccess);
    }
  };
#define SPW_LOOK(member, symbol, since, parameters) look(#symbol);
  SPW_DRIVER_FUNCTIONS(SPW_LOOK)
#undef SPW_LOOK
}

SPW_CONFORMANCE("look-up", unknown, "an unknown name gives null and says why") {
  int anything = 0;
  void* address = &anything;
  auto status = cu::ProcAddressStatus::kSuccess;
  // CUDA_ERROR_NOT_FOUND is what drivers before 12.0 said.
  SPW_EXPECT_ONE_OF(
      env.d.cuGetProcAddress("cuNoSuchFunction", &address, 12000, cu::kProcAddressDefault, &status),
      {Result::kSuccess, Result::kNotFound});
  CHECK(address == nullptr);
  CHECK(status == cu::ProcAddressStatus::kSymbolNotFound);
}

SPW_CONFORMANCE("look-up", too_early, "a version from before an entry point existed gives null") {
  int anything = 0;
  void* address = &anything;
  auto status = cu::ProcAddressStatus::kSuccess;
  SPW_EXPECT_ONE_OF(
      env.d.cuGetProcAddress("cuMemMap", &address, 9000, cu::kProcAddressDefault, &status),
      {Result::kSuccess, Result::kNotFound});
  CHECK(address == nullptr);
  CHECK(status == cu::ProcAddressStatus::kVersionNotSufficient);
}

SPW_CONFORMANCE("look-up", bad_arguments, "a look-up of nothing or to nowhere is refused") {
  void* address = nullptr;
  SPW_EXPECT(kInvalidValue,
             env.d.cuGetProcAddress(nullptr, &address, 12000, cu::kProcAddressDefault, nullptr));
  SPW_EXPECT(kInvalidValue,
             env.d.cuGetProcAddress("cuInit", nullptr, 12000, cu::kProcAddressDefault, nullptr));
  // The CUDA runtime asks for the empty name first; it must get an answer, of whatever kind.
  const Result empty = env.d.cuGetProcAddress("", &address, 0, cu::kProcAddressDefault, nullptr);
  SPW_EXPECT_ONE_OF(empty, {Result::kSuccess, Result::kInvalidValue, Result::kNotFound});
  SPW_OK(env.d.cuGetProcAddress("cuInit", &address, 12000, cu::kProcAddressDefault, nullptr));
  CHECK(address != nullptr);
}

}  // namespace
}  // namespace spillway::conformance
