// SPDX-License-Identifier: Apache-2.0
// A trace is a sequence of 32-byte records plus the strings they name, pushed in order into a
// TraceSink. Every reader, the generator and the recorder produce it; the .spwt files hold it
// (docs/trace_format.md); the profile builder consumes it. Order is the order of arrival. Times may
// tie or run backwards between threads and are never used for ordering.
#pragma once

#include "core/ids.hpp"
#include "core/status.hpp"

#include <cstdint>
#include <string_view>

namespace spillway {

/// Meaning of `id` and `arg` per kind. "storage" ids and "tensor" ids share one number space: a
/// root tensor has its storage's id. Ids are 64-bit and never reused within a trace. Numbers are
/// part of the file format: append, never renumber.
enum class RecordKind : std::uint8_t {
  kMeta = 1,    // id = key string, arg = value string
  kThread = 2,  // id = thread, arg = name string. Records that follow belong to this thread
  kDevice = 3,  // device = ordinal, id = memory bytes (0 unknown), arg = name string
  kStream = 4,  // stream, arg = name string
  kClock = 5,   // time_ns = trace clock, arg = wall clock ns since 1970
  kFrame = 6,   // id = call tree node (> 0), arg = parent node << 32 | frame string
  kStep = 7,    // id = number of the training step that begins here
  kAlloc = 10,  // id = storage, arg = bytes; flag kRecordPreexisting: it was there before the trace
                // began
  kFreeRequested = 11,  // id = storage: its owner dropped it
  kFreeCompleted = 12,  // id = storage: its bytes may be reused
  kAddress = 13,        // id = storage, arg = device address
  kTag = 14,            // id = storage, arg = pack(Tag)
  kName = 15,           // id = storage, arg = string
  kStackOf = 16,        // id = storage, arg = call tree node
  kView = 17,           // id = new tensor, arg = storage it looks into
  kMap = 18,            // id = address, arg = bytes: the pool took memory from the driver
  kUnmap = 19,          // id = address, arg = bytes
  kOom = 20,            // id = bytes wanted, arg = bytes free
  kOpBegin = 30,        // id = op, arg = name string; time_ns = start
  kOpEnd = 31,          // id = op; time_ns = end
  kOpTag = 32,          // id = op, arg = pack(OpTag)
  kOpFlops = 33,        // id = op, arg = floating-point operations
  kOpTraffic = 34,      // id = op, arg = bytes read and written
  kOpWorkspace = 35,    // id = op, arg = scratch bytes held while it runs
  kUse = 36,            // id = tensor, arg = op; flags say read, write or create
  kKernel = 40,         // id = name string, arg = duration ns, stream
  kCopy = 41,           // id = direction (1 H2D, 2 D2H, 3 D2D), arg = bytes, stream
  kEventRecord = 42,    // id = event, stream
  kEventWait = 43,      // id = event, stream
  kSync = 44,           // id = 0 stream, 1 event, 2 context; arg = event
  kRangePush = 50,      // arg = text string, stream = domain string. Nests per thread and domain
  kRangePop = 51,       // stream = domain string
  kRangeStart = 52,     // id = range, arg = text string, stream = domain string
  kRangeEnd = 53,       // id = range, stream = domain string
  kMark = 54,           // arg = text string, stream = domain string
  kDecision = 60,       // id = storage, arg = action | codec << 8
  kStall = 61,          // id = storage, arg = ns, stream = cause string
  kCounter = 62,        // id = name string, arg = value
};

enum RecordFlag : std::uint8_t {
  kRecordRead = 1u << 0,         // kUse
  kRecordWrite = 1u << 1,        // kUse: writes bytes that existed
  kRecordCreate = 1u << 2,       // kUse: the op makes this tensor
  kRecordPreexisting = 1u << 3,  // kAlloc
  kRecordInferred = 1u << 4,     // any: concluded by a reader, not recorded
};

struct Record {
  std::uint64_t time_ns = 0;  // since the trace's start
  RecordKind kind = RecordKind::kMeta;
  std::uint8_t flags = 0;
  std::uint16_t device = 0;
  std::uint32_t stream = 0;
  std::uint64_t id = 0;
  std::uint64_t arg = 0;

  friend bool operator==(const Record&, const Record&) = default;
};
static_assert(sizeof(Record) == 32);

/// Lower-case name of a kind as the text form writes it ("alloc"); "" for a number that is no kind.
std::string_view name_of(RecordKind kind);
/// Inverse; false when `text` is no kind.
bool parse_record_kind(std::string_view text, RecordKind* kind);
/// Whether `byte` is one of the kinds above.
bool is_record_kind(std::uint8_t byte);

/// Which of id, arg and stream name a string for this kind.
struct StringFields {
  bool id = false;
  bool arg = false;
  bool arg_low = false;  // the low 32 bits of arg (kFrame)
  bool stream = false;
};
StringFields string_fields(RecordKind kind);

/// Receives a trace in order. A string is announced before the first record that names it; ids are
/// dense from 1 (0 is "").
class TraceSink {
 public:
  virtual ~TraceSink() = default;
  /// REQUIRES: `id` is the number of strings announced so far plus one. `text` is valid during the
  /// call.
  virtual void string(StringId id, std::string_view text) = 0;
  virtual void record(const Record& record) = 0;
};

}  // namespace spillway
