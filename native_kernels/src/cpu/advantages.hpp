// Advantages and returns of a rollout at each processor level. Arrays are [steps, environments],
// row-major; a flag is a byte, not zero where it holds. Results must not overlap what is read.
#pragma once

#include <cstddef>
#include <cstdint>

#include <derl/advantages.hpp>

#include "cpu/dispatch.hpp"

namespace derl {

struct RewardTrace {
    const float* rewards;               // [steps, environments]
    const std::uint8_t* episode_starts;  // [steps, environments]
    const float* last_values;           // [environments]: of the states after the last step
    const std::uint8_t* last_dones;      // [environments]: the last step ended an episode
    std::size_t steps;
    std::size_t environments;
};

DERL_DECLARE_AT_LEVELS(
    void generalized_advantages(const RewardTrace& trace, const float* values, Discount discount,
                                float* advantages, float* returns);
    void discounted_returns(const RewardTrace& trace, float gamma, float* returns);)

}  // namespace derl
