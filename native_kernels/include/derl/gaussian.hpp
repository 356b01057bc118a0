// Independent normal distributions given by mean and logarithm of the standard deviation.
#pragma once

#include <derl/elementary.hpp>

namespace derl::gaussian {

constexpr float kHalfLog2Pi = 0.918938533204672742f;

// (x - mean) / standard deviation
template <class V>
DERL_HOST_DEVICE V standardised(V x, V mean, V log_std) {
    return (x - mean) * exp(-log_std);
}

template <class V>
DERL_HOST_DEVICE V log_prob(V x, V mean, V log_std) {
    const V z = standardised(x, mean, log_std);
    return fma(z * z, V(-0.5f), -log_std) - V(kHalfLog2Pi);
}

// of one component
template <class V>
DERL_HOST_DEVICE V entropy(V log_std) {
    return log_std + V(0.5f + kHalfLog2Pi);
}

}  // namespace derl::gaussian
