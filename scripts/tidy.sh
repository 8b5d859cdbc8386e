#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# clang-tidy over the given files, or all of ours: tidy.sh BUILD_FOLDER SECONDS [FILE...]. A header is checked
# through the file that compiles it alone. Files not reached within SECONDS (0: no limit) are counted and
# named, which is no failure; `./run nightly` has no limit.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
dir=$1 limit_s=$2
shift 2
if (($# == 0)); then
  mapfile -t given < <(git ls-files '*.cpp' '*.hpp')
else
  given=("$@")
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
known=$(sed -n 's/^ *"file": "\(.*\)",\{0,1\}$/\1/p' "$dir/compile_commands.json" | sort -u)
: >"$work/list"
for file in "${given[@]}"; do
  unit="$PWD/$file"
  [[ "$file" == *.hpp ]] && unit="$PWD/$dir/headers_alone/$file.cpp"
  if grep -qxF "$unit" <<<"$known"; then printf '%s\n' "$unit" >>"$work/list"; fi
done

export work dir
end=$((limit_s > 0 ? $(date +%s) + limit_s : 0))
export end
check_one() {
  local log
  if ((end > 0 && $(date +%s) >= end)); then
    printf '%s\n' "$1" >>"$work/late"
    return 0
  fi
  if ! log=$(clang-tidy --quiet -p "$dir" "$1" 2>/dev/null); then
    printf '%s\n' "$log"
    printf '%s\n' "$1" >>"$work/wrong"
  fi
}
export -f check_one
xargs -r -P "$(nproc)" -d '\n' -I{} bash -c 'check_one "$1"' _ {} <"$work/list"

count() { if [[ -f "$1" ]]; then wc -l <"$1"; else echo 0; fi; }
printf 'clang-tidy: %s files checked, %s with findings, %s not reached\n' \
  "$(($(count "$work/list") - $(count "$work/late")))" "$(count "$work/wrong")" "$(count "$work/late")"
if [[ -f "$work/late" ]]; then sed "s#^$PWD/#not reached: #" "$work/late"; fi
[[ ! -f "$work/wrong" ]]
