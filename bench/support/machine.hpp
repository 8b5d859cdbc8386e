// SPDX-License-Identifier: Apache-2.0
// The machine that a figure was measured on, in words, for the head of every table.
#pragma once

#include <string>

namespace spillway::bench {

/// "2 x Intel(R) Xeon(R) Processor @ 2.50GHz, 23.5 GiB".
std::string machine_text();

/// "0.31 0.52 1.10 on 2 cores": load averages of 1, 5 and 15 minutes.
std::string load_text();

}  // namespace spillway::bench
