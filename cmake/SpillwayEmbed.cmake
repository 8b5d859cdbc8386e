# SPDX-License-Identifier: Apache-2.0
# Puts data files into a library: spillway_embed(TARGET FOLDER SET FILES...) generates, at build time,
# FOLDER/embedded_SET.hpp with `std::span<const EmbeddedFile> spillway::embedded::SET()`, sorted by name.
# An empty FILES gives an empty span. TARGET without sources is left alone.

function(spillway_embed target folder set)
  get_target_property(type ${target} TYPE)
  if(type STREQUAL "INTERFACE_LIBRARY")
    return()
  endif()
  set(root "${spillway_BINARY_DIR}/generated")
  set(header "${root}/${folder}/embedded_${set}.hpp")
  set(source "${root}/${folder}/embedded_${set}.cpp")
  set(manifest "${root}/${folder}/embedded_${set}.list")
  set(files ${ARGN})
  list(SORT files)
  list(JOIN files "\n" lines)
  file(CONFIGURE OUTPUT "${manifest}" CONTENT "${lines}\n" @ONLY)
  set(script "${spillway_SOURCE_DIR}/cmake/embed_files.cmake")
  add_custom_command(
    OUTPUT "${header}" "${source}"
    COMMAND "${CMAKE_COMMAND}" "-DMANIFEST=${manifest}" "-DFOLDER=${folder}" "-DSET=${set}"
            "-DHEADER=${header}" "-DSOURCE=${source}" -P "${script}"
    DEPENDS ${files} "${manifest}" "${script}"
    COMMENT "Embedding ${folder}/${set}"
    VERBATIM)
  target_sources(${target} PRIVATE "${source}" "${header}")
  target_include_directories(${target} PRIVATE "$<BUILD_INTERFACE:${root}>")
  set_source_files_properties("${source}" PROPERTIES COMPILE_OPTIONS -w SKIP_LINTING ON)
endfunction()
