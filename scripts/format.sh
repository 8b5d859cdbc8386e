#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Formats every C++ file that git tracks; with --check it only names the files that are not formatted.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mapfile -t files < <(git ls-files '*.hpp' '*.h' '*.cpp' '*.cu' '*.cuh')
if ((${#files[@]} == 0)); then
  echo "format: git lists no source file here" >&2
  exit 1
fi
if [[ "${1-}" != --check ]]; then
  clang-format -i "${files[@]}"
  exit
fi
wrong=0
for file in "${files[@]}"; do
  if ! clang-format --dry-run --Werror "$file" 2>/dev/null; then
    printf '%s: not formatted (run scripts/format.sh)\n' "$file"
    wrong=1
  fi
done
exit "$wrong"
