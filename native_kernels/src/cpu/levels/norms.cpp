#include "cpu/norms.hpp"

#include "cpu/simd/lanes.hpp"

// Plain loops over doubles: each operation is rounded once, so the compiler's vectors change nothing.
namespace derl::DERL_LEVEL {

namespace {

// The same row's next block, into the second-level cache: the processor does not see by itself that
// each of many rows is read on after a while.
DERL_LANE void ask_ahead(const float* x) { __builtin_prefetch(x + kNormBlock, 0, 2); }

DERL_LANE double sum_of_halves(double (&lanes)[kLanes]) {
    for (int half = kLanes / 2; half > 0; half /= 2) {
        for (int lane = 0; lane < half; ++lane) {
            lanes[lane] += lanes[lane + half];
        }
    }
    return lanes[0];
}

constexpr int kTogether = 4;

// The first `columns` of so many rows, one row after the other.
template <int kRows>
void add_rows(const NormBlock& block, std::size_t row, const double* shares, std::size_t columns,
              double* __restrict__ centre) {
    for (std::size_t column = 0; column < columns; column += kLanes) {
        for (int i = 0; i < kRows; ++i) {
            ask_ahead(block.updates + (row + i) * block.stride + column);
        }
        for (int lane = 0; lane < kLanes; ++lane) {
            double sum = centre[column + lane];
#pragma GCC unroll 4
            for (int i = 0; i < kRows; ++i) {
                const float* x = block.updates + (row + i) * block.stride + column;
                sum += shares[row + i] * static_cast<double>(x[lane]);
            }
            centre[column + lane] = sum;
        }
    }
}

}  // namespace

void squares_about(const NormBlock& block, const double* centre, double* squares) {
    const std::size_t whole = block.columns / kLanes * kLanes;
    for (std::size_t row = 0; row < block.rows; ++row) {
        const float* x = block.updates + row * block.stride;
        alignas(64) double lanes[kLanes] = {};
        for (std::size_t column = 0; column < whole; column += kLanes) {
            ask_ahead(x + column);
            for (int lane = 0; lane < kLanes; ++lane) {
                const double apart = static_cast<double>(x[column + lane]) - centre[column + lane];
                lanes[lane] += apart * apart;
            }
        }
        for (std::size_t column = whole; column < block.columns; ++column) {
            const double apart = static_cast<double>(x[column]) - centre[column];
            lanes[column - whole] += apart * apart;
        }
        squares[row] = sum_of_halves(lanes);
    }
}

void weighted_centre(const NormBlock& block, const double* shares, double* centre) {
    const std::size_t whole = block.columns / kLanes * kLanes;
    for (std::size_t column = 0; column < block.columns; ++column) {
        centre[column] = 0.0;
    }
    std::size_t row = 0;
    for (; row + kTogether <= block.rows; row += kTogether) {
        add_rows<kTogether>(block, row, shares, whole, centre);
    }
    for (; row < block.rows; ++row) {
        add_rows<1>(block, row, shares, whole, centre);
    }
    for (row = 0; row < block.rows; ++row) {
        const float* x = block.updates + row * block.stride;
        for (std::size_t column = whole; column < block.columns; ++column) {
            centre[column] += shares[row] * static_cast<double>(x[column]);
        }
    }
}

void scale_row(const float* row, double scale, std::size_t columns, float* scaled) {
    for (std::size_t column = 0; column < columns; ++column) {
        scaled[column] = static_cast<float>(static_cast<double>(row[column]) * scale);
    }
}

}  // namespace derl::DERL_LEVEL
