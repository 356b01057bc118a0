// The CPU loops over the mathematics in include/derl. Plain row-major arrays; callers own memory.
#pragma once

#include <cstddef>

namespace derl::cpu {

// updates: float32[clients, parameters]; shares: float64[clients]; mean: float32[parameters]
void weighted_mean(const float* updates, const double* shares, std::size_t clients,
                   std::size_t parameters, float* mean);

// means, variances: float64[sets, columns]; counts: float64[sets];
// mean, variance: float64[columns]. Returns the total count.
double merge_moments(const double* means, const double* variances, const double* counts,
                     std::size_t sets, std::size_t columns, double* mean, double* variance);

}  // namespace derl::cpu
