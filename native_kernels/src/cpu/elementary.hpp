// The elementary functions over arrays, at each processor level: how tests see them under the very
// flags that kernels are compiled with.
#pragma once

#include <cstddef>

#include "cpu/dispatch.hpp"

namespace derl {

enum class Elementary { kExp, kLog, kTanh, kSine, kCosine };

DERL_DECLARE_AT_LEVELS(
    void elementary(Elementary function, const float* x, std::size_t count, float* y);
    void fused_multiply_add(const float* a, const float* b, const float* c, std::size_t count,
                            float* y);)

}  // namespace derl
