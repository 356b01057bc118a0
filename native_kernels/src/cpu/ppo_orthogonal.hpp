// Weights to start from, as Stable-Baselines3 draws them: orthogonal matrices (Saxe et al. 2013)
// times a gain of sqrt(2) for hidden layers, 0.01 for the action head and 1 for the value head;
// biases zero.
#pragma once

#include <cstdint>

#include "cpu/network.hpp"

namespace derl {

// flat: float32[parameter_count], in the order of tensor_places. The same bits on every machine.
void orthogonal_parameters(const ActorCritic& network, std::uint64_t seed, float log_std,
                           float* flat);

}  // namespace derl
