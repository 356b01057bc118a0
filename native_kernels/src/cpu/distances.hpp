// Squared distances between all rows of float32[N, P], for Krum and its family.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/dispatch.hpp"

namespace derl {

// Columns whose squared differences are summed in float32, in sixteen lanes, before they join a sum
// in float64.
constexpr int kDistanceBlock = 1024;

namespace cpu {
// updates: float32[rows, parameters]; distances: float64[rows, rows], symmetric, zero diagonal.
void squared_distances(const float* updates, std::size_t rows, std::size_t parameters, int threads,
                       double* distances);
}  // namespace cpu

DERL_DECLARE_AT_LEVELS(
    // Adds what so many columns, at most kDistanceBlock, contribute above the diagonal, to the
    // square tiles numbered first_tile, ..., last_tile - 1.
    // packed: aligned to 64 bytes, for as many rows as a multiple of the tile of kDistanceBlock.
    void add_squared_distances(const float* updates, std::size_t rows, std::size_t stride,
                               std::size_t columns, std::size_t first_tile, std::size_t last_tile,
                               float* packed, double* distances);
    // How many rows a tile has.
    std::size_t distance_tile();)

}  // namespace derl
