# SPDX-License-Identifier: Apache-2.0
# spillway_tests(): a folder's doctest program, and its test cases as ctest entries with their suite as label.

# What every test source is compiled with. Tests are judges, not products: less optimisation builds them in
# half the time, and fuzzing's coverage marks belong into the code under test only.
function(spillway_test_code target)
  spillway_own_code(${target})
  target_include_directories(${target} PRIVATE "${spillway_SOURCE_DIR}")
  target_compile_definitions(${target} PRIVATE DOCTEST_CONFIG_SUPER_FAST_ASSERTS)
  target_compile_options(${target} PRIVATE
    $<IF:$<BOOL:${SPILLWAY_SANITIZE}>,-O0,$<$<CONFIG:Release>:-O1>>
    $<$<BOOL:${SPILLWAY_FUZZ}>:-fno-sanitize=fuzzer-no-link>)
  target_link_libraries(${target} PRIVATE doctest::doctest fmt::fmt nlohmann_json::nlohmann_json)
endfunction()

# The parts that every test program shares, doctest's own implementation among them, compiled once.
function(spillway_test_support)
  file(GLOB support CONFIGURE_DEPENDS "${spillway_SOURCE_DIR}/tests/support/*.cpp")
  list(FILTER support EXCLUDE REGEX "/fuzz_replay_main\\.cpp$")
  add_library(spillway_test_support OBJECT ${support})
  spillway_test_code(spillway_test_support)
  target_link_libraries(spillway_test_support PRIVATE spillway::integration)
  set(program "")
  if(TARGET spillway)
    set(program "$<TARGET_FILE:spillway>")
  endif()
  set_source_files_properties("${spillway_SOURCE_DIR}/tests/support/paths.cpp" PROPERTIES
    COMPILE_DEFINITIONS "SPILLWAY_SOURCE_DIR=\"${spillway_SOURCE_DIR}\";SPILLWAY_PROGRAM=\"${program}\"")
endfunction()

# spillway_tests(NAME GLOBS pattern... [LINK dep...]): nothing when no file matches.
function(spillway_tests name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "GLOBS;LINK")
  file(GLOB sources CONFIGURE_DEPENDS ${arg_GLOBS})
  if(NOT sources)
    return()
  endif()
  set(target spillway_${name}_tests)
  add_executable(${target} ${sources} $<TARGET_OBJECTS:spillway_test_support>)
  spillway_test_code(${target})
  set_target_properties(${target} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY "${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/tests")
  target_link_libraries(${target} PRIVATE ${arg_LINK})
  if(TARGET spillway AND name STREQUAL "integration")
    add_dependencies(${target} spillway)
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
