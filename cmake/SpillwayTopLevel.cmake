# SPDX-License-Identifier: Apache-2.0
# Defaults that only make sense when spillway is built for itself, never inside somebody else's project:
# build type, output folders, compiler cache, sanitizers.

get_property(multi_config GLOBAL PROPERTY GENERATOR_IS_MULTI_CONFIG)
if(NOT multi_config AND NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")

if(NOT CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(SPILLWAY_CCACHE ccache)
  mark_as_advanced(SPILLWAY_CCACHE)
  if(SPILLWAY_CCACHE)
    set(CMAKE_CXX_COMPILER_LAUNCHER "${SPILLWAY_CCACHE}")
  endif()
endif()

if(SPILLWAY_SANITIZE)
  list(JOIN SPILLWAY_SANITIZE "," sanitizers)
  add_compile_options(-fsanitize=${sanitizers} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${sanitizers})
endif()

if(SPILLWAY_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "SPILLWAY_FUZZ needs clang (libFuzzer); found ${CMAKE_CXX_COMPILER_ID}")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
