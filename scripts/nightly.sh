#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The long matrix behind ./run nightly. Every stage runs whatever the earlier ones did; the table at the end
# names each with its result, and the exit code is that of the worst.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=scripts/common.sh
source scripts/common.sh
need_packages "${build_packages[@]}" "${test_packages[@]}" "${browser_packages[@]}" "${clang_packages[@]}" \
  "${lint_packages[@]}"
export CI=1

results=()
stage() {
  local name=$1 begin=$SECONDS outcome=ok
  shift
  say "$name"
  ("$@") || outcome=FAILED
  results+=("$(printf '%-40s %-7s %5d s' "$name" "$outcome" "$((SECONDS - begin))")")
}

# build_and_test PRESET FOLDER [cmake option...]
build_and_test() {
  configure "$@"
  build_target "$2" all
  run_ctest "$2"
}

stage "format" scripts/format.sh --check
stage "g++, release" build_and_test release build
stage "device pool, 10 million operations" env SPILLWAY_MODEL_OPERATIONS=10000000 \
  build/bin/tests/spillway_allocator_tests -tc='the device pool agrees with an interval map*'
stage "the planner's law, 100,000 budgets" env SPILLWAY_LAW_STEPS=16000 \
  build/bin/tests/spillway_policy_tests -tc='plans of tiny steps keep the law*'
stage "every fp32 value through int8 and fp8" env SPILLWAY_SWEEP_STRIDE=1 \
  build/bin/tests/spillway_kernels_tests -tc='int8 and fp8 codes of fp32 values*'
stage "g++, debug" build_and_test dev build-dev
stage "g++, no CUDA toolkit" build_and_test no-cuda build-no-cuda
stage "clang++, release" build_and_test release build-clang -DCMAKE_CXX_COMPILER=clang++
stage "clang++, no CUDA toolkit" build_and_test no-cuda build-clang-no-cuda -DCMAKE_CXX_COMPILER=clang++
if [[ -x /usr/local/cuda/bin/nvcc ]] || command -v nvcc >/dev/null; then
  stage "g++, CUDA toolkit required" build_and_test release build-cuda -DSPILLWAY_CUDA=ON
else
  results+=("$(printf '%-40s %-7s' "g++, CUDA toolkit required" "no toolkit here")")
fi
stage "g++, ASan and UBSan" build_and_test asan build-asan
stage "g++, TSan" build_and_test tsan build-tsan
stage "clang++, ASan and UBSan" build_and_test fuzz build-fuzz
stage "fuzz, 30 minutes" scripts/fuzz.sh 1800
stage "clang-tidy, all files" scripts/tidy.sh build-fuzz 0

say "nightly"
printf '%s\n' "${results[@]}"
! printf '%s\n' "${results[@]}" | grep -q FAILED
