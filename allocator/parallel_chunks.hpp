// SPDX-License-Identifier: Apache-2.0
// One job cut into chunks that the caller works off together with whatever threads of a queue have
// time. The caller never waits for a thread that has not begun, so a task may do this on its own
// queue, and a queue without threads does no harm.
#pragma once

#include "core/status.hpp"
#include "core/task_queue.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>

namespace spillway {

/// Calls work(0) .. work(count - 1), each once, on several threads at once; returns when all that
/// were begun have ended. After the first failure no more are begun; returns that failure. `queue`
/// may be null. `work` must not throw.
Status parallel_chunks(TaskQueue* queue,
                       std::uint32_t helpers,
                       std::size_t count,
                       const std::function<Status(std::size_t)>& work);

}  // namespace spillway
