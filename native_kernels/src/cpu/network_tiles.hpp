// Products of matrices in register tiles. Each element of the result is one chain of fused
// operations over the inner dimension in order, so that its bits do not depend on the tile's shape.
#pragma once

#include <cstddef>

#include "cpu/simd/lanes.hpp"

namespace derl::DERL_LEVEL {

// Rows x vectors of a tile: as many accumulators as there are registers to spare.
#if defined(DERL_LEVEL_AVX512)
constexpr int kTileRows = 4, kTileVectors = 4;
#elif defined(DERL_LEVEL_AVX2)
constexpr int kTileRows = 6, kTileVectors = 1;
#else
constexpr int kTileRows = 2, kTileVectors = 1;
#endif

// Element (r, k) at data[r * row + k * inner]
struct Left {
    const float* data;
    std::ptrdiff_t row, inner;
};
// Vector v of line k at data[k * line + v * 16]
struct Right {
    const float* data;
    std::ptrdiff_t line;
};

// done(row, vector, sum over k < depth of left(row, k) * right(k, vector), from start on)
template <int kRows, int kVectors, class Done>
DERL_LANE void tile(Left left, Right right, int depth, const float* start, int row, int vector,
                    const Done& done) {
    F sums[kRows][kVectors];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) {
            sums[r][v] = start != nullptr ? F::load(start + (vector + v) * kLanes) : F(0.0f);
        }
    }
    const float* a = left.data + row * left.row;
    const float* b = right.data + vector * kLanes;
    for (int k = 0; k < depth; ++k, a += left.inner, b += right.line) {
        F line[kVectors];
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) {
            line[v] = F::load(b + v * kLanes);
        }
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
            const F factor(a[r * left.row]);
#pragma GCC unroll 8
            for (int v = 0; v < kVectors; ++v) {
                sums[r][v] = fma(factor, line[v], sums[r][v]);
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) {
            done(row + r, vector + v, sums[r][v]);
        }
    }
}

template <int kRows, int kVectors, class Done>
DERL_LANE void tiles_of_rows(Left left, Right right, int depth, const float* start, int row,
                             int rows, int vector, const Done& done) {
    for (; row + kRows <= rows; row += kRows) {
        tile<kRows, kVectors>(left, right, depth, start, row, vector, done);
    }
    if constexpr (kRows > 1) {
        if (row < rows) {
            tiles_of_rows<kRows - 1, kVectors>(left, right, depth, start, row, rows, vector, done);
        }
    }
}

// All elements of a product of `rows` rows and `vectors` vectors.
template <int kVectors = kTileVectors, class Done>
DERL_LANE void product(Left left, Right right, int depth, const float* start, int rows,
                       int vectors, const Done& done, int vector = 0) {
    for (; vector + kVectors <= vectors; vector += kVectors) {
        tiles_of_rows<kTileRows, kVectors>(left, right, depth, start, 0, rows, vector, done);
    }
    if constexpr (kVectors > 1) {
        if (vector < vectors) {
            product<kVectors - 1>(left, right, depth, start, rows, vectors, done, vector);
        }
    }
}

}  // namespace derl::DERL_LEVEL
