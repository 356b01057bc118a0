#include "cpu/distances.hpp"

#include <algorithm>

#include "cpu/any/aligned_floats.hpp"
#include "cpu/any/parallel.hpp"

namespace derl::cpu {

void squared_distances(const float* updates, std::size_t rows, std::size_t parameters, int threads,
                       double* distances) {
    std::fill(distances, distances + rows * rows, 0.0);
    const auto add = DERL_AT_LEVEL(add_squared_distances);
    const std::size_t edge = DERL_AT_LEVEL(distance_tile)();
    const std::size_t bands = (rows + edge - 1) / edge;
    // split by pairs, so that each sum runs over the columns in one order
    over_ranges(threads, bands * (bands + 1) / 2, 1,
                [&](std::size_t, std::size_t first, std::size_t last) {
                    AlignedFloats packed(bands * edge * kDistanceBlock);
                    for (std::size_t begin = 0; begin < parameters; begin += kDistanceBlock) {
                        add(updates + begin, rows, parameters,
                            std::min<std::size_t>(parameters - begin, kDistanceBlock), first, last,
                            packed.data(), distances);
                    }
                });
    for (std::size_t row = 0; row < rows; ++row) {
        for (std::size_t other = 0; other < row; ++other) {
            distances[row * rows + other] = distances[other * rows + row];
        }
    }
}

}  // namespace derl::cpu
