// Generalized advantage estimation (Schulman et al. 2016) and discounted returns of one environment,
// walked from the last step to the first. V is one environment (float) or one in each lane.
//
// The order of operations is that of Stable-Baselines3's RolloutBuffer in float32, and nothing is
// fused, so the results are its results bit for bit.
#pragma once

#include <derl/host_device.hpp>

namespace derl {

// What NumPy makes of two Python floats beside a float32 array: the product first, then rounded.
struct Discount {
    float gamma;
    float gamma_lambda;

    static DERL_HOST_DEVICE Discount of(double gamma, double gae_lambda) {
        return {static_cast<float>(gamma), static_cast<float>(gamma * gae_lambda)};
    }
};

template <class V>
struct AdvantageColumn {
    V advantage{0.0f};
    V next_value;
    V next_goes_on;

    // last_value: of the state after the last step; goes_on: 0 where the last step ended an episode
    DERL_HOST_DEVICE AdvantageColumn(V last_value, V goes_on)
        : next_value(last_value), next_goes_on(goes_on) {}

    // goes_on: 0 where an episode starts at this step, 1 elsewhere. Returns the advantage.
    DERL_HOST_DEVICE V step_back(Discount discount, V reward, V value, V goes_on) {
        const V delta = reward + V(discount.gamma) * next_value * next_goes_on - value;
        advantage = delta + V(discount.gamma_lambda) * next_goes_on * advantage;
        next_value = value;
        next_goes_on = goes_on;
        return advantage;
    }
};

template <class V>
struct ReturnColumn {
    V value;
    V next_goes_on;

    DERL_HOST_DEVICE ReturnColumn(V last_value, V goes_on) : value(last_value), next_goes_on(goes_on) {}

    DERL_HOST_DEVICE V step_back(float gamma, V reward, V goes_on) {
        value = reward + V(gamma) * value * next_goes_on;
        next_goes_on = goes_on;
        return value;
    }
};

}  // namespace derl
