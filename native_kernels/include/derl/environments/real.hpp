// What environments compute with, beyond scalar.hpp: V is float or sixteen lanes of it (fast), or
// double (exact: the operations of Gymnasium's Python source, one for one, by the C library that
// Python and NumPy call; Gymnasium's bits where both use the same C library).
#pragma once

#include <cmath>

#include <derl/philox.hpp>

namespace derl {

template <class V>
using MaskOf = decltype(V(0.0f) < V(0.0f));

template <class V>
struct RealOf {
    using type = float;
};
template <>
struct RealOf<double> {
    using type = double;
};
// A constant in the precision of V.
template <class V>
DERL_HOST_DEVICE V real(double x) {
    return V(static_cast<typename RealOf<V>::type>(x));
}

DERL_HOST_DEVICE void sine_cosine(double x, double& sine, double& cosine) {
    sine = ::sin(x);
    cosine = ::cos(x);
}

// NumPy raises a scalar to the power 2 by pow, which does not always round as x * x does; compilers
// that see the 2 think otherwise.
template <class V>
DERL_HOST_DEVICE V squared(V x) {
    return x * x;
}
DERL_HOST_DEVICE double squared(double x) {
    const volatile double two = 2.0;
    return ::pow(x, two);
}

// By a constant: what the exact mode divides, the fast one multiplies, which is many times faster.
template <class V>
DERL_HOST_DEVICE V quotient(V x, double divisor) {
    return x * real<V>(1.0 / divisor);
}
DERL_HOST_DEVICE double quotient(double x, double divisor) { return x / divisor; }

// What Python computes in float32 because a float32 action takes part in it.
template <class V>
DERL_HOST_DEVICE V in_float32(V x) {
    return x;
}
DERL_HOST_DEVICE double in_float32(double x) { return static_cast<float>(x); }

// As clip of Gymnasium and bound of its Acrobot; a NaN stays.
template <class V>
DERL_HOST_DEVICE V clip(V x, V low, V high) {
    return min(high, max(low, x));
}

// x minus the whole turns in it: within [-pi, pi], from |x| <= 1000.
template <class V>
DERL_HOST_DEVICE V angle_within_turn(V x) {
    const V turns = to_float(to_int(x * V(0.159154943091895336f)));
    V r = fma(turns, V(-6.28125f), x);
    r = fma(turns, V(-1.93500518798828125e-3f), r);
    return fma(turns, V(-3.01991598195675265e-7f), r);
}

// One step in double. Most environments have one text for all precisions, E::step; where Python's
// rules of promotion make some of its operations float32, E::step_exact says which.
template <class E>
concept HasExactStep = requires(double* state, const double* action, double& reward) {
    E::step_exact(state, action, reward, true);
};
template <class E>
DERL_HOST_DEVICE bool step_exact(double* state, const double* action, double& reward,
                                 bool is_first_of_episode) {
    if constexpr (HasExactStep<E>) {
        return E::step_exact(state, action, reward, is_first_of_episode);
    } else {
        return E::step(state, action, reward);
    }
}

// Python's: the remainder has the sign of the divisor.
DERL_HOST_DEVICE double angle_within_turn(double x) {
    constexpr double kPi = 3.14159265358979323846;
    double turned = ::fmod(x + kPi, 2 * kPi);
    if (turned < 0.0) {
        turned += 2 * kPi;
    }
    return turned - kPi;
}

// A uniform random number in [low, high).
template <class V>
DERL_HOST_DEVICE V uniform_between(typename IntegerOf<V>::type bits, float low, float high) {
    return fma(uniform<V>(bits), V(high - low), V(low));
}

}  // namespace derl
