// SPDX-License-Identifier: Apache-2.0
// Stream capture and graphs.
#include "device/sim/api.hpp"
#include "device/sim/call.hpp"

#include <utility>

namespace spillway::sim::api {

cu::Result cuStreamIsCapturing(cu::Stream handle, cu::StreamCaptureStatus* status) {
  const Call call(Api::cuStreamIsCapturing);
  if (!call.ok()) return call.result();
  StreamState* stream = nullptr;
  if (status == nullptr) return cu::Result::kInvalidValue;
  if (const cu::Result r = call.engine().find_stream(handle, "cuStreamIsCapturing", &stream);
      r != cu::Result::kSuccess)
    return r;
  *status = cu::StreamCaptureStatus::kNone;
  return cu::Result::kSuccess;
}

cu::Result cuThreadExchangeStreamCaptureMode(cu::StreamCaptureMode* mode) {
  const Call call(Api::cuThreadExchangeStreamCaptureMode);
  if (!call.ok()) return call.result();
  if (mode == nullptr || *mode < cu::StreamCaptureMode::kGlobal ||
      *mode > cu::StreamCaptureMode::kRelaxed)
    return cu::Result::kInvalidValue;
  std::swap(*mode, call.engine().self().capture_mode);
  return cu::Result::kSuccess;
}

cu::Result cuStreamBeginCapture(cu::Stream /*stream*/, cu::StreamCaptureMode /*mode*/) {
  return cu::Result::kNotSupported;
}

cu::Result cuStreamEndCapture(cu::Stream /*stream*/, cu::Graph* /*graph*/) {
  return cu::Result::kNotSupported;
}

cu::Result cuStreamGetCaptureInfo(cu::Stream /*stream*/,
                                  cu::StreamCaptureStatus* /*status*/,
                                  unsigned long long* /*id*/,
                                  cu::Graph* /*graph*/,
                                  const cu::GraphNode** /*dependencies*/,
                                  std::size_t* /*dependency_count*/) {
  return cu::Result::kNotSupported;
}

cu::Result cuGraphInstantiate(cu::GraphExec* /*exec*/,
                              cu::Graph /*graph*/,
                              unsigned long long /*flags*/) {
  return cu::Result::kNotSupported;
}

cu::Result cuGraphLaunch(cu::GraphExec /*exec*/, cu::Stream /*stream*/) {
  return cu::Result::kNotSupported;
}

cu::Result cuGraphDestroy(cu::Graph /*graph*/) { return cu::Result::kNotSupported; }

cu::Result cuGraphExecDestroy(cu::GraphExec /*exec*/) { return cu::Result::kNotSupported; }

cu::Result cuGraphGetNodes(cu::Graph /*graph*/, cu::GraphNode* /*nodes*/, std::size_t* /*count*/) {
  return cu::Result::kNotSupported;
}

}  // namespace spillway::sim::api
