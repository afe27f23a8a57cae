# The library for C and C++, without Python: cmake -S . -B build/library -DFASTRDM_PYTHON=OFF [-DBUILD_SHARED_LIBS=ON]
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(FASTRDM_ABI_VERSION 1) # as in fastrdm.h
set(FASTRDM_CPP fastrdm/_kernels/cpp)

fastrdm_objects(fastrdm_library
  SOURCES ${FASTRDM_CPP}/library/c_api.cpp ${FASTRDM_CPP}/library/c_noise_and_places.cpp ${FASTRDM_CPP}/library/compare.cpp ${FASTRDM_CPP}/library/noise.cpp ${FASTRDM_CPP}/library/searchlights.cpp ${FASTRDM_CPP}/library/ties.cpp ${FASTRDM_CPP}/library/whole_rdm.cpp
  DEFINES FASTRDM_BUILDING FASTRDM_VERSION_TEXT="${PROJECT_VERSION}" $<$<BOOL:${BUILD_SHARED_LIBS}>:FASTRDM_SHARED>)
target_include_directories(fastrdm_library PRIVATE ${FASTRDM_CPP}/include)

# The objects are sources, so that the package names none of them.
set(FASTRDM_OBJECTS $<TARGET_OBJECTS:fastrdm_library> $<TARGET_OBJECTS:fastrdm_common>)
foreach(isa IN LISTS FASTRDM_ISAS)
  list(APPEND FASTRDM_OBJECTS $<TARGET_OBJECTS:${isa}>)
endforeach()
add_library(fastrdm ${FASTRDM_OBJECTS}) # static unless BUILD_SHARED_LIBS
add_library(fastrdm::core ALIAS fastrdm)
set_target_properties(fastrdm PROPERTIES LINKER_LANGUAGE CXX EXPORT_NAME core VERSION ${PROJECT_VERSION} SOVERSION ${FASTRDM_ABI_VERSION})
target_include_directories(fastrdm INTERFACE $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/${FASTRDM_CPP}/include>
                                             $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(fastrdm PRIVATE Threads::Threads)
if(BUILD_SHARED_LIBS)
  target_compile_definitions(fastrdm INTERFACE FASTRDM_SHARED)
  # Hidden visibility leaves the templates of the standard library visible.
  if(APPLE)
    target_link_options(fastrdm PRIVATE "LINKER:-exported_symbol,_fastrdm_*")
  elseif(NOT WIN32)
    target_link_options(fastrdm PRIVATE "LINKER:--version-script=${CMAKE_CURRENT_SOURCE_DIR}/cmake/symbols.map" LINKER:--no-undefined)
    set_target_properties(fastrdm PROPERTIES LINK_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/cmake/symbols.map)
  endif()
endif()

set(FASTRDM_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/fastrdm)
install(TARGETS fastrdm EXPORT fastrdm)
install(DIRECTORY ${FASTRDM_CPP}/include/fastrdm DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT fastrdm FILE fastrdm-targets.cmake NAMESPACE fastrdm:: DESTINATION ${FASTRDM_CMAKE_DIR})
configure_package_config_file(cmake/fastrdm-config.cmake.in ${PROJECT_BINARY_DIR}/fastrdm-config.cmake INSTALL_DESTINATION ${FASTRDM_CMAKE_DIR})
# Before 1.0, a minor version may change C++; the C functions have an ABI version of their own.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/fastrdm-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/fastrdm-config.cmake ${PROJECT_BINARY_DIR}/fastrdm-config-version.cmake DESTINATION ${FASTRDM_CMAKE_DIR})
configure_file(cmake/fastrdm.pc.in ${PROJECT_BINARY_DIR}/fastrdm.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/fastrdm.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
