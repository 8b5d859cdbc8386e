# SPDX-License-Identifier: Apache-2.0
# Install rules: headers under include/spillway, libraries, the program, find_package and pkg-config files.

include(CMakePackageConfigHelpers)

get_property(libraries GLOBAL PROPERTY SPILLWAY_LIBRARIES)
install(TARGETS ${libraries} EXPORT spillwayTargets
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(TARGET spillway)
  install(TARGETS spillway RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
foreach(folder IN ITEMS core policy device allocator kernels offload integration)
  install(DIRECTORY ${folder} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/spillway
          FILES_MATCHING PATTERN "*.hpp" PATTERN "*.h")
endforeach()

install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/spillway)
install(EXPORT spillwayTargets NAMESPACE spillway:: DESTINATION ${package_dir})
configure_package_config_file(cmake/spillwayConfig.cmake.in "${PROJECT_BINARY_DIR}/spillwayConfig.cmake"
                              INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file("${PROJECT_BINARY_DIR}/spillwayConfigVersion.cmake"
                                 COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/spillwayConfig.cmake"
              "${PROJECT_BINARY_DIR}/spillwayConfigVersion.cmake"
        DESTINATION ${package_dir})

# pkg-config: prefix is found from the file's own place, so that `cmake --install --prefix` and a moved tree work.
file(RELATIVE_PATH SPILLWAY_PC_TO_PREFIX
     "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig" "${CMAKE_INSTALL_PREFIX}")
set(SPILLWAY_PC_LIBS "")
foreach(library IN LISTS libraries)
  get_target_property(type ${library} TYPE)
  if(type STREQUAL "STATIC_LIBRARY")
    string(PREPEND SPILLWAY_PC_LIBS "-l${library} ")  # users before what they use
  endif()
endforeach()
set(SPILLWAY_PC_REQUIRES "")
if(SPILLWAY_HAVE_CLP)
  string(APPEND SPILLWAY_PC_REQUIRES " clp")
endif()
if(SPILLWAY_HAVE_URING)
  string(APPEND SPILLWAY_PC_REQUIRES " liburing")
endif()
configure_file(cmake/spillway.pc.in "${PROJECT_BINARY_DIR}/spillway.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/spillway.pc" DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
