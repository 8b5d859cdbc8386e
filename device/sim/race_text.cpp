// SPDX-License-Identifier: Apache-2.0
// Sentences of race reports. The cure depends on where the two sides run (host or stream) and on
// whether one of them makes or ends the memory.
#include "device/sim/race_text.hpp"

#include <array>
#include <charconv>

namespace spillway::sim {
namespace {

std::string number(std::uint64_t value) { return std::to_string(value); }

std::string hex(std::uint64_t value) {
  std::array<char, 16> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value, 16);
  return "0x" + std::string(digits.data(), end.ptr);
}

std::string op_text(const Site& site) { return "op " + number(site.op); }

bool is_driver_call(std::string_view name) {
  return name.size() > 2 && name.substr(0, 2) == "cu" && name[2] >= 'A' && name[2] <= 'Z';
}

const char* does(AccessKind kind) {
  switch (kind) {
    case AccessKind::kRead:
      return "reads";
    case AccessKind::kWrite:
      return "writes";
    case AccessKind::kAllocate:
      return "allocates";
    case AccessKind::kFree:
      return "frees";
    case AccessKind::kMap:
      return "maps";
    case AccessKind::kUnmap:
      return "unmaps";
  }
  return "touches";
}

const char* verb(AccessKind kind) {
  switch (kind) {
    case AccessKind::kRead:
      return "read";
    case AccessKind::kWrite:
      return "write";
    case AccessKind::kAllocate:
      return "allocate";
    case AccessKind::kFree:
      return "free";
    case AccessKind::kMap:
      return "map";
    case AccessKind::kUnmap:
      return "unmap";
  }
  return "touch";
}

bool ends_memory(AccessKind kind) {
  return kind == AccessKind::kFree || kind == AccessKind::kUnmap;
}

/// What is to be done so that `first` happens before `second`.
std::string cure(const Site& first,
                 const std::string& first_agent,
                 bool first_on_stream,
                 const Site& second,
                 const std::string& second_agent,
                 bool second_on_stream) {
  if (first_on_stream && second_on_stream) {
    return "record an event on " + first_agent + " after " + op_text(first) + " and make " +
           second_agent + " wait for it before " + op_text(second);
  }
  if (first_on_stream) {
    return second_agent + " must synchronise with " + first_agent +
           ", or with an event recorded on it after " + op_text(first) + ", before " +
           op_text(second);
  }
  const std::string receiver =
      second_on_stream ? "the thread that enqueues " + op_text(second) : second_agent;
  return first_agent + " must hand over to " + receiver + " between " + op_text(first) + " and " +
         op_text(second) + " (a mutex, an atomic or a thread join)";
}

}  // namespace

std::string agent_text(AgentInfo agent) {
  return (agent.is_stream ? "stream " : "host thread ") + number(agent.id);
}

std::string site_text(const Site& site, AgentInfo agent) {
  std::string text;
  if (is_driver_call(site.call)) {
    text = site.call;
  } else {
    const std::string_view name = site.call;  // those of kernels have no spaces
    const bool is_kernel = agent.is_stream && name.find(' ') == std::string_view::npos;
    const bool is_block = name.substr(0, 6) == "block ";
    text = is_kernel ? "kernel `" : (is_block ? "the pool's `" : "host code `");
    text += site.call;
    text += '`';
  }
  return text + " on " + agent_text(agent) + " (" + op_text(site) + ")";
}

std::string race_text(const Conflict& conflict,
                      AgentInfo earlier,
                      AgentInfo later,
                      std::string_view place) {
  const Site& first = conflict.earlier;
  const Site& second = conflict.later;
  const std::string first_agent = agent_text(earlier);
  const std::string second_agent = agent_text(later);
  const std::string bytes =
      place.empty() ? "[" + hex(conflict.range.begin) + ", " + hex(conflict.range.end) + ")"
                    : std::string(place);

  std::string text = site_text(second, later) + " " + does(second.kind) + " " + bytes;
  if (is_lifetime(first.kind)) {
    text += ", which " + site_text(first, earlier) + " " + does(first.kind);
  } else {
    text += " while " + site_text(first, earlier) + " may still " + verb(first.kind) + " it";
  }
  text += "; nothing orders them: ";

  if (ends_memory(first.kind) && !is_lifetime(second.kind)) {
    // The use was meant to come first: it is the end of the memory that has to wait.
    text += cure(second, second_agent, later.is_stream, first, first_agent, earlier.is_stream);
    text += ", and that needs " + op_text(second) + " to be made before " + op_text(first);
    return text;
  }
  text += cure(first, first_agent, earlier.is_stream, second, second_agent, later.is_stream);
  if (ends_memory(second.kind) && !later.is_stream && earlier.is_stream)
    text += std::string("; ") + second.call + " takes effect at once, it does not wait for streams";

  if (conflict.covered_tick > 0) {
    const std::string covered = number(conflict.covered_tick);
    const std::string needed = number(first.epoch.tick);
    if (earlier.is_stream) {
      text += ". " + second_agent + " did wait for " + first_agent +
              ", but on too old a record: " + "that covers tick " + covered + " of " + first_agent +
              ", and " + op_text(first) + " is tick " + needed;
    } else {
      text += ". The newest step of " + first_agent + " handed over is tick " + covered + ", and " +
              op_text(first) + " is tick " + needed;
    }
  }
  return text;
}

std::string race_text(const Conflict& conflict,
                      const HappensBefore& engine,
                      std::string_view place) {
  return race_text(conflict,
                   engine.agent(conflict.earlier.epoch.agent),
                   engine.agent(conflict.later.epoch.agent),
                   place);
}

}  // namespace spillway::sim
