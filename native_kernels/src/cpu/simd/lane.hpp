// Every operation on lanes is inlined: a copy that the linker shared between processor levels would
// run instructions that the processor may not have.
#pragma once

#define DERL_LANE __attribute__((always_inline)) inline
