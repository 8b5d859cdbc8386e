// SPDX-License-Identifier: Apache-2.0
// The one per-thread variable of core/'s threads and locks.
#include "core/host_scheduler.hpp"

namespace spillway {

constinit thread_local HostThreadState t_host_thread_state;

}  // namespace spillway
