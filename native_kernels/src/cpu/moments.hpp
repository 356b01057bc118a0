// Means and variances of columns: of samples, and of sets whose moments are known.
#pragma once

#include <cstddef>

namespace derl::cpu {

// means, variances: float64[sets, columns]; counts: float64[sets];
// mean, variance: float64[columns]. Returns the total count.
double merge_moments(const double* means, const double* variances, const double* counts,
                     std::size_t sets, std::size_t columns, double* mean, double* variance);

// samples: Sample[rows, columns], at least one row; mean, variance (of the population):
// float64[columns]. The mean first, then the squared differences from it; rows in order.
void sample_moments(const float* samples, std::size_t rows, std::size_t columns, double* mean,
                    double* variance);
void sample_moments(const double* samples, std::size_t rows, std::size_t columns, double* mean,
                    double* variance);

}  // namespace derl::cpu
