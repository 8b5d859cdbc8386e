#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# fuzz.sh SECONDS: builds every fuzz target with clang, libFuzzer, ASan and UBSan and gives each an equal
# share of the time, starting from its seed corpus. Inputs found meanwhile stay in build-fuzz/corpus.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/common.sh
source scripts/common.sh
seconds=$1

mapfile -t sources < <(ls tests/fuzz/*_fuzz.cpp 2>/dev/null)
((${#sources[@]} > 0)) || fail "fuzz: no target in tests/fuzz"
names=()
for source in "${sources[@]}"; do
  name=${source##*/}
  names+=("${name%_fuzz.cpp}")
done
configure fuzz build-fuzz
build_target build-fuzz "${names[@]/#/fuzz_}"

share=$((seconds / ${#names[@]}))
((share > 0)) || share=1
failed=()
for name in "${names[@]}"; do
  mkdir -p "build-fuzz/corpus/$name" build-fuzz/findings
  log=build-fuzz/findings/$name.log
  if "build-fuzz/bin/fuzz/$name" -max_total_time="$share" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="build-fuzz/findings/$name-" "build-fuzz/corpus/$name" "tests/fuzz/corpus/$name" \
    </dev/null >"$log" 2>&1; then
    printf 'fuzz %s: %s s, %s runs, no finding\n' "$name" "$share" \
      "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
  else
    tail -n 60 "$log"
    printf 'fuzz %s: FINDING, input kept in build-fuzz/findings\n' "$name"
    failed+=("$name")
  fi
done
((${#failed[@]} == 0)) || fail "fuzz: findings in ${failed[*]}"
