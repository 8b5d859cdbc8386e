#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A user's one-line build with pkg-config: build.sh COMPILER PREFIX OUTPUT
set -eu
here=$(cd "$(dirname "$0")" && pwd)
PKG_CONFIG_PATH=$(find "$2" -type d -name pkgconfig)
export PKG_CONFIG_PATH
flags=$(pkg-config --cflags --libs spillway)
# shellcheck disable=SC2086
exec "$1" -std=c++20 "$here/../consumer.cpp" -o "$3" $flags
