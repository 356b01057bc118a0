// Federated averaging of float32[N, P].
#pragma once

#include <cstddef>

namespace derl::cpu {

// The mathematics of derl/weighted_mean.hpp. updates: float32[clients, parameters]; shares:
// float64[clients]; mean: float32[parameters]
void weighted_mean(const float* updates, const double* shares, std::size_t clients,
                   std::size_t parameters, int threads, float* mean);

}  // namespace derl::cpu
