# SPDX-License-Identifier: Apache-2.0
# One packaging test: WAY is install, find_package, pkg_config or fetch_content. Fails unless the consumer
# was built outside the tree and printed the version.

cmake_minimum_required(VERSION 3.25)

function(must)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE status OUTPUT_VARIABLE text ERROR_VARIABLE text)
  if(NOT status EQUAL 0)
    list(JOIN ARGV " " line)
    message(FATAL_ERROR "${line}\nexited with ${status}:\n${text}")
  endif()
  set(output "${text}" PARENT_SCOPE)
endfunction()

set(dir "${WORK}/${WAY}")
set(consumer "${dir}/consumer")

if(WAY STREQUAL "install")
  file(REMOVE_RECURSE "${PREFIX}")
  must("${CMAKE_COMMAND}" --install "${SPILLWAY_BUILD}" --prefix "${PREFIX}")
  if(NOT EXISTS "${PREFIX}/include/spillway/core/status.hpp")
    message(FATAL_ERROR "core/status.hpp was not installed under include/spillway")
  endif()
  if(HAS_PROGRAM)
    must("${PREFIX}/bin/spillway" --version)
    if(NOT output MATCHES "${VERSION}")
      message(FATAL_ERROR "the installed program printed: ${output}")
    endif()
  endif()
  return()
elseif(WAY STREQUAL "pkg_config")
  file(MAKE_DIRECTORY "${dir}")
  must("${HERE}/pkg_config/build.sh" "${COMPILER}" "${PREFIX}" "${consumer}")
else()
  must("${CMAKE_COMMAND}" -S "${HERE}/${WAY}" -B "${dir}" -G "${GENERATOR}" -DCMAKE_BUILD_TYPE=Debug
       "-DCMAKE_CXX_COMPILER=${COMPILER}" "-DCMAKE_CXX_COMPILER_LAUNCHER=${LAUNCHER}"
       "-DCMAKE_PREFIX_PATH=${PREFIX}" "-DSPILLWAY_SOURCE=${SPILLWAY_SOURCE}")
  must("${CMAKE_COMMAND}" --build "${dir}" --target consumer)
endif()

must("${consumer}")
if(NOT output STREQUAL "spillway ${VERSION}\n")
  message(FATAL_ERROR "the consumer printed: ${output}")
endif()
