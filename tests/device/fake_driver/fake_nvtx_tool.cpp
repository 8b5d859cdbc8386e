// SPDX-License-Identifier: Apache-2.0
// A tool that NVTX loads when $NVTX_INJECTION64_PATH names it: writes each call of the memory
// extension as a line to the file $SPW_FAKE_NVTX_LOG. The structs are those of nvToolsExtMem.h,
// compatibility id 0x0102, spelled here because only device/cuda may include NVTX headers.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace {

struct Range {
  std::size_t bytes;
  const void* pointer;
};
struct Heap {
  std::uint16_t compat_id, struct_bytes;
  std::uint32_t reserved;
  std::uint32_t usage, type;
  std::size_t description_bytes;
  const Range* description;
  std::uint32_t category, message_type;
  const char* message;
};
struct Register {
  std::uint16_t compat_id, struct_bytes;
  std::uint32_t type;
  void* heap;
  std::size_t count, element_bytes;
  const Range* elements;
  void* handles_out;
};
struct Unregister {
  std::uint16_t compat_id, struct_bytes;
  std::uint32_t reference_type;
  std::size_t count, element_bytes;
  const void* const* elements;
};
struct Segment {
  std::size_t id, slot_count;
  std::intptr_t* slots;
};
struct Module {
  std::uint16_t nvtx_version, struct_bytes, module_id, compat_id;
  std::size_t segment_count;
  Segment* segments;
};

template <typename... Values>
void log(const char* format, Values... values) {
  std::FILE* file = std::fopen(std::getenv("SPW_FAKE_NVTX_LOG"), "a");
  if (file == nullptr) return;
  std::fprintf(file, format, values...);
  std::fclose(file);
}

void* heap_register(void* /*domain*/, const Heap* heap) {
  log("heap usage %u type %u %p %zu %s\n",
      heap->usage,
      heap->type,
      heap->description->pointer,
      heap->description->bytes,
      heap->message);
  return const_cast<void*>(heap->description->pointer);
}
void heap_unregister(void* /*domain*/, void* heap) { log("heap end %p\n", heap); }
void regions_register(void* /*domain*/, const Register* batch) {
  log("region of %p: %p %zu\n", batch->heap, batch->elements->pointer, batch->elements->bytes);
}
void regions_unregister(void* /*domain*/, const Unregister* batch) {
  log("region end by %u %p\n", batch->reference_type, batch->elements[0]);
}

}  // namespace

// NOLINTBEGIN(readability-identifier-naming): NVTX's names
extern "C" {

// The core of NVTX: a tool that takes none of its calls.
int InitializeInjectionNvtx2(void* /*get_export_table*/) { return 1; }

int InitializeInjectionNvtxExtension(Module* module) {
  if (module->module_id != 1 || module->compat_id != 0x0102) return 0;
  std::intptr_t* const slots = module->segments[0].slots;
  slots[0] = reinterpret_cast<std::intptr_t>(&heap_register);
  slots[1] = reinterpret_cast<std::intptr_t>(&heap_unregister);
  slots[3] = reinterpret_cast<std::intptr_t>(&regions_register);
  slots[5] = reinterpret_cast<std::intptr_t>(&regions_unregister);
  return 1;
}
}
// NOLINTEND(readability-identifier-naming)
