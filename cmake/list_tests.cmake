# SPDX-License-Identifier: Apache-2.0
# Run after a test program was linked: asks it for its test cases and writes them to OUTPUT as ctest entries.
# A test that cannot run here exits with 77 (tests/support/skip.hpp) and ctest lists it as skipped.

cmake_minimum_required(VERSION 3.25)

execute_process(COMMAND "${PROGRAM}" --list-test-cases --reporters=xml --no-colors=true
                OUTPUT_VARIABLE listing RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${PROGRAM} --list-test-cases failed: ${status}")
endif()

# List separators and brackets would break cmake's lists; they travel as control characters.
string(ASCII 1 semicolon)
string(ASCII 2 left)
string(ASCII 3 right)
string(REPLACE ";" "${semicolon}" listing "${listing}")
string(REPLACE "[" "${left}" listing "${listing}")
string(REPLACE "]" "${right}" listing "${listing}")
string(REGEX MATCHALL "<TestCase [^\n]*" cases "${listing}")

function(restore variable)
  set(text "${${variable}}")
  string(REPLACE "${semicolon}" ";" text "${text}")
  string(REPLACE "${left}" "[" text "${text}")
  string(REPLACE "${right}" "]" text "${text}")
  string(REPLACE "&lt;" "<" text "${text}")
  string(REPLACE "&gt;" ">" text "${text}")
  string(REPLACE "&quot;" "\"" text "${text}")
  string(REPLACE "&apos;" "'" text "${text}")
  string(REPLACE "&amp;" "&" text "${text}")
  set(${variable} "${text}" PARENT_SCOPE)
endfunction()

set(script "")
set(names "")
foreach(case IN LISTS cases)
  if(NOT case MATCHES "<TestCase name=\"([^\"]*)\"")
    continue()
  endif()
  set(name "${CMAKE_MATCH_1}")
  set(suite "")
  if(case MATCHES " testsuite=\"([^\"]*)\"")
    set(suite "${CMAKE_MATCH_1}")
  endif()
  if(name IN_LIST names)
    message(FATAL_ERROR "${PROGRAM}: two test cases are called \"${name}\"")
  endif()
  list(APPEND names "${name}")
  restore(name)
  restore(suite)
  string(REPLACE "\\" "\\\\" filter "${name}")
  string(REPLACE "," "\\," filter "${filter}")
  string(REGEX REPLACE "[^A-Za-z0-9_]+" ";" labels "${suite}")
  string(APPEND script
    "add_test([==[${NAME}: ${name}]==] [==[${PROGRAM}]==] [==[--test-case=${filter}]==])\n"
    "set_tests_properties([==[${NAME}: ${name}]==] PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 900 "
    "FAIL_REGULAR_EXPRESSION \"test cases: +0 \" ENVIRONMENT SPILLWAY_SKIP_CODE=77 LABELS [==[${NAME};${labels}]==])\n")
endforeach()
file(WRITE "${OUTPUT}" "${script}")
