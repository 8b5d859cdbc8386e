# SPDX-License-Identifier: Apache-2.0
# Generates core/version.cpp: the project version and the git revision, asked for at every build and
# rewritten only when it changed. spillway_version_source(VARIABLE) names the file,
# the target spillway_revision writes it.

function(spillway_version_source variable)
  set(source "${spillway_BINARY_DIR}/generated/core/version.cpp")
  set(script "${spillway_SOURCE_DIR}/cmake/write_version.cmake")
  add_custom_target(spillway_revision
    COMMAND "${CMAKE_COMMAND}" "-DSOURCE_DIR=${spillway_SOURCE_DIR}" "-DVERSION=${spillway_VERSION}"
            "-DOUTPUT=${source}" -P "${script}"
    BYPRODUCTS "${source}"
    COMMENT "Asking git for the revision"
    VERBATIM)
  set(${variable} "${source}" PARENT_SCOPE)
endfunction()
