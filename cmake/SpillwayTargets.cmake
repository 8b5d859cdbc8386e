# SPDX-License-Identifier: Apache-2.0
# spillway_library(): the one way a folder becomes a target, so that flags, include root and names stay equal.

# Language level, warnings and include root for any target of ours.
function(spillway_own_code target)
  target_compile_features(${target} PUBLIC cxx_std_20)
  set_target_properties(${target} PROPERTIES
    CXX_EXTENSIONS OFF
    POSITION_INDEPENDENT_CODE ON)
  target_compile_options(${target} PRIVATE
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion
    # g++ 12 reports overlapping copies inside std::string's own operator+ (gcc bug 105329).
    $<$<AND:$<CXX_COMPILER_ID:GNU>,$<VERSION_LESS:$<CXX_COMPILER_VERSION>,13>>:-Wno-restrict>
    $<$<BOOL:${SPILLWAY_WERROR}>:-Werror>)
endfunction()

# spillway_library(NAME GLOBS pattern... [SOURCES generated...] [PUBLIC dep...] [PRIVATE dep...])
# A static library spillway_NAME (alias spillway::NAME) from the sources that match; with no source yet, an
# INTERFACE library that carries the same edges, so that nothing else has to know.
function(spillway_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "GLOBS;SOURCES;PUBLIC;PRIVATE")
  set(target spillway_${name})
  file(GLOB sources CONFIGURE_DEPENDS LIST_DIRECTORIES false ${arg_GLOBS})
  list(APPEND sources ${arg_SOURCES})
  if(sources)
    add_library(${target} STATIC ${sources})
    set(scope PUBLIC)
    spillway_own_code(${target})
    # Checks the annotations of core/thread_safety.hpp; g++ has no such thing.
    target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>)
    target_link_libraries(${target} PRIVATE ${arg_PRIVATE})
  else()
    add_library(${target} INTERFACE)
    set(scope INTERFACE)
    target_compile_features(${target} INTERFACE cxx_std_20)
  endif()
  add_library(spillway::${name} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  target_include_directories(${target} ${scope}
    "$<BUILD_INTERFACE:${spillway_SOURCE_DIR}>"
    "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/spillway>")
  target_link_libraries(${target} ${scope} ${arg_PUBLIC})
  set_property(GLOBAL APPEND PROPERTY SPILLWAY_LIBRARIES ${target})
endfunction()
