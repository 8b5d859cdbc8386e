// SPDX-License-Identifier: Apache-2.0
// Encoding and decoding of record payloads. The decoder trusts nothing but the padding behind the
// payload.
#include "integration/trace/spwt_records.hpp"

#include "integration/trace/spwt_layout.hpp"

namespace spillway {
namespace {

// The layout byte: which fields follow, and what the others are.
constexpr std::uint8_t kTimeFollows = 1u << 0;
constexpr std::uint8_t kFlagsFollow = 1u << 1;
constexpr std::uint8_t kPlaceFollows = 1u << 2;  // device and stream
constexpr unsigned kIdShift = 3;
constexpr unsigned kArgShift = 5;
constexpr std::uint8_t kExtraFollows = 1u << 7;  // a length and that many bytes that we do not know

enum IdForm : std::uint8_t {
  kIdOfPreviousRecord = 0,
  kIdNextOfKind = 1,
  kIdDeltaToKind = 2,
  kIdDeltaToPreviousRecord = 3,
};
enum ArgForm : std::uint8_t { kArgOfKind = 0, kArgZero = 1, kArgDeltaToKind = 2, kArgPlain = 3 };

std::uint64_t zigzag(std::uint64_t delta) {
  return delta << 1 ^ (std::uint64_t{0} - (delta >> 63));
}
std::uint64_t unzigzag(std::uint64_t coded) {
  return coded >> 1 ^ (std::uint64_t{0} - (coded & 1));
}

unsigned char* put_varint(unsigned char* out, std::uint64_t value) {
  while (value >= 0x80) {
    *out++ = static_cast<unsigned char>(value | 0x80);
    value >>= 7;
  }
  *out++ = static_cast<unsigned char>(value);
  return out;
}

/// Reads at most ten bytes; null when they are no 64-bit number.
inline const unsigned char* get_varint(const unsigned char* in, std::uint64_t* value) {
  std::uint64_t byte = *in++;
  if (byte < 0x80) {
    *value = byte;
    return in;
  }
  std::uint64_t sum = byte & 0x7f;
  for (unsigned shift = 7; shift < 63; shift += 7) {
    byte = *in++;
    sum |= (byte & 0x7f) << shift;
    if (byte < 0x80) {
      *value = sum;
      return in;
    }
  }
  byte = *in++;
  if (byte > 1) return nullptr;
  *value = sum | byte << 63;
  return in;
}

// string_fields() and is_record_kind() as one byte per kind, for the decoder's inner loop.
enum KindBit : std::uint8_t {
  kKnown = 1u << 0,
  kNamesId = 1u << 1,
  kNamesArg = 1u << 2,
  kNamesArgLow = 1u << 3,
  kNamesStream = 1u << 4,
};

std::array<std::uint8_t, 256> make_kind_bits() {
  std::array<std::uint8_t, 256> bits{};
  for (unsigned kind = 1; kind < bits.size(); ++kind) {
    if (!is_record_kind(static_cast<std::uint8_t>(kind))) continue;
    const StringFields names = string_fields(static_cast<RecordKind>(kind));
    bits[kind] = static_cast<std::uint8_t>(
        kKnown | (names.id ? kNamesId : 0) | (names.arg ? kNamesArg : 0) |
        (names.arg_low ? kNamesArgLow : 0) | (names.stream ? kNamesStream : 0));
  }
  return bits;
}

bool names_known_strings(const Record& record, std::uint8_t bits, std::uint64_t string_count) {
  if ((bits & kNamesId) != 0 && record.id > string_count) return false;
  if ((bits & kNamesArg) != 0 && record.arg > string_count) return false;
  if ((bits & kNamesArgLow) != 0 && (record.arg & 0xffffffffu) > string_count) return false;
  return (bits & kNamesStream) == 0 || record.stream <= string_count;
}

}  // namespace

void SpwtRecordEncoder::start() {
  bases_ = SpwtBases();
  bytes_.clear();
}

void SpwtRecordEncoder::string(std::string_view text) {
  std::array<unsigned char, 16> head{};
  head[0] = kSpwtStringKind;
  const unsigned char* end = put_varint(head.data() + 1, text.size());
  bytes_.append(reinterpret_cast<const char*>(head.data()),
                static_cast<std::size_t>(end - head.data()));
  bytes_.append(text);
}

void SpwtRecordEncoder::record(const Record& record) {
  SpwtBases::Kind& last = bases_.by_kind[static_cast<std::uint8_t>(record.kind)];
  std::array<unsigned char, 64> buffer{};
  buffer[0] = static_cast<unsigned char>(record.kind);
  unsigned char* out = buffer.data() + 2;
  unsigned layout = 0;
  if (record.time_ns != bases_.time_ns) {
    layout |= kTimeFollows;
    out = put_varint(out, zigzag(record.time_ns - bases_.time_ns));
  }
  if (record.flags != last.flags) {
    layout |= kFlagsFollow;
    *out++ = record.flags;
  }
  if (record.device != last.device || record.stream != last.stream) {
    layout |= kPlaceFollows;
    out = put_varint(out, record.device);
    out = put_varint(out, record.stream);
  }
  if (record.id == bases_.previous_id) {
    layout |= kIdOfPreviousRecord << kIdShift;
  } else if (record.id == last.id + 1) {
    layout |= kIdNextOfKind << kIdShift;
  } else {
    const std::uint64_t to_kind = zigzag(record.id - last.id);
    const std::uint64_t to_previous = zigzag(record.id - bases_.previous_id);
    layout |=
        static_cast<unsigned>(to_kind <= to_previous ? kIdDeltaToKind : kIdDeltaToPreviousRecord)
        << kIdShift;
    out = put_varint(out, to_kind <= to_previous ? to_kind : to_previous);
  }
  if (record.arg == last.arg) {
    layout |= kArgOfKind << kArgShift;
  } else if (record.arg == 0) {
    layout |= kArgZero << kArgShift;
  } else {
    const std::uint64_t to_kind = zigzag(record.arg - last.arg);
    layout |= static_cast<unsigned>(to_kind < record.arg ? kArgDeltaToKind : kArgPlain)
              << kArgShift;
    out = put_varint(out, to_kind < record.arg ? to_kind : record.arg);
  }
  buffer[1] = static_cast<unsigned char>(layout);
  bytes_.append(reinterpret_cast<const char*>(buffer.data()),
                static_cast<std::size_t>(out - buffer.data()));
  bases_.time_ns = record.time_ns;
  bases_.previous_id = record.id;
  last = {record.id, record.arg, record.stream, record.device, record.flags};
}

SpwtDecodeResult decode_spwt_records(std::string_view payload,
                                     std::uint64_t base_time_ns,
                                     std::uint32_t strings_before,
                                     TraceSink& sink) {
  static const std::array<std::uint8_t, 256> kKindBits = make_kind_bits();
  SpwtDecodeResult result;
  SpwtBases bases;
  bases.time_ns = base_time_ns;
  std::uint64_t string_count = strings_before;
  const auto* begin = reinterpret_cast<const unsigned char*>(payload.data());
  const unsigned char* const end = begin + payload.size();
  const unsigned char* in = begin;
  const auto stop = [&](const unsigned char* at, std::string_view expected) {
    result.expected = expected;
    result.offset = static_cast<std::size_t>(at - begin);
    result.string_count = static_cast<std::uint32_t>(string_count - strings_before);
    return result;
  };
  // The fields of a record take at most 53 bytes (kind 1, layout 1, time 10, flags 1, device 10,
  // stream 10, id 10, arg 10) and the length of the extra ones 10 more: the padding covers a record
  // that starts on the last byte, and one check behind the fields is enough.
  while (in < end) {
    const unsigned char* const start = in;
    const std::uint8_t kind = *in++;
    std::uint64_t number = 0;
    if (kind == kSpwtStringKind) {
      in = get_varint(in, &number);
      if (in == nullptr || in > end || number > kTraceStringBytesMax ||
          number > static_cast<std::uint64_t>(end - in))
        return stop(start, "a string that fits the payload");
      if (string_count >= StringId::kNoneValue - 1) return stop(start, "fewer than 2^32 strings");
      ++string_count;
      sink.string(StringId(static_cast<std::uint32_t>(string_count)),
                  {reinterpret_cast<const char*>(in), static_cast<std::size_t>(number)});
      in += number;
      continue;
    }
    const std::uint8_t layout = *in++;
    SpwtBases::Kind& last = bases.by_kind[kind];
    Record record;
    record.kind = static_cast<RecordKind>(kind);
    if ((layout & kTimeFollows) != 0) {
      if ((in = get_varint(in, &number)) == nullptr) return stop(start, "a time of 64 bits");
      bases.time_ns += unzigzag(number);
    }
    record.time_ns = bases.time_ns;
    record.flags = (layout & kFlagsFollow) != 0 ? *in++ : last.flags;
    record.device = last.device;
    record.stream = last.stream;
    if ((layout & kPlaceFollows) != 0) {
      if ((in = get_varint(in, &number)) == nullptr || number > 0xffff)
        return stop(start, "a device of 16 bits");
      record.device = static_cast<std::uint16_t>(number);
      if ((in = get_varint(in, &number)) == nullptr || number > 0xffffffffu)
        return stop(start, "a stream of 32 bits");
      record.stream = static_cast<std::uint32_t>(number);
    }
    switch (layout >> kIdShift & 3) {
      case kIdOfPreviousRecord:
        record.id = bases.previous_id;
        break;
      case kIdNextOfKind:
        record.id = last.id + 1;
        break;
      default:
        if ((in = get_varint(in, &number)) == nullptr) return stop(start, "an id of 64 bits");
        record.id = unzigzag(number) +
                    ((layout >> kIdShift & 3) == kIdDeltaToKind ? last.id : bases.previous_id);
    }
    switch (layout >> kArgShift & 3) {
      case kArgOfKind:
        record.arg = last.arg;
        break;
      case kArgZero:
        record.arg = 0;
        break;
      default:
        if ((in = get_varint(in, &number)) == nullptr) return stop(start, "an argument of 64 bits");
        record.arg = (layout >> kArgShift & 3) == kArgPlain ? number : last.arg + unzigzag(number);
    }
    if (in > end) return stop(start, "a record that fits the payload");
    if ((layout & kExtraFollows) != 0) {
      in = get_varint(in, &number);
      if (in == nullptr || in > end || number > static_cast<std::uint64_t>(end - in))
        return stop(start, "extra bytes that fit the payload");
      in += number;
    }
    bases.previous_id = record.id;
    last = {record.id, record.arg, record.stream, record.device, record.flags};
    ++result.record_count;
    const std::uint8_t bits = kKindBits[kind];
    if (bits == kKnown) {
      sink.record(record);
    } else if (bits == 0) {
      ++result.skipped_count;
    } else {
      if (!names_known_strings(record, bits, string_count))
        return stop(start, "a record that names strings announced before it");
      sink.record(record);
    }
  }
  return stop(in, {});
}

}  // namespace spillway
