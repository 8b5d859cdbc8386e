// SPDX-License-Identifier: Apache-2.0
// Runs DTR logs under the online policy: op times with noise, a link that copies while the step
// waits, a budget that is checked at every change. Views are not told from their storages here.
#pragma once

#include "core/random.hpp"
#include "policy/dtr/dtr_log.hpp"
#include "policy/online.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

namespace spillway::test {

struct LabOptions {
  std::uint64_t budget_bytes = 0;
  double noise = 0;      // op times are times 1 - noise .. 1 + noise
  double link_gbps = 0;  // 0: nothing may be offloaded
};

struct LabResult {
  bool done = true;  // false: out of memory
  std::int64_t clock_ns = 0;
  std::int64_t first_ns = 0;  // first runs, noise included
  std::uint64_t peak_bytes = 0;
  std::uint64_t drops = 0;
  std::uint64_t offloads = 0;
  std::uint64_t candidates = 0;  // resident and unlocked, summed over searches
};

class OnlineLab {
 public:
  OnlineLab(const DtrLog& log, OnlinePolicy& policy, Random& random, const LabOptions& options)
      : log_(log),
        policy_(policy),
        random_(random),
        options_(options),
        id_of_(log.storages.size(), DtrLog::kNone),
        place_(log.storages.size(), Place::kAbsent),
        names_(log.storages.size(), 0),
        locks_(log.storages.size(), 0),
        pinned_(log.storages.size(), 0) {}

  LabResult run() {
    policy_.begin_step();
    for (const DtrLog::Event& event : log_.events) {
      if (!result_.done) break;
      if (event.kind == DtrLog::EventKind::kCompute) {
        run_op(event.target, true);
        continue;
      }
      const std::uint32_t storage = log_.tensors[event.target].storage;
      if (event.kind == DtrLog::EventKind::kName) ++names_[storage];
      if (event.kind == DtrLog::EventKind::kPin) {
        pinned_[storage] = 1;
        lock(storage);
      }
      if (event.kind == DtrLog::EventKind::kForget && --names_[storage] == 0) {
        if (place_[storage] != Place::kHere || pinned_[storage] != 0) continue;
        leave(storage, Place::kAbsent);
        policy_.dropped(id_of_[storage]);
      }
    }
    return result_;
  }

 private:
  enum class Place : std::uint8_t { kAbsent, kHere, kHost };

  std::int64_t noisy(std::int64_t ns) {
    const double factor = 1.0 + options_.noise * (2.0 * random_.unit() - 1.0);
    return static_cast<std::int64_t>(static_cast<double>(ns) * factor);
  }
  std::int64_t copy(std::uint64_t bytes) const {
    return static_cast<std::int64_t>(static_cast<double>(bytes) / options_.link_gbps) + 1;
  }
  void lock(std::uint32_t storage) {
    if (locks_[storage]++ == 0) --unlocked_;
    policy_.lock(id_of_[storage]);
  }
  void unlock(std::uint32_t storage) {
    if (--locks_[storage] == 0) ++unlocked_;
    policy_.unlock(id_of_[storage], result_.clock_ns);
  }
  void leave(std::uint32_t storage, Place place) {
    place_[storage] = place;
    held_ -= log_.storages[storage].bytes;
    --unlocked_;
  }
  void come(std::uint32_t storage) {
    place_[storage] = Place::kHere;
    locks_[storage] = 1;
    held_ += log_.storages[storage].bytes;
    result_.peak_bytes = std::max(result_.peak_bytes, held_);
  }

  bool make_room(std::uint64_t bytes) {
    while (held_ + bytes > options_.budget_bytes) {
      result_.candidates += unlocked_;
      const auto eviction = policy_.victim(result_.clock_ns);
      if (!eviction) return result_.done = false;
      const std::uint32_t storage = storage_of_[eviction->id];
      REQUIRE(place_[storage] == Place::kHere);
      REQUIRE(locks_[storage] == 0);
      const bool offloads = eviction->action == Action::kOffload;
      leave(storage, offloads ? Place::kHost : Place::kAbsent);
      ++(offloads ? result_.offloads : result_.drops);
      if (!offloads) continue;
      const std::int64_t ns = copy(log_.storages[storage].bytes);
      result_.clock_ns += ns;
      policy_.copied_out(log_.storages[storage].bytes, ns);
    }
    return true;
  }

