#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everything that needs a CUDA device, within a budget of seconds (600): builds, runs the tests
# labelled gpu, measures the first device, runs the benches named *_gpu_bench and the host costs of
# allocators, with PyTorch's where it is installed. Each part that fails is named at the end; logs and
# JSON lie under bench/results/DEVICE/. Called by ./run gpu.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/common.sh
source scripts/common.sh

budget=${1-600}
[[ "$budget" =~ ^[0-9]+$ ]] || fail "gpu: '$budget' is no number of seconds"
deadline=$((SECONDS + budget))
left() { echo $((deadline > SECONDS ? deadline - SECONDS : 1)); }

device=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)
results=bench/results/$(tr -cs 'A-Za-z0-9\n' '-' <<<"${device,,}" | sed 's/^-//; s/-$//')
mkdir -p "$results"
{
  date -u +%Y-%m-%dT%H:%M:%SZ
  echo "revision: $(git describe --always --dirty --exclude='*' 2>/dev/null || echo unknown)"
  echo "machine: $(machine_line)"
  nvidia-smi --query-gpu=name,driver_version,memory.total,pcie.link.gen.current,pcie.link.width.current,clocks.sm,clocks.mem \
    --format=csv
} | tee "$results/machine.log"

failed=()
# part NAME COMMAND...: its output goes to the screen and to NAME.log; a failure is remembered.
part() {
  local name=$1
  shift
  say "$name ($(left) s left)"
  timeout "$(left)" "$@" 2>&1 | tee "$results/$name.log" || failed+=("$name")
}

configure release build
targets=(spillway spillway_device_tests spillway_kernels_tests)
mapfile -t benches < <(find bench -maxdepth 1 -name '*_gpu_bench.cpp' -printf '%f\n' | sed 's/\.cpp$//' | sort)
benches=(allocator_bench "${benches[@]}")
torch=$(python3 -c 'import importlib.util as u; print(*u.find_spec("torch").submodule_search_locations)' 2>/dev/null || true)
if [[ -n "$torch" && -e "$torch/lib/libc10_cuda.so" ]]; then
  say "PyTorch's allocator takes part: $torch"
  if ! { cmake -B build -DSPILLWAY_TORCH_DIR="$torch" >/dev/null && cmake --build build --target "${benches[@]}"; }; then
    say "its libraries do not fit this build: it does not take part"
    cmake -B build -DSPILLWAY_TORCH_DIR= >/dev/null
  fi
fi
part build cmake --build build --target "${targets[@]}" "${benches[@]}"
if ((${#failed[@]} == 0)); then
  export SPILLWAY_NEED_ALL_TESTS=1 SPILLWAY_NEED_GPU=1 # a test that cannot run here counts as failed
  part conformance ctest --test-dir build -L '^gpu$' --output-on-failure --no-tests=error \
    --output-junit "$PWD/$results/conformance.xml"
  part calibrate build/bin/spillway calibrate -o "$results/calibration.json"
  for bench in "${benches[@]}"; do
    part "$bench" "build/bin/bench/$bench" --json "$results/$bench.json"
  done
fi
say "results: $results, $((SECONDS - deadline + budget)) s"
((${#failed[@]} == 0)) || fail "gpu: failed: ${failed[*]}"
