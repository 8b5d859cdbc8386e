// SPDX-License-Identifier: Apache-2.0
// The table of lines. Strings come in the order in which the emitter announces them, so that most
// traces need no line of their own for a string.
#include "integration/trace/spwt_text_lines.hpp"

#include <initializer_list>

namespace spillway {
namespace {

TextLine columns(std::initializer_list<TextColumn> list, PackedForm packed = PackedForm::kNone) {
  TextLine line;
  for (const TextColumn& column : list) line.columns[line.column_count++] = column;
  line.packed = packed;
  return line;
}

}  // namespace

bool TextLine::has(TextField field) const {
  for (std::size_t i = 0; i < column_count; ++i)
    if (columns[i].field == field) return true;
  return false;
}

TextLine text_line(RecordKind kind) {
  constexpr TextColumn kIdNumber{TextField::kId, TextForm::kNumber};
  constexpr TextColumn kIdHex{TextField::kId, TextForm::kHex};
  constexpr TextColumn kTensor{TextField::kId, TextForm::kTensor};
  constexpr TextColumn kOp{TextField::kId, TextForm::kOp};
  constexpr TextColumn kIdString{TextField::kId, TextForm::kString};
  constexpr TextColumn kArgNumber{TextField::kArg, TextForm::kNumber};
  constexpr TextColumn kArgString{TextField::kArg, TextForm::kString};
  constexpr TextColumn kArgPacked{TextField::kArg, TextForm::kPacked};
  constexpr TextColumn kDomain{TextField::kStream, TextForm::kString};
  switch (kind) {
    case RecordKind::kMeta:
      return columns({kIdString, kArgString});
    case RecordKind::kThread:
    case RecordKind::kDevice:
      return columns({kIdNumber, kArgString});
    case RecordKind::kStream:
      return columns({kArgString});
    case RecordKind::kClock:
      return columns({kArgNumber});
    case RecordKind::kFrame:
      return columns({kIdNumber, {TextField::kArg, TextForm::kFrame}});
    case RecordKind::kStep:
    case RecordKind::kEventRecord:
    case RecordKind::kEventWait:
      return columns({kIdNumber});
    case RecordKind::kAlloc:
    case RecordKind::kStackOf:
      return columns({kTensor, kArgNumber});
    case RecordKind::kFreeRequested:
    case RecordKind::kFreeCompleted:
      return columns({kTensor});
    case RecordKind::kAddress:
      return columns({kTensor, {TextField::kArg, TextForm::kHex}});
    case RecordKind::kTag:
      return columns({kTensor, kArgPacked}, PackedForm::kTag);
    case RecordKind::kName:
      return columns({kTensor, kArgString});
    case RecordKind::kView:
      return columns({kTensor, {TextField::kArg, TextForm::kTensor}});
    case RecordKind::kMap:
    case RecordKind::kUnmap:
      return columns({kIdHex, kArgNumber});
    case RecordKind::kOom:
    case RecordKind::kSync:
      return columns({kIdNumber, kArgNumber});
    case RecordKind::kOpBegin:
      return columns({kOp, kArgString});
    case RecordKind::kOpEnd:
      return columns({kOp});
    case RecordKind::kOpTag:
      return columns({kOp, kArgPacked}, PackedForm::kOpTag);
    case RecordKind::kOpFlops:
    case RecordKind::kOpTraffic:
    case RecordKind::kOpWorkspace:
      return columns({kOp, kArgNumber});
    case RecordKind::kUse:
      return columns({kTensor, {TextField::kArg, TextForm::kOp}});
    case RecordKind::kKernel:
    case RecordKind::kCounter:
      return columns({kIdString, kArgNumber});
    case RecordKind::kCopy:
      return columns({{TextField::kId, TextForm::kDirection}, kArgNumber});
    case RecordKind::kRangePush:
    case RecordKind::kMark:
      return columns({kDomain, kArgString});
    case RecordKind::kRangePop:
      return columns({kDomain});
    case RecordKind::kRangeStart:
      return columns({kIdNumber, kDomain, kArgString});
    case RecordKind::kRangeEnd:
      return columns({kIdNumber, kDomain});
    case RecordKind::kDecision:
      return columns({kTensor, kArgPacked}, PackedForm::kDecision);
    case RecordKind::kStall:
      return columns({kTensor, kArgNumber, kDomain});
  }
  return {};
}

}  // namespace spillway
