// SPDX-License-Identifier: Apache-2.0
// The functions of the simulated driver, one per member of the table, and the table itself.
#pragma once

#include "device/driver.hpp"

namespace spillway::sim::api {

#define SPW_SIM_DECLARE(member, symbol, version, parameters) cu::Result member parameters;
SPW_DRIVER_FUNCTIONS(SPW_SIM_DECLARE)
#undef SPW_SIM_DECLARE

/// All members set. Calls go to the engine of the calling thread (current_engine()).
const Driver& table();

}  // namespace spillway::sim::api
