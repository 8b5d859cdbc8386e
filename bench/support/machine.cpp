// SPDX-License-Identifier: Apache-2.0
// See machine.hpp.
#include "bench/support/machine.hpp"

#include <fmt/format.h>

#include <cstdlib>
#include <fstream>
#include <thread>
#include <unistd.h>

namespace spillway::bench {

std::string machine_text() {
  std::string model = "unknown processor";
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) {
      model = line.substr(colon + 2);
      break;
    }
  }
  const double bytes =
      static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  return fmt::format("{} x {}, {:.1f} GiB",
                     std::thread::hardware_concurrency(),
                     model,
                     bytes / static_cast<double>(1 << 30));
}

std::string load_text() {
  double load[3] = {};
  if (getloadavg(load, 3) != 3) return "unknown";
  return fmt::format("{:.2f} {:.2f} {:.2f} on {} cores",
                     load[0],
                     load[1],
                     load[2],
                     std::thread::hardware_concurrency());
}

}  // namespace spillway::bench
