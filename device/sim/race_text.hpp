// SPDX-License-Identifier: Apache-2.0
// Words for a race: who touches what, and which synchronisation is missing. Built only when a race
// is reported, never on the way of an operation.
#pragma once

#include "device/sim/access.hpp"
#include "device/sim/happens_before.hpp"

#include <string>
#include <string_view>

namespace spillway::sim {

/// "stream 7", "host thread 1".
std::string agent_text(AgentInfo agent);

/// "kernel `scale` on stream 7 (op 12)", "cuMemFree on host thread 0 (op 13)". A name that starts
/// like a driver function (cuX...) stands as it is; another one is a kernel on a stream, and an
/// access by the host's own code on a host thread.
std::string site_text(const Site& site, AgentInfo agent);

/// One paragraph without a line break: both sites, the bytes, the missing edge and the calls that
/// make it. `earlier` and `later` describe the agents of the two sites. `place` names the bytes in
/// the words of whoever chose the address space; by default it is the raw range in hexadecimal.
///
///   kernel `scale` on stream 7 (op 12) writes [0x0, 0x100) while cuMemcpyDtoHAsync_v2 on stream 9
///   (op 11) may still read it; nothing orders them: record an event on stream 9 after op 11 and
///   make stream 7 wait for it before op 12
std::string race_text(const Conflict& conflict,
                      AgentInfo earlier,
                      AgentInfo later,
                      std::string_view place = {});

/// The same with the agents looked up.
std::string race_text(const Conflict& conflict,
                      const HappensBefore& engine,
                      std::string_view place = {});

}  // namespace spillway::sim
