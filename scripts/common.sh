# SPDX-License-Identifier: Apache-2.0
# Shared by ./run, .ci/run and the other scripts (sourced, from the repository root): what has to be
# installed, how a preset is configured and built, and how the tests are run.
# shellcheck shell=bash

build_packages=(g++ cmake ninja-build git libfmt-dev nlohmann-json3-dev libcli11-dev zlib1g-dev libzstd-dev libtbb-dev libthrust-dev liburing-dev coinor-libclp-dev doctest-dev)
test_packages=(pkg-config python3 libbenchmark-dev)
browser_packages=(chromium)
clang_packages=(clang libclang-rt-14-dev)
lint_packages=(clang-format clang-tidy)

say() { printf '== %s\n' "$*"; }
fail() {
  printf 'run: %s\n' "$*" >&2
  exit 1
}

# Names those of the given Debian packages that are not installed; one look-up for all of them.
missing_packages() {
  local installed
  # dpkg-query fails when it does not know one of them, which is what is asked here.
  installed=$( (dpkg-query -W -f='${db:Status-Abbrev}${Package}\n' "$@" 2>/dev/null || true) | sed -n 's/^ii //p' | sort -u)
  comm -23 <(printf '%s\n' "$@" | sort -u) <(printf '%s\n' "$installed")
}

# Installs the given packages where they are missing, after saying so. Away from Debian: one line for
# each thing that is not there, and stop.
need_packages() {
  if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    need_tools "$@"
    return
  fi
  local missing
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]} == 0)) && return
  local as_root=()
  if [[ $EUID -ne 0 ]]; then
    if ! command -v sudo >/dev/null; then
      printf 'missing: Debian package %s\n' "${missing[@]}" >&2
      fail "neither root nor sudo here; as root: apt-get install ${missing[*]}"
    fi
    as_root=(sudo)
  fi
  say "installing from Debian: ${missing[*]}"
  "${as_root[@]}" apt-get update -qq </dev/null || fail "apt-get update failed"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    "${missing[@]}" </dev/null >/dev/null || fail "apt-get install failed: ${missing[*]}"
}

# The same needs on a system without apt: looked for as programs on the path and as headers.
need_tools() {
  local package what missing=0
  for package in "$@"; do
    case "$package" in
      g++) what="program c++" ;;
      ninja-build) what="program ninja" ;;
      cmake | git | pkg-config | python3 | clang | clang-format | clang-tidy | chromium) what="program $package" ;;
      libfmt-dev) what="header fmt/format.h" ;;
      nlohmann-json3-dev) what="header nlohmann/json.hpp" ;;
      libcli11-dev) what="header CLI/CLI.hpp" ;;
      zlib1g-dev) what="header zlib.h" ;;
      libzstd-dev) what="header zstd.h" ;;
      libtbb-dev) what="header oneapi/tbb.h" ;;
      coinor-libclp-dev) what="header coin/Clp_C_Interface.h" ;;
      doctest-dev) what="header doctest/doctest.h" ;;
      libbenchmark-dev) what="header benchmark/benchmark.h" ;;
      *) continue ;; # part of another one outside Debian
    esac
    if [[ "$what" == program* ]]; then
      command -v "${what#program }" >/dev/null && continue
    elif command -v c++ >/dev/null; then
      c++ -std=c++20 -fsyntax-only -x c++ -include "${what#header }" /dev/null 2>/dev/null && continue
    elif [[ -e /usr/include/${what#header } || -e /usr/local/include/${what#header } ]]; then
      continue
    fi
    printf 'missing: %s (Debian package %s)\n' "$what" "$package" >&2
    missing=1
  done
  ((missing == 0)) || fail "install what is named above; packages are only installed on Debian"
}

# configure PRESET FOLDER [cmake option...]: once; later builds configure themselves when a CMake file changed.
configure() {
  local preset=$1 dir=$2
  shift 2
  local home=''
  if [[ -f "$dir/build.ninja" ]]; then
    home=$(sed -n 's/^CMAKE_HOME_DIRECTORY:INTERNAL=//p' "$dir/CMakeCache.txt")
  fi
  [[ "$home" == "$PWD" ]] && return
  cmake --fresh --preset "$preset" -B "$dir" "$@" >"$dir.configure.log" 2>&1 || {
    cat "$dir.configure.log" >&2
    rm -f "$dir.configure.log"
    fail "configuring $dir failed"
  }
  mv "$dir.configure.log" "$dir/configure.log"
}

# build_target FOLDER TARGET...
build_target() {
  local dir=$1
  shift
  cmake --build "$dir" --target "$@" || fail "building $dir failed"
}

# run_ctest FOLDER [ctest option...]: the last lines are ctest's own summary.
run_ctest() {
  local dir=$1
  shift
  ctest --test-dir "$dir" --output-on-failure --no-tests=error -j "$(nproc)" "$@"
}

machine_line() {
  printf '%s x %s, %s GiB' "$(nproc)" \
    "$(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -n 1)" \
    "$(awk '/^MemTotal/ {printf "%.0f", $2 / 1048576}' /proc/meminfo)"
}

have_cuda_device() { command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU '; }
