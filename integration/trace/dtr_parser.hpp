// SPDX-License-Identifier: Apache-2.0
// Lines of a DTR log (Kirisame et al., ICLR 2021) as events over tensors and storages: names are
// resolved, results complete, everything checked. Shared by the trace reader and by the list of
// events that the DTR engine replays. A mutation becomes an op that makes new storages, as DTR runs
// it: nothing is overwritten, so it may run again.
#pragma once

#include "core/status.hpp"
#include "integration/trace/byte_source.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace spillway {

/// A tensor that names point to. Indices count from 0 in order of creation.
struct DtrValue {
  std::uint32_t tensor = 0;
  std::uint32_t storage = 0;
};

struct DtrMade {
  DtrValue value;
  std::uint64_t bytes = 0;  // of the storage; a view's is its base's
  bool view = false;        // looks into a storage that was there
};

/// An op, complete. Names are valid UTF-8. Valid during the call only.
struct DtrCall {
  std::string_view name;
  std::uint64_t time_ns = 0;
  std::span<const DtrValue> arguments;
  std::span<const DtrMade> results;  // each with one name from now on
};

/// Receives a log from its ANNOTATE START on, in order.
class DtrLogSink {
 public:
  virtual ~DtrLogSink() = default;
  virtual void on_start(std::string_view model) = 0;
  virtual void on_backward() = 0;
  /// A weight or an input, with one name.
  virtual void on_constant(std::string_view name, const DtrMade& made) = 0;
  virtual void on_call(const DtrCall& call) = 0;
  /// `value` has one more name.
  virtual void on_name(const DtrValue& value) = 0;
  /// `value` has one name less; `last` says that no name is left on any tensor of its storage.
  virtual void on_forget(const DtrValue& value, bool last) = 0;
};

struct DtrLogFacts {
  std::uint64_t mutate_count = 0;
};

/// Reads the whole log. Fails with kBadInput naming file, offset and what was expected.
Result<DtrLogFacts> parse_dtr_log(BufferedInput& input, DtrLogSink& sink);

}  // namespace spillway
