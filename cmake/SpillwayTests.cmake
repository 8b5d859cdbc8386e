# SPDX-License-Identifier: Apache-2.0
# spillway_tests(): a folder's doctest program, and its test cases as ctest entries with their suite as label.

# spillway_tests(NAME GLOBS pattern... [LINK dep...]): nothing when no file matches.
function(spillway_tests name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "GLOBS;LINK")
  file(GLOB sources CONFIGURE_DEPENDS ${arg_GLOBS})
  if(NOT sources)
    return()
  endif()
  set(target spillway_${name}_tests)
  file(GLOB support CONFIGURE_DEPENDS "${spillway_SOURCE_DIR}/tests/support/*.cpp")
  list(FILTER support EXCLUDE REGEX "_main\\.cpp$")
  add_executable(${target} ${sources} ${support} "${spillway_SOURCE_DIR}/tests/support/doctest_main.cpp")
  spillway_own_code(${target})
  set_target_properties(${target} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY "${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/tests")
  target_include_directories(${target} PRIVATE "${spillway_SOURCE_DIR}")
  target_compile_definitions(${target} PRIVATE
    SPILLWAY_SOURCE_DIR="${spillway_SOURCE_DIR}"
    SPILLWAY_BINARY_DIR="${spillway_BINARY_DIR}")
  target_link_libraries(${target} PRIVATE
    ${arg_LINK} doctest::doctest fmt::fmt nlohmann_json::nlohmann_json)
  if(TARGET spillway)
    add_dependencies(${target} spillway)
    target_compile_definitions(${target} PRIVATE SPILLWAY_PROGRAM="$<TARGET_FILE:spillway>")
  endif()

  set(list "${CMAKE_CURRENT_BINARY_DIR}/${target}.cmake")
  add_custom_command(TARGET ${target} POST_BUILD
    COMMAND "${CMAKE_COMMAND}" "-DPROGRAM=$<TARGET_FILE:${target}>" "-DNAME=${name}" "-DOUTPUT=${list}"
            -P "${spillway_SOURCE_DIR}/cmake/list_tests.cmake"
    BYPRODUCTS "${list}"
    VERBATIM)
  set(include "${CMAKE_CURRENT_BINARY_DIR}/${target}_include.cmake")
  file(WRITE "${include}" "if(EXISTS \"${list}\")\n  include(\"${list}\")\nelse()\n"
                          "  add_test(\"${name}: not built\" ${target}_not_built)\nendif()\n")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES "${include}")
endfunction()
