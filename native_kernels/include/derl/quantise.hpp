// Numbers as small integers times a scale, for one lane or sixteen.
//
// Stochastic rounding: up with the probability of the fraction, so that the mean of what is decoded
// is the number itself (Gupta et al. 2015; QSGD, Alistarh et al. 2017). The random number comes from
// the caller: Purpose::kRounding of philox.hpp, index element / 4, word element % 4.
#pragma once

#include <derl/scalar.hpp>

namespace derl {

// The greatest whole number that is not above x; |x| < 2^22.
template <class V>
DERL_HOST_DEVICE V whole_below(V x) {
    const V nearest = to_float(to_int(x));
    return select(x < nearest, nearest - V(1.0f), nearest);
}

// largest / limit with the lower half of its bits 0, rounded up, so that no number of a block is
// beyond the limit; largest >= 0 and within 1e30.
DERL_HOST_DEVICE float scale_of(float largest, float limit) {
    return float_of_bits(add_wrapping(bits_of(largest / limit), 0xffff) & ~0xffff);
}

// x in units of `scale`, within +-limit. A scale of 0 stands for numbers too small to have one.
template <class V>
DERL_HOST_DEVICE V in_units(V x, V scale, V limit) {
    const auto has_scale = V(0.0f) < scale;
    const V units = x / select(has_scale, scale, V(1.0f));
    return select(has_scale, min(limit, max(-limit, units)), V(0.0f));
}

// uniform: in [0, 1)
template <class V>
DERL_HOST_DEVICE typename IntegerOf<V>::type rounded_stochastically(V units, V uniform) {
    const V below = whole_below(units);
    return to_int(select(uniform < units - below, below + V(1.0f), below));
}

// Ties to even.
template <class V>
DERL_HOST_DEVICE typename IntegerOf<V>::type rounded_to_nearest(V units) {
    return to_int(units);
}

}  // namespace derl
