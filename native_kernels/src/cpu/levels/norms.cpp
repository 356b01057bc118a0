#include "cpu/norms.hpp"

#include "cpu/simd/lanes.hpp"

// Plain loops over doubles: each operation is rounded once, so the compiler's vectors change nothing.
namespace derl::DERL_LEVEL {

namespace {

DERL_LANE double sum_of_halves(double (&lanes)[kLanes]) {
    for (int half = kLanes / 2; half > 0; half /= 2) {
        for (int lane = 0; lane < half; ++lane) {
            lanes[lane] += lanes[lane + half];
        }
    }
    return lanes[0];
}

}  // namespace

void squares_about(const NormBlock& block, const double* centre, double* squares) {
    const std::size_t whole = block.columns / kLanes * kLanes;
    for (std::size_t row = 0; row < block.rows; ++row) {
        const float* x = block.updates + row * block.stride;
        alignas(64) double lanes[kLanes] = {};
        for (std::size_t column = 0; column < whole; column += kLanes) {
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
    for (std::size_t column = 0; column < block.columns; ++column) {
        centre[column] = 0.0;
    }
    for (std::size_t row = 0; row < block.rows; ++row) {
        const float* x = block.updates + row * block.stride;
        const double share = shares[row];
        for (std::size_t column = 0; column < block.columns; ++column) {
            centre[column] += share * static_cast<double>(x[column]);
        }
    }
}

void scale_row(const float* row, double scale, std::size_t columns, float* scaled) {
    for (std::size_t column = 0; column < columns; ++column) {
        scaled[column] = static_cast<float>(static_cast<double>(row[column]) * scale);
    }
}

}  // namespace derl::DERL_LEVEL
