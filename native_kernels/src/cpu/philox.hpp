// Random numbers over arrays of counters, at each processor level: how tests see what kernels draw.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/dispatch.hpp"

namespace derl {

// Words are laid out as [4][count]: the first word of all counters, then the second of all.
DERL_DECLARE_AT_LEVELS(
    void philox_words(const std::int32_t* counters, std::size_t count, std::uint64_t seed,
                      std::int32_t* words);
    // words[4][count] -> float[4][count]
    void uniforms_of_words(const std::int32_t* words, std::size_t count, float* numbers);
    void normals_of_words(const std::int32_t* words, std::size_t count, float* numbers);)

}  // namespace derl
