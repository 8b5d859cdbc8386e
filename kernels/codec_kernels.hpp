// SPDX-License-Identifier: Apache-2.0
// Codecs and fingerprints on device memory: the same bits as kernels/host_codec.hpp, many tensors a
// launch. Sizes are known before anything runs; what the values decide (do they fit?) arrives in
// host memory when the stream gets there. Layouts and bounds: docs/codecs.md.
#pragma once

#include "core/codec.hpp"
#include "core/status.hpp"
#include "device/driver.hpp"
#include "device/kernel.hpp"
#include "device/stream.hpp"
#include "kernels/codec_job.hpp"
#include "kernels/host_codec.hpp"

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace spillway {

/// A tensor and its payload in device memory (or in pinned memory that the device sees).
struct DeviceCodecTensor {
  cu::DevicePtr plain = 0;    // source of an encode, destination of a decode
  cu::DevicePtr payload = 0;  // the other way round
  std::uint64_t values = 0;
  std::uint64_t payload_bytes = 0;  // must be the format's payload_bytes_for(values)
  std::uint64_t tensor_key = 0;     // int4 draws its random numbers by it
};

struct DeviceBytes {
  cu::DevicePtr pointer = 0;
  std::uint64_t bytes = 0;
};
struct DeviceCopy {
  cu::DevicePtr from = 0;
  cu::DevicePtr to = 0;
  std::uint64_t bytes = 0;
};

struct DeviceCodecOptions {
  std::uint64_t step = 0;  // int4's random numbers follow from it
  // Device address of a u64 per tensor, 8-byte aligned: receives fingerprint() of the plain bytes,
  // computed on the way; 0 where a decode was refused. 0: none wanted.
  cu::DevicePtr fingerprints = 0;
  // Address under which the device sees a u32 per tensor of pinned host memory, which the caller
  // has set to 0: becomes kMisfitTile or kMisfitHeader when the payload is no copy of the source
  // (encode: keep the source), or the destination none of what was encoded (decode). To be read
  // once an event behind the launch is done. 0: none wanted.
  cu::DevicePtr misfits = 0;
};

/// All calls queue work in `stream` and return; nothing waits, nothing is allocated on the device,
/// so that they may be captured. Tensors must stay until the stream is past them; in one call, what
/// is written must not overlap anything else. Up to 1000 tensors take one launch, more take
/// several. kInvalidArgument, and nothing queued: a null pointer, no values, an address that is
/// not 16-byte aligned, a dtype that the codec does not take, a capacity out of range, a payload of
/// another size than the format's, a tensor that overlaps its own payload.
class CodecKernels {
 public:
  /// Loads the kernels into the current context, and tells a simulated GPU what they do.
  /// kUnsupported when this build has no kernels or none of their code runs on this device: codecs
  /// are then not available here, everything else is.
  static Result<CodecKernels> load(const Driver& driver);

  /// Writes every byte of each payload. Codec::kNone copies.
  Status encode(StreamRef stream,
                const CodecFormat& format,
                std::span<const DeviceCodecTensor> tensors,
                const DeviceCodecOptions& options = {}) const;
  /// Writes every byte of each destination, whatever the payload holds, but for one whose header
  /// says that it is another payload: that destination is left alone. Reads nothing outside the
  /// payload, writes nothing outside the destination.
  Status decode(StreamRef stream,
                const CodecFormat& format,
                std::span<const DeviceCodecTensor> tensors,
                const DeviceCodecOptions& options = {}) const;
  /// Plain copies, by multiprocessors: for many small ones; large ones are the copy engines'.
  Status copy(StreamRef stream,
              std::span<const DeviceCopy> copies,
              const DeviceCodecOptions& options = {}) const;
  /// fingerprint() of each range, to u64s at `fingerprints`.
  Status fingerprint(StreamRef stream,
                     std::span<const DeviceBytes> ranges,
                     cu::DevicePtr fingerprints) const;
  /// fingerprint_blocks() of a range: a u64 per 512 bytes, to `blocks` (16-byte aligned).
  Status fingerprint_blocks(StreamRef stream, DeviceBytes range, cu::DevicePtr blocks) const;

 private:
  struct Entry {
    cu::Function small = nullptr;
    cu::Function large = nullptr;
    unsigned int blocks = 1;  // that fill the device
  };
  struct Request;

  explicit CodecKernels(const Driver& driver) : driver_(&driver) {}
  Status find_all();
  Status fill_entry(std::string_view name, unsigned int multiprocessors, Entry* entry) const;
  Status launch(StreamRef stream, const Request& request) const;
  template <typename Table>
  Status launch_table(StreamRef stream,
                      const Entry& entry,
                      cu::Function function,
                      Table* table) const;

  const Driver* driver_;
  std::vector<Module> modules_;
  std::vector<Entry> entries_;  // in the order of codec_kernel_names()
};

}  // namespace spillway
