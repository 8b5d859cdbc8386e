// SPDX-License-Identifier: Apache-2.0
#include "device/measure/gauge.hpp"

#include "device/driver_error.hpp"

#include <algorithm>
#include <cstring>
#include <sys/mman.h>

namespace spillway::measure {

Result<DeviceMemory> DeviceMemory::create(const Driver& driver, std::uint64_t bytes) {
  cu::DevicePtr pointer = 0;
  SPW_CU_TRY(driver.cuMemAlloc(&pointer, bytes));
  return DeviceMemory(OwnedHandle<End>(driver, pointer));
}

Result<HostPages> HostPages::create(std::uint64_t bytes, bool huge) {
  void* const data =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED)
    return Status(Code::kOutOfMemory, "measure: no " + std::to_string(bytes) + " bytes of pages");
  if (huge) ::madvise(data, bytes, MADV_HUGEPAGE);  // a wish: without huge pages it is the same
  std::memset(data, 1, bytes);
  return HostPages(data, bytes);
}

HostPages::~HostPages() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

Result<Gauge> Gauge::create(const Driver& driver,
                            const Clock& clock,
                            const DeviceCapabilities& device) {
  SPW_ASSIGN_OR_RETURN(MeasureKernels kernels, MeasureKernels::load(driver));
  std::vector<Stream> streams;
  for (int i = 0; i < kStreamCount; ++i) {
    SPW_ASSIGN_OR_RETURN(Stream stream, Stream::create(driver));
    streams.push_back(std::move(stream));
  }
  std::vector<Event> marks;
  for (int i = 0; i < 4; ++i) {
    SPW_ASSIGN_OR_RETURN(Event mark, Event::create(driver, cu::kEventDefault));
    marks.push_back(std::move(mark));
  }
  SPW_ASSIGN_OR_RETURN(Event gate, Event::create(driver));
  return Gauge(driver,
               clock,
               device,
               std::move(kernels),
               std::move(streams),
               std::move(marks),
               std::move(gate));
}

Status Gauge::hold(std::int64_t ns) {
  SPW_RETURN_IF_ERROR(settle());
  LaunchShape one;
  SPW_RETURN_IF_ERROR(kernels_.wait.launch(stream(0), one, static_cast<std::uint64_t>(ns)));
  SPW_RETURN_IF_ERROR(gate_.record(stream(0)));
  for (int i = 1; i < kStreamCount; ++i) SPW_RETURN_IF_ERROR(gate_.make_wait(stream(i)));
  return {};
}

Status Gauge::mark(int index, StreamRef stream) {
  return marks_[static_cast<std::size_t>(index)].record(stream);
}

Result<double> Gauge::between_ns(int first, int second) {
  const Event& from = marks_[static_cast<std::size_t>(first)];
  const Event& to = marks_[static_cast<std::size_t>(second)];
  SPW_RETURN_IF_ERROR(from.synchronize());
  SPW_RETURN_IF_ERROR(to.synchronize());
  float ms = 0;
  SPW_CU_TRY(driver_->cuEventElapsedTime(&ms, from.handle(), to.handle()));
  return static_cast<double>(ms) * 1e6;
}

Status Gauge::settle() {
  SPW_CU_TRY(driver_->cuCtxSynchronize());
  return {};
}

Result<double> Gauge::device_ns(std::int64_t hold_ns, const Work& work) {
  SPW_RETURN_IF_ERROR(hold(hold_ns));
  SPW_RETURN_IF_ERROR(mark(0, stream(0)));
  SPW_RETURN_IF_ERROR(work());
  SPW_RETURN_IF_ERROR(mark(1, stream(0)));
  return between_ns(0, 1);
}

Result<double> Gauge::host_ns(int samples, const Work& work, const Work& after) {
  std::vector<double> times;
  for (int i = 0; i < samples; ++i) {
    const std::int64_t start = clock_->now_ns();
    SPW_RETURN_IF_ERROR(work());
    times.push_back(static_cast<double>(clock_->now_ns() - start));
    if (after) SPW_RETURN_IF_ERROR(after());
  }
  return median(std::move(times));
}

}  // namespace spillway::measure