  /// Ends with every input resident and locked.
  bool take_inputs(const DtrLog::Op& op) {
    for (const std::uint32_t input : log_.inputs_of(op)) {
      const std::uint32_t storage = log_.tensors[input].storage;
      if (place_[storage] == Place::kHost) {
        if (!make_room(log_.storages[storage].bytes)) return false;
        const std::int64_t ns = copy(log_.storages[storage].bytes);
        result_.clock_ns += ns;
        come(storage);
        policy_.returned(id_of_[storage], -1);
        policy_.copied_back(log_.storages[storage].bytes, ns);
        policy_.arrived(id_of_[storage], ns, 0, result_.clock_ns);
        continue;
      }
      if (place_[storage] == Place::kAbsent)
        if (!run_op(log_.tensors[log_.storages[storage].root].op, false)) return false;
      lock(storage);
    }
    return true;
  }

  bool run_op(std::uint32_t index, bool first) {
    const DtrLog::Op& op = log_.ops[index];
    if (!take_inputs(op)) return false;
    std::uint64_t bytes = 0;
    std::vector<std::uint32_t> made;
    for (std::uint32_t t = op.outputs_begin; t < op.outputs_end; ++t) {
      if (log_.is_view(t)) continue;
      made.push_back(log_.tensors[t].storage);
      bytes += log_.storages[made.back()].bytes;
    }
    if (!make_room(bytes)) return false;
    const std::int64_t ns = noisy(op.cost_ns);
    result_.clock_ns += ns;
    if (first) result_.first_ns += ns;
    std::vector<std::uint32_t> inputs;
    for (const std::uint32_t input : log_.inputs_of(op))
      inputs.push_back(id_of_[log_.tensors[input].storage]);
    for (const std::uint32_t storage : made) {
      if (first) {
        OnlineStorage info;
        info.key = storage;
        info.bytes = log_.storages[storage].bytes;
        info.op_ns = ns;
        info.recomputable = op.inputs_end != op.inputs_begin;
        info.offloadable = options_.link_gbps > 0;
        id_of_[storage] = policy_.made(info, inputs);
        storage_of_.push_back(storage);
        REQUIRE(storage_of_.size() == id_of_[storage] + 1);
        ++names_[storage];
        come(storage);
      } else if (place_[storage] == Place::kAbsent) {
        policy_.returned(id_of_[storage], ns);
        come(storage);
      } else {
        continue;
      }
      unlock(storage);
    }
    for (std::uint32_t t = op.outputs_begin; first && t < op.outputs_end; ++t)
      if (log_.is_view(t)) ++names_[log_.tensors[t].storage];
    for (const std::uint32_t input : log_.inputs_of(op)) unlock(log_.tensors[input].storage);
    return true;
  }

  const DtrLog& log_;
  OnlinePolicy& policy_;
  Random& random_;
  LabOptions options_;
  std::vector<std::uint32_t> id_of_;       // storage -> id of the policy
  std::vector<std::uint32_t> storage_of_;  // and back
  std::vector<Place> place_;
  std::vector<std::uint32_t> names_, locks_;
  std::vector<char> pinned_;
  std::uint64_t held_ = 0;
  std::uint64_t unlocked_ = 0;
  LabResult result_;
};

inline LabResult run_online(const DtrLog& log,
                            OnlinePolicy& policy,
                            Random& random,
                            const LabOptions& options) {
  const LabResult result = OnlineLab(log, policy, random, options).run();
  CHECK(result.peak_bytes <= options.budget_bytes);
  return result;
}

/// The same step at another batch size.
inline DtrLog scaled(DtrLog log, double factor) {
  for (DtrLog::Storage& storage : log.storages)
    storage.bytes = static_cast<std::uint64_t>(static_cast<double>(storage.bytes) * factor);
  for (DtrLog::Op& op : log.ops)
    op.cost_ns = static_cast<std::int64_t>(static_cast<double>(op.cost_ns) * factor);
  return log;
}

}  // namespace spillway::test
