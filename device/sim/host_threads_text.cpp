// SPDX-License-Identifier: Apache-2.0
// What HostThreads says about threads that cannot go on, or are still there at the end.
#include "device/sim/host_threads.hpp"

namespace spillway::sim {
namespace {

std::string thread_text(std::uint32_t number, const char* name) {
  return "thread " + std::to_string(number) + " \"" + name + "\"";
}

}  // namespace

std::string HostThreads::describe_waits() const {
  std::string text;
  for (std::uint32_t i = 0; i < count_; ++i) {
    const HostThread& thread = at(i);
    if (thread.ended) continue;
    text += thread_text(i, thread.name);
    if (thread.ready == nullptr) {
      text += " runs";
    } else if (thread.waits_for_thread != kNone) {
      text += " waits for the end of " +
              thread_text(thread.waits_for_thread, at(thread.waits_for_thread).name);
    } else if (thread.waits_for != nullptr && thread.waits_for->kind == ObjectKind::kMutex) {
      const std::uint32_t owner = thread.waits_for->owner;
      text += " waits for mutex \"" + std::string(thread.waits_for->name) + "\"";
      if (owner != kNone)
        text += " held by " + (owner == i ? "itself" : thread_text(owner, at(owner).name));
    } else if (thread.waits_for != nullptr) {
      text += " waits to be notified";
    } else {
      text += " waits for " + std::string(thread.what);
    }
    if (thread.ready != nullptr && thread.deadline_ns != kNoDeadlineNs)
      text += " until " + std::to_string(thread.deadline_ns) + " ns";
    const char* before = "; it holds mutex \"";
    for (const Object& object : objects_) {
      if (object.address == nullptr || object.owner != i || object.kind != ObjectKind::kMutex)
        continue;
      text += before + std::string(object.name) + "\"";
      before = ", \"";
    }
    text += '\n';
  }
  return text;
}

std::string HostThreads::describe_leaks() const {
  std::string text;
  for (std::uint32_t i = 1; i < count_; ++i) {
    if (!at(i).ended && !at(i).is_service) text += thread_text(i, at(i).name) + " has not ended\n";
  }
  for (const Object& object : objects_) {
    if (object.address == nullptr || object.kind != ObjectKind::kMutex || object.owner == kNone)
      continue;
    text += "mutex \"" + std::string(object.name) + "\" is still locked by " +
            thread_text(object.owner, at(object.owner).name) + "\n";
  }
  return text;
}

}  // namespace spillway::sim
