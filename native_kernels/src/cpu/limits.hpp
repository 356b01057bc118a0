// What this core can do at most, at the processor level in force: loops whose only work is the thing
// that is counted. Callers take the time.
#pragma once

#include <cstddef>

#include "cpu/dispatch.hpp"

namespace derl {

DERL_DECLARE_AT_LEVELS(
    // Independent chains of fused multiply-adds in registers, `rounds` in each. At v2, where fused
    // operations are emulated, a multiplication and an addition each. Returns the floating-point
    // operations done, two for each multiply-add. starts: float[192], all different, or the compiler
    // would do equal lanes once.
    std::size_t multiply_add_chains(std::size_t rounds, float factor, float addend,
                                    const float* starts, float* sink);
    // y = tanh(x) and y = exp(x), `rounds` times; count is a multiple of 64
    void repeat_tanh(const float* x, std::size_t count, std::size_t rounds, float* y);
    void repeat_exp(const float* x, std::size_t count, std::size_t rounds, float* y);
    // Adds all of x up, `rounds` times; count is a multiple of 128.
    float repeat_read(const float* x, std::size_t count, std::size_t rounds);)

}  // namespace derl
