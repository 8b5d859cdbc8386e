// SPDX-License-Identifier: Apache-2.0
// Loads the kernels, checks what comes in, fills tables and launches them.
#include "kernels/codec_kernels.hpp"

#include "device/driver_error.hpp"
#include "kernels/body/layout.hpp"
#include "kernels/kernel_images.hpp"
#include "kernels/kernel_names.hpp"
#include "kernels/sim_kernels.hpp"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

namespace spillway {
namespace {

// Loads on every GPU of compute 8.0 and on the simulated one, which knows kernels by name: what a
// build without a CUDA compiler has instead of images.
constexpr const char* kNoCode = ".version 7.0\n.target sm_80\n.address_size 64\n";
// So that adding a stride to a tile's number cannot overflow.
constexpr std::uint64_t kMaxTiles = std::uint64_t{1} << 31;

Status invalid(const std::string& what) { return {Code::kInvalidArgument, "codec: " + what}; }
Status unsupported(const std::string& what) {
  return {Code::kUnsupported, "codec kernels: " + what};
}

Status check_pointer(cu::DevicePtr pointer, const char* what) {
  if (pointer == 0) return invalid(std::string(what) + " is null");
  if (pointer % 16 != 0) return invalid(std::string(what) + " is not 16-byte aligned");
  return {};
}

bool overlap(cu::DevicePtr a, std::uint64_t a_bytes, cu::DevicePtr b, std::uint64_t b_bytes) {
  return a < b + b_bytes && b < a + a_bytes;
}

Status check_pair(cu::DevicePtr a, std::uint64_t a_bytes, cu::DevicePtr b, std::uint64_t b_bytes) {
  SPW_RETURN_IF_ERROR(check_pointer(a, "a source or destination"));
  SPW_RETURN_IF_ERROR(check_pointer(b, "a payload or copy"));
  if (a + a_bytes < a || b + b_bytes < b) return invalid("a range wraps around");
  if (overlap(a, a_bytes, b, b_bytes)) return invalid("source and destination overlap");
  return {};
}

Status check_format(const CodecFormat& format) {
  if (!codec_supports(format.codec, format.dtype))
    return invalid(std::string(name_of(format.codec)) + " does not take " +
                   std::string(name_of(format.dtype)));
  if (format.codec == Codec::kSparse && (format.sparse_capacity < 1 || format.sparse_capacity > 16))
    return invalid("the capacity of sparse is 1 to 16 sixteenths");
  return {};
}

Status check_tensor(const CodecFormat& format, const DeviceCodecTensor& tensor) {
  if (tensor.values == 0) return invalid("there are no values");
  if (tensor.values / body::kTileValues >= kMaxTiles) return invalid("too many values");
  const std::uint64_t payload_bytes = format.payload_bytes_for(tensor.values);
  if (tensor.payload_bytes != payload_bytes)
    return invalid("the payload has " + std::to_string(tensor.payload_bytes) + " bytes, expected " +
                   std::to_string(payload_bytes));
  return check_pair(
      tensor.plain, tensor.values * dtype_bytes(format.dtype), tensor.payload, payload_bytes);
}

Status check_options(const DeviceCodecOptions& options) {
  if (options.fingerprints % 8 != 0) return invalid("fingerprints are not 8-byte aligned");
  if (options.misfits % 4 != 0) return invalid("misfit words are not 4-byte aligned");
  return {};
}

CodecJob job_of(cu::DevicePtr plain, cu::DevicePtr payload, std::uint64_t values) {
  CodecJob job{};
  job.plain = plain;
  job.payload = payload;
  job.last_tile_values = static_cast<std::uint16_t>((values - 1) % body::kTileValues + 1);
  return job;
}

}  // namespace

/// One call: its jobs with their values, checked.
struct CodecKernels::Request {
  struct Job {
    CodecJob job;
    std::uint64_t values;
  };
  CodecWork work = CodecWork::kCopy;
  CodecFormat format;
  DeviceCodecOptions options;
  std::vector<Job> jobs;
};

Result<CodecKernels> CodecKernels::load(const Driver& driver) {
  static const bool kRegistered = [] {
    register_codec_kernels();
    return true;
  }();
  static_cast<void>(kRegistered);
  CodecKernels kernels(driver);
  for (const KernelImage& image : kernel_images()) {
    Result<Module> module = Module::load(driver, image.data);
    if (!module.ok())
      return unsupported(std::string(image.name) + " does not load: " + module.status().message());
    kernels.modules_.push_back(std::move(module.value()));
  }
  if (kernel_images().empty()) {
    Result<Module> module = Module::load(driver, kNoCode);
    if (!module.ok()) return unsupported("this build has none");
    kernels.modules_.push_back(std::move(module.value()));
  }
  SPW_RETURN_IF_ERROR(kernels.find_all());
  return kernels;
}

Status CodecKernels::find_all() {
  cu::Device device = 0;
  int multiprocessors = 0;
  SPW_CU_TRY(driver_->cuCtxGetDevice(&device));
  SPW_CU_TRY(driver_->cuDeviceGetAttribute(
      &multiprocessors, cu::DeviceAttribute::kMultiprocessorCount, device));
  const std::span<const CodecKernelName> names = codec_kernel_names();
  entries_.resize(names.size());
  for (std::size_t i = 0; i < names.size(); ++i) {
    Entry& entry = entries_[i];
    for (const Module& module : modules_) {
      const auto find = [&](const char* name, cu::Function* function) {
        return driver_->cuModuleGetFunction(function, module.handle(), name) ==
               cu::Result::kSuccess;
      };
      if (find(names[i].small, &entry.small) && find(names[i].large, &entry.large)) break;
    }
    if (entry.small == nullptr || entry.large == nullptr)
      return unsupported(kernel_images().empty() ? "this build has none (no CUDA compiler)"
                                                 : std::string(names[i].small) + " is missing");
    int blocks = 0;
    SPW_CU_TRY(driver_->cuOccupancyMaxActiveBlocksPerMultiprocessor(
        &blocks, entry.small, static_cast<int>(kCodecBlockThreads), 0));
    entry.blocks = static_cast<unsigned int>(std::max(1, blocks * multiprocessors));
  }
  return {};
}

template <typename Table>
Status CodecKernels::launch_table(StreamRef stream,
                                  const Entry& entry,
                                  cu::Function function,
                                  Table* table) const {
  const std::uint32_t wanted = (table->head.total_tiles + kCodecBlockWarps - 1) / kCodecBlockWarps;
  void* parameters[] = {table, nullptr};
  SPW_CU_TRY(driver_->cuLaunchKernel(function,
                                     std::min(wanted, entry.blocks),
                                     1,
                                     1,
                                     kCodecBlockThreads,
                                     1,
                                     1,
                                     0,
                                     stream.handle(),
                                     parameters,
                                     nullptr));
  return {};
}

Status CodecKernels::launch(StreamRef stream, const Request& request) const {
  const std::optional<std::size_t> index =
      codec_kernel_index(request.work, request.format.codec, request.format.dtype);
  if (!index) return {Code::kInternal, "codec: no kernel for a format that has one"};
  const Entry& entry = entries_[*index];
  if (request.options.fingerprints != 0)
    SPW_CU_TRY(driver_->cuMemsetD8Async(
        request.options.fingerprints, 0, request.jobs.size() * 8, stream.handle()));
  const bool one_small_table = request.jobs.size() <= kSmallTableJobs;
  SmallCodecTable small{};
  const auto large = one_small_table ? nullptr : std::make_unique<LargeCodecTable>();
  CodecTableHead& head = one_small_table ? small.head : large->head;
  CodecJob* const jobs = one_small_table ? small.jobs : large->jobs;
  const std::uint32_t capacity = one_small_table ? kSmallTableJobs : kLargeTableJobs;
  head.codec = static_cast<std::uint8_t>(request.format.codec);
  head.dtype = static_cast<std::uint8_t>(request.format.dtype);
  head.step = request.options.step;
  for (std::size_t first = 0; first < request.jobs.size();) {
    head.count = 0;
    head.total_tiles = 0;
    for (std::size_t i = first; i < request.jobs.size() && head.count < capacity; ++i) {
      const std::uint64_t tiles = body::tiles_of(request.jobs[i].values);
      if (head.count != 0 && head.total_tiles + tiles >= kMaxTiles) break;
      jobs[head.count] = request.jobs[i].job;
      jobs[head.count].first_tile = head.total_tiles;
      ++head.count;
      head.total_tiles += static_cast<std::uint32_t>(tiles);
    }
    const DeviceCodecOptions& options = request.options;
    head.fingerprints = options.fingerprints == 0 ? 0 : options.fingerprints + 8 * first;
    head.misfits = options.misfits == 0 ? 0 : options.misfits + 4 * first;
    SPW_RETURN_IF_ERROR(one_small_table ? launch_table(stream, entry, entry.small, &small)
                                        : launch_table(stream, entry, entry.large, large.get()));
    first += head.count;
  }
  return {};
}

Status CodecKernels::encode(StreamRef stream,
                            const CodecFormat& format,
                            std::span<const DeviceCodecTensor> tensors,
                            const DeviceCodecOptions& options) const {
  SPW_RETURN_IF_ERROR(check_format(format));
  SPW_RETURN_IF_ERROR(check_options(options));
  Request request{CodecWork::kEncode, format, options, {}};
  if (format.codec == Codec::kNone) request.work = CodecWork::kCopy;
  request.jobs.reserve(tensors.size());
  for (const DeviceCodecTensor& tensor : tensors) {
    SPW_RETURN_IF_ERROR(check_tensor(format, tensor));
    const std::uint64_t values =
        format.codec == Codec::kNone ? tensor.payload_bytes : tensor.values;
    CodecJob job = job_of(tensor.plain, tensor.payload, values);
    job.tensor_key = tensor.tensor_key;
    job.sparse_capacity = format.sparse_capacity;
    request.jobs.push_back({job, values});
  }
  return request.jobs.empty() ? Status() : launch(stream, request);
}

Status CodecKernels::decode(StreamRef stream,
                            const CodecFormat& format,
                            std::span<const DeviceCodecTensor> tensors,
                            const DeviceCodecOptions& options) const {
  SPW_RETURN_IF_ERROR(check_format(format));
  SPW_RETURN_IF_ERROR(check_options(options));
  Request request{CodecWork::kDecode, format, options, {}};
  if (format.codec == Codec::kNone) request.work = CodecWork::kCopy;
  request.jobs.reserve(tensors.size());
  for (const DeviceCodecTensor& tensor : tensors) {
    SPW_RETURN_IF_ERROR(check_tensor(format, tensor));
    if (format.codec == Codec::kNone) {
      request.jobs.push_back(
          {job_of(tensor.payload, tensor.plain, tensor.payload_bytes), tensor.payload_bytes});
      continue;
    }
    CodecJob job = job_of(tensor.plain, tensor.payload, tensor.values);
    job.sparse_capacity = format.sparse_capacity;
    request.jobs.push_back({job, tensor.values});
  }
  return request.jobs.empty() ? Status() : launch(stream, request);
}

Status CodecKernels::copy(StreamRef stream,
                          std::span<const DeviceCopy> copies,
                          const DeviceCodecOptions& options) const {
  SPW_RETURN_IF_ERROR(check_options(options));
  Request request{CodecWork::kCopy, {}, options, {}};
  request.jobs.reserve(copies.size());
  for (const DeviceCopy& one : copies) {
    if (one.bytes == 0) return invalid("there are no bytes");
    if (one.bytes / body::kTileValues >= kMaxTiles) return invalid("too many bytes");
    SPW_RETURN_IF_ERROR(check_pair(one.from, one.bytes, one.to, one.bytes));
    request.jobs.push_back({job_of(one.from, one.to, one.bytes), one.bytes});
  }
  return request.jobs.empty() ? Status() : launch(stream, request);
}

Status CodecKernels::fingerprint(StreamRef stream,
                                 std::span<const DeviceBytes> ranges,
                                 cu::DevicePtr fingerprints) const {
  if (fingerprints == 0) return invalid("fingerprints are null");
  Request request{CodecWork::kFingerprint, {}, {}, {}};
  request.options.fingerprints = fingerprints;
  SPW_RETURN_IF_ERROR(check_options(request.options));
  request.jobs.reserve(ranges.size());
  for (const DeviceBytes& range : ranges) {
    if (range.bytes == 0) return invalid("there are no bytes");
    if (range.bytes / body::kTileValues >= kMaxTiles) return invalid("too many bytes");
    SPW_RETURN_IF_ERROR(check_pointer(range.pointer, "a range"));
    request.jobs.push_back({job_of(range.pointer, 0, range.bytes), range.bytes});
  }
  return request.jobs.empty() ? Status() : launch(stream, request);
}

Status CodecKernels::fingerprint_blocks(StreamRef stream,
                                        DeviceBytes range,
                                        cu::DevicePtr blocks) const {
  if (range.bytes == 0) return invalid("there are no bytes");
  if (range.bytes / body::kTileValues >= kMaxTiles) return invalid("too many bytes");
  const std::uint64_t block_count = (range.bytes - 1) / kFingerprintBlock + 1;
  SPW_RETURN_IF_ERROR(check_pair(range.pointer, range.bytes, blocks, block_count * 8));
  Request request{CodecWork::kFingerprintBlocks, {}, {}, {}};
  request.jobs.push_back({job_of(range.pointer, blocks, range.bytes), range.bytes});
  return launch(stream, request);
}

}  // namespace spillway
