#include "cpu/distances.hpp"

#include "cpu/simd/lanes.hpp"

namespace derl::DERL_LEVEL {

namespace {

using R = Register;

// Rows and columns of a tile: its sums stay in registers.
#if defined(DERL_LEVEL_AVX512)
constexpr int kTile = 4;
#elif defined(DERL_LEVEL_AVX2)
constexpr int kTile = 3;
#else
constexpr int kTile = 2;
#endif

// Rows of some columns, packed so that a tile reads on: of each band of kTile rows, sixteen columns of
// its first row, of its second, ..., the next sixteen columns, ... Columns that are missing are zero.
struct Block {
    const float* packed;
    std::size_t rows;
    std::size_t columns;  // a multiple of sixteen
    double* distances;
};

void pack(const float* updates, std::size_t rows, std::size_t stride, std::size_t columns,
          float* packed) {
    const std::size_t whole = columns / kLanes * kLanes;
    for (std::size_t row = 0; row < rows; ++row) {
        const float* from = updates + row * stride;
        const std::size_t padded = (columns + kLanes - 1) / kLanes * kLanes;
        float* to = packed + row / kTile * kTile * padded + row % kTile * kLanes;
        for (std::size_t column = 0; column < whole; column += kLanes, to += kTile * kLanes) {
            F::load(from + column).store(to);
        }
        if (whole < columns) {
            load_first(from + whole, static_cast<int>(columns - whole)).store(to);
        }
    }
}

// totals[k] = sum_lanes(x[k])
DERL_LANE void sum_lanes_of_sixteen(const F (&x)[kLanes], float (&totals)[kLanes]) {
#if defined(DERL_LEVEL_AVX512)
    // The same halving as in sum_lanes, two vectors sharing a register after each step. Of vectors
    // in this order the sums come out in ascending order.
    constexpr int kOrder[kLanes] = {0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15};
    __m512 halves[8], quarters[4], pairs[2];
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) {
        const __m512 a = x[kOrder[k]].v, b = x[kOrder[k + 8]].v;
        halves[k] = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xEE));
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
        const __m512 a = halves[k], b = halves[k + 4];
        quarters[k] = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xDD));
    }
#pragma GCC unroll 2
    for (int k = 0; k < 2; ++k) {
        const __m512 a = quarters[k], b = quarters[k + 2];
        pairs[k] = _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xEE));
    }
    const __m512 sums = _mm512_add_ps(_mm512_shuffle_ps(pairs[0], pairs[1], 0x88),
                                      _mm512_shuffle_ps(pairs[0], pairs[1], 0xDD));
    _mm512_storeu_ps(totals, sums);
#else
    for (int k = 0; k < kLanes; ++k) {
        totals[k] = sum_lanes(x[k]);
    }
#endif
}

// Sums of squared differences of kRows and kOthers rows over the block's columns: lane l has the
// columns l, l + 16, ... Of a tile on the diagonal only what is above it.
template <int kRows, int kOthers, bool kDiagonal>
void add_tile(const Block& block, std::size_t row, std::size_t other, const float* ahead) {
    const float* rows = block.packed + row * block.columns;
    const float* others = block.packed + other * block.columns;
    alignas(64) float parts[kRows][kOthers][kLanes];
    R sum[kRows][kOthers];
    for (int part = 0; part < kLanes; part += R::kLanes) {
#pragma GCC unroll 4
        for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
            for (int j = 0; j < kOthers; ++j) {
                sum[i][j] = R(0.0f);
            }
        }
        for (std::size_t column = 0; column < block.columns; column += kLanes) {
            const float* mine = rows + column * kTile + part;
            const float* theirs = others + column * kTile + part;
            __builtin_prefetch(ahead + column, 0, 2);
            R opposite[kOthers];
#pragma GCC unroll 4
            for (int j = 0; j < kOthers; ++j) {
                opposite[j] = R::load(theirs + j * kLanes);
            }
#pragma GCC unroll 4
            for (int i = 0; i < kRows; ++i) {
                const R own = R::load(mine + i * kLanes);
#pragma GCC unroll 4
                for (int j = kDiagonal ? i + 1 : 0; j < kOthers; ++j) {
                    const R apart = own - opposite[j];
                    sum[i][j] = fma(apart, apart, sum[i][j]);
                }
            }
        }
        if constexpr (R::kLanes < kLanes) {
#pragma GCC unroll 4
            for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
                for (int j = 0; j < kOthers; ++j) {
                    sum[i][j].store(parts[i][j] + part);
                }
            }
        }
    }
    F lanes[kLanes];
#pragma GCC unroll 16
    for (int k = 0; k < kLanes; ++k) {
        const int i = k / kOthers, j = k % kOthers;
        if constexpr (R::kLanes < kLanes) {
            lanes[k] = i < kRows ? F::load(parts[i % kRows][j]) : F(0.0f);
        } else {
            lanes[k] = i < kRows ? sum[i % kRows][j] : F(0.0f);
        }
    }
    float totals[kLanes];
    sum_lanes_of_sixteen(lanes, totals);
    for (int i = 0; i < kRows; ++i) {
        for (int j = kDiagonal ? i + 1 : 0; j < kOthers; ++j) {
            block.distances[(row + i) * block.rows + other + j] +=
                static_cast<double>(totals[i * kOthers + j]);
        }
    }
}

using AddTile = void (*)(const Block&, std::size_t, std::size_t, const float*);
constexpr AddTile kWholeTiles[] = {&add_tile<kTile, 1, false>, &add_tile<kTile, 2, false>,
#if defined(DERL_LEVEL_AVX512) || defined(DERL_LEVEL_AVX2)
                                   &add_tile<kTile, 3, false>,
#endif
#if defined(DERL_LEVEL_AVX512)
                                   &add_tile<kTile, 4, false>,
#endif
};
constexpr AddTile kDiagonalTiles[] = {&add_tile<1, 1, true>, &add_tile<2, 2, true>,
#if defined(DERL_LEVEL_AVX512) || defined(DERL_LEVEL_AVX2)
                                      &add_tile<3, 3, true>,
#endif
#if defined(DERL_LEVEL_AVX512)
                                      &add_tile<4, 4, true>,
#endif
};

}  // namespace

std::size_t distance_tile() { return kTile; }

void add_squared_distances(const float* updates, std::size_t rows, std::size_t stride,
                           std::size_t columns, std::size_t first_tile, std::size_t last_tile,
                           float* packed, double* distances) {
    pack(updates, rows, stride, columns, packed);
    const Block block{packed, rows, (columns + kLanes - 1) / kLanes * kLanes, distances};
    std::size_t tile = 0;
    for (std::size_t row = 0; row < rows; row += kTile) {
        for (std::size_t other = row; other < rows; other += kTile, ++tile) {
            if (tile < first_tile || tile >= last_tile) {
                continue;
            }
            const std::size_t width = rows - other < kTile ? rows - other : kTile;
            // each tile asks for one row of the next columns: there are more tiles than rows where
            // the processor would lose sight of so many rows by itself
            const float* ahead = updates + (tile < rows ? tile * stride : 0) + columns;
            (row == other ? kDiagonalTiles : kWholeTiles)[width - 1](block, row, other, ahead);
        }
    }
}

}  // namespace derl::DERL_LEVEL
