// Norms of updates, and means of them that a distance decides: float32[N, P] with sums in float64.
//
// A sum of squares runs over blocks of kNormBlock columns: in a block lane l of sixteen adds the
// columns l, l + 16, ... one after the other, the lanes are added as halves (l and l + 8, then
// l + 4, ...), and the blocks' sums are added in order. Nothing is fused.
#pragma once

#include <cstddef>

#include "cpu/dispatch.hpp"

namespace derl {

constexpr int kNormBlock = 1024;

namespace cpu {

// norms: float64[rows]
void norms(const float* updates, std::size_t rows, std::size_t parameters, int threads,
           double* norms);

// clipped: float32[rows, parameters], each row times min(1, limit / norm)
void clip_norms(const float* updates, const double* norms, double limit, std::size_t rows,
                std::size_t parameters, int threads, float* clipped);

struct GeometricMedianSettings {
    int iterations;
    double smoothing;  // a length; not above 0: kRelativeSmoothing of the median distance at the start
    int threads;
};
constexpr double kRelativeSmoothing = 1e-6;
constexpr double kLeastSmoothing = 1e-30;

// shares: float64[rows], summing to about 1. centre: float64[parameters], the start, then the
// result. False where a distance is not finite.
bool geometric_median(const float* updates, const double* shares, std::size_t rows,
                      std::size_t parameters, const GeometricMedianSettings& settings,
                      double* centre);

}  // namespace cpu

// At most kNormBlock columns of float32[rows, stride].
struct NormBlock {
    const float* updates;
    std::size_t rows;
    std::size_t stride;
    std::size_t columns;
};

DERL_DECLARE_AT_LEVELS(
    // squares[row]: the sum of squares of the row's columns less centre's
    void squares_about(const NormBlock& block, const double* centre, double* squares);
    // centre[column] = shares[0] * row 0 + shares[1] * row 1 + ..., from zero
    void weighted_centre(const NormBlock& block, const double* shares, double* centre);
    void scale_row(const float* row, double scale, std::size_t columns, float* scaled);)

}  // namespace derl
