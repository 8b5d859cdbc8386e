// SPDX-License-Identifier: Apache-2.0
// Thrust's TBB system over a counting iterator; an arena limits the threads.
#include "kernels/host/parallel.hpp"

#include <thrust/for_each.h>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/system/cpp/execution_policy.h>
#include <thrust/system/tbb/execution_policy.h>

#include <tbb/info.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <cfenv>

namespace spillway {
namespace {

// A host program may round otherwise or flush subnormals (-ffast-math does): the bits must not
// follow.
class DefaultFloatEnvironment {
 public:
  DefaultFloatEnvironment() {
    std::fegetenv(&saved_);
    std::fesetenv(FE_DFL_ENV);
  }
  DefaultFloatEnvironment(const DefaultFloatEnvironment&) = delete;
  DefaultFloatEnvironment& operator=(const DefaultFloatEnvironment&) = delete;
  ~DefaultFloatEnvironment() { std::fesetenv(&saved_); }

 private:
  std::fenv_t saved_{};
};

struct Call {
  void* context;
  void (*run)(void*, std::uint64_t);

  void operator()(std::uint64_t chunk) const {
    const DefaultFloatEnvironment environment;
    run(context, chunk);
  }
};

}  // namespace

void for_each_chunk(std::uint64_t count,
                    int threads,
                    void* context,
                    void (*run)(void* context, std::uint64_t chunk)) {
  const thrust::counting_iterator<std::uint64_t> first(0);
  const Call call{context, run};
  if (threads == 1 || count == 1) {
    thrust::for_each_n(thrust::cpp::par, first, count, call);
    return;
  }
  // More than there are processors, and TBB writes a warning into the host's stderr.
  const int most = tbb::info::default_concurrency();
  tbb::task_arena arena(threads <= 0 ? most : std::min(threads, most));
  arena.execute([&] { thrust::for_each_n(thrust::tbb::par, first, count, call); });
}

}  // namespace spillway
