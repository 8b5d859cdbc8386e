// SPDX-License-Identifier: Apache-2.0
// Turns trace records into a Profile. Streaming: memory is what the Profile itself needs, plus one
// table from ids to indices. Hostile input is an error, never a crash: unknown or repeated ids,
// uses after free, ops that do not nest.
#pragma once

#include "core/status.hpp"
#include "core/trace.hpp"
#include "policy/profile.hpp"

#include <memory>
#include <vector>

namespace spillway {

struct ProfileOptions {
  /// Which training step to plan; -1 takes the steadiest: among the steps whose op count is the
  /// most common one, the one of median time.
  std::int64_t step = -1;
  /// Lifetime-only traces: an activation may leave after this many further allocations when its
  /// layer's range is unknown.
  std::uint32_t hold_allocations = 8;
};

/// A TraceSink that builds one Profile.
class ProfileBuilder final : public TraceSink {
 public:
  explicit ProfileBuilder(ProfileOptions options = {});
  ~ProfileBuilder() override;
  ProfileBuilder(const ProfileBuilder&) = delete;
  ProfileBuilder& operator=(const ProfileBuilder&) = delete;
  ProfileBuilder(ProfileBuilder&&) = delete;
  ProfileBuilder& operator=(ProfileBuilder&&) = delete;

  void string(StringId id, std::string_view text) override;
  void record(const Record& record) override;

  /// Records that the reader of the trace inferred or noted, passed through into the Profile.
  void add_inferred(std::string line);
  void add_note(std::string line);

  /// The profile of the chosen step. kBadInput names the record (by its number in the stream) and
  /// what was expected. The builder is empty afterwards.
  Result<Profile> finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace spillway
