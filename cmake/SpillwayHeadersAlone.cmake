# SPDX-License-Identifier: Apache-2.0
# The target spillway_headers_alone compiles every header of ours on its own, twice included; it is built
# only when asked for, which is what the ctest entry "build: every header compiles alone" does.

function(spillway_headers_alone)
  set(sources "")
  set(needed "")
  foreach(folder IN ITEMS core policy device allocator kernels offload integration tests bench)
    file(GLOB_RECURSE headers CONFIGURE_DEPENDS RELATIVE "${spillway_SOURCE_DIR}"
         "${spillway_SOURCE_DIR}/${folder}/*.hpp")
    list(FILTER headers EXCLUDE REGEX "^device/cuda/|^integration/preload/|^tests/packaging/")
    foreach(header IN LISTS headers)
      set(source "${spillway_BINARY_DIR}/headers_alone/${header}.cpp")
      file(CONFIGURE OUTPUT "${source}" @ONLY CONTENT
           "#include \"@header@\"\n#include \"@header@\"  // twice: the guard holds\n")
      list(APPEND sources "${source}")
    endforeach()
  endforeach()
  add_library(spillway_headers_alone OBJECT EXCLUDE_FROM_ALL ${sources})
  spillway_own_code(spillway_headers_alone)
  target_compile_options(spillway_headers_alone PRIVATE -O0)
  target_include_directories(spillway_headers_alone PRIVATE "${spillway_SOURCE_DIR}")
  target_link_libraries(spillway_headers_alone PRIVATE
    spillway::integration doctest::doctest fmt::fmt nlohmann_json::nlohmann_json
    ZLIB::ZLIB zstd::libzstd_shared
    $<TARGET_NAME_IF_EXISTS:CLI11::CLI11>)
  # Sanitizer builds would only compile the same headers again.
  if(NOT SPILLWAY_SANITIZE AND NOT SPILLWAY_FUZZ)
    add_test(NAME "build: every header compiles alone"
             COMMAND "${CMAKE_COMMAND}" --build "${CMAKE_BINARY_DIR}" --target spillway_headers_alone)
    set_tests_properties("build: every header compiles alone" PROPERTIES
      LABELS build TIMEOUT 900 RUN_SERIAL ON)
  endif()
endfunction()
