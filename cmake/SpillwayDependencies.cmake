# SPDX-License-Identifier: Apache-2.0
# Finds what spillway links. Every missing package is one line that names the Debian package, and all of
# them are listed before the configure stops.

set(SPILLWAY_MISSING "")

macro(spillway_require target package debian)
  if(NOT TARGET ${target})
    find_package(${package} QUIET ${ARGN})
  endif()
  if(NOT TARGET ${target})
    list(APPEND SPILLWAY_MISSING "${package} (Debian: ${debian})")
  endif()
endmacro()

set(THREADS_PREFER_PTHREAD_FLAG ON)
spillway_require(Threads::Threads Threads libc6-dev)
spillway_require(fmt::fmt fmt libfmt-dev)
spillway_require(nlohmann_json::nlohmann_json nlohmann_json nlohmann-json3-dev)
if(SPILLWAY_CLI)
  spillway_require(CLI11::CLI11 CLI11 libcli11-dev)
endif()
spillway_require(ZLIB::ZLIB ZLIB zlib1g-dev)
spillway_require(zstd::libzstd_shared zstd libzstd-dev)
spillway_require(TBB::tbb TBB libtbb-dev)
if(SPILLWAY_TESTS)
  spillway_require(doctest::doctest doctest doctest-dev)
endif()

if(SPILLWAY_MISSING)
  foreach(line IN LISTS SPILLWAY_MISSING)
    message(NOTICE "spillway: missing ${line}")
  endforeach()
  message(FATAL_ERROR "spillway: install the packages named above")
endif()

if(SPILLWAY_BENCH)
  find_package(benchmark QUIET)
endif()

# CUDA: headers only. Nothing links libcuda; it is resolved at run time.
add_library(spillway_cuda_headers INTERFACE)
set(SPILLWAY_HAVE_CUDA OFF)
if(NOT SPILLWAY_CUDA STREQUAL "OFF")
  find_package(CUDAToolkit 12.4 QUIET)
  if(CUDAToolkit_FOUND)
    set(SPILLWAY_HAVE_CUDA ON)
    target_include_directories(spillway_cuda_headers SYSTEM INTERFACE ${CUDAToolkit_INCLUDE_DIRS})
    target_compile_definitions(spillway_cuda_headers INTERFACE SPW_HAVE_CUDA_HEADERS=1)
  elseif(NOT SPILLWAY_CUDA STREQUAL "AUTO")
    message(FATAL_ERROR "spillway: SPILLWAY_CUDA=${SPILLWAY_CUDA} needs a CUDA toolkit, 12.4 or newer")
  endif()
endif()

# Thrust, whose TBB system runs the codecs on the host: the toolkit's, or Debian's.
find_path(SPILLWAY_THRUST_INCLUDE thrust/for_each.h HINTS ${CUDAToolkit_INCLUDE_DIRS} PATH_SUFFIXES cccl)
mark_as_advanced(SPILLWAY_THRUST_INCLUDE)
if(NOT SPILLWAY_THRUST_INCLUDE)
  message(FATAL_ERROR "spillway: missing Thrust (Debian: libthrust-dev, or a CUDA toolkit)")
endif()

# CLP solves the linear programs of the lower bound. Without it the combinatorial bound stands alone.
find_path(SPILLWAY_CLP_INCLUDE coin/Clp_C_Interface.h)
find_library(SPILLWAY_CLP_LIBRARY Clp)
mark_as_advanced(SPILLWAY_CLP_INCLUDE SPILLWAY_CLP_LIBRARY)
set(SPILLWAY_HAVE_CLP OFF)
if(SPILLWAY_CLP_INCLUDE AND SPILLWAY_CLP_LIBRARY)
  set(SPILLWAY_HAVE_CLP ON)
endif()

# liburing reads and writes the disk tier. Without it a thread does.
find_path(SPILLWAY_URING_INCLUDE liburing.h)
find_library(SPILLWAY_URING_LIBRARY uring)
mark_as_advanced(SPILLWAY_URING_INCLUDE SPILLWAY_URING_LIBRARY)
set(SPILLWAY_HAVE_URING OFF)
if(SPILLWAY_URING_INCLUDE AND SPILLWAY_URING_LIBRARY)
  set(SPILLWAY_HAVE_URING ON)
endif()
