# Fails the build where an object of a processor level defines what other code could run.
#   cmake -DNM=nm -DLEVEL=avx2 -DOBJECTS=a.o,b.o -DSTAMP=file -P level_safety.cmake
#
# Of an inline function or template that several objects define, the linker keeps one copy. Were it
# the copy of a high level, a lower processor would die of an illegal instruction; so would one that
# runs a high level's initialisers when the module is loaded.
string(REPLACE "," ";" OBJECTS "${OBJECTS}")
set(complaints "")
foreach(object IN LISTS OBJECTS)
  execute_process(COMMAND "${NM}" -C --defined-only "${object}" OUTPUT_VARIABLE symbols
                  RESULT_VARIABLE status)
  if(status)
    message(FATAL_ERROR "level safety: ${NM} cannot read ${object}")
  endif()
  string(REPLACE ";" "," symbols "${symbols}")
  string(REPLACE "[" "(" symbols "${symbols}")
  string(REPLACE "]" ")" symbols "${symbols}")
  string(REPLACE "\n" ";" symbols "${symbols}")
  foreach(symbol IN LISTS symbols)
    if(symbol MATCHES "_GLOBAL__sub_I|__cxx_global_var_init")
      list(APPEND complaints "${object}: initialises something when it is loaded: ${symbol}")
    elseif(symbol MATCHES "^[0-9a-f]* *[A-Zuvwi] " AND NOT symbol MATCHES "derl::${LEVEL}::")
      list(APPEND complaints "${object}: defines what is not in derl::${LEVEL}: ${symbol}")
    endif()
  endforeach()
endforeach()
if(complaints)
  list(JOIN complaints "\n" text)
  message(FATAL_ERROR "level safety (see src/cpu/dispatch.hpp):\n${text}")
endif()
if(STAMP)
  file(TOUCH "${STAMP}")
endif()
