#include "cpu/moments.hpp"

#include <algorithm>

#include <derl/moments.hpp>

#include "cpu/float_environment.hpp"

namespace derl::cpu {

double merge_moments(const double* means, const double* variances, const double* counts,
                     std::size_t sets, std::size_t columns, double* mean, double* variance) {
    const IeeeFloats modes;
    double total = 0.0;
    for (std::size_t set = 0; set < sets; ++set) {
        total += counts[set];
    }
    for (std::size_t column = 0; column < columns; ++column) {
        Moments<double> merged;
        for (std::size_t set = 0; set < sets; ++set) {
            const std::size_t index = set * columns + column;
            merged.merge({means[index], variances[index], counts[set]});
        }
        mean[column] = merged.mean;
        variance[column] = merged.variance;
    }
    return total;
}

namespace {

template <class Sample>
void moments_of(const Sample* samples, std::size_t rows, std::size_t columns, double* mean,
                double* variance) {
    const IeeeFloats modes;
    const auto count = static_cast<double>(rows);
    std::fill(mean, mean + columns, 0.0);
    std::fill(variance, variance + columns, 0.0);
    for (std::size_t row = 0; row < rows; ++row) {
        for (std::size_t column = 0; column < columns; ++column) {
            mean[column] += static_cast<double>(samples[row * columns + column]);
        }
    }
    for (std::size_t column = 0; column < columns; ++column) {
        mean[column] /= count;
    }
    for (std::size_t row = 0; row < rows; ++row) {
        for (std::size_t column = 0; column < columns; ++column) {
            const double apart = static_cast<double>(samples[row * columns + column]) - mean[column];
            variance[column] += apart * apart;
        }
    }
    for (std::size_t column = 0; column < columns; ++column) {
        variance[column] /= count;
    }
}

}  // namespace

void sample_moments(const float* samples, std::size_t rows, std::size_t columns, double* mean,
                    double* variance) {
    moments_of(samples, rows, columns, mean, variance);
}

void sample_moments(const double* samples, std::size_t rows, std::size_t columns, double* mean,
                    double* variance) {
    moments_of(samples, rows, columns, mean, variance);
}

}  // namespace derl::cpu
