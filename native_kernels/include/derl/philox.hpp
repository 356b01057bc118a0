// Philox4x32-10: random numbers as a function of a counter (Salmon et al., SC 2011).
//
// The same numbers whoever computes them, in any order: a stream is named by its key, a number by
// its counter, and nothing has to be remembered. One lane or sixteen.
#pragma once

#include <derl/elementary.hpp>

namespace derl {

template <class Integer>
struct Random4 {
    Integer a, b, c, d;  // 32 random bits each
};

template <class Integer>
DERL_HOST_DEVICE Random4<Integer> philox(Random4<Integer> counter, std::uint32_t key_low,
                                         std::uint32_t key_high) {
    for (int round = 0; round < 10; ++round) {
        Integer low0, high0, low1, high1;
        multiply_wide(counter.a, 0xD2511F53u, low0, high0);
        multiply_wide(counter.c, 0xCD9E8D57u, low1, high1);
        counter = {high1 ^ counter.b ^ Integer(static_cast<std::int32_t>(key_low)), low1,
                   high0 ^ counter.d ^ Integer(static_cast<std::int32_t>(key_high)), low0};
        key_low += 0x9E3779B9u;
        key_high += 0xBB67AE85u;
    }
    return counter;
}

// In [0, 1), a multiple of 2^-24.
template <class V>
DERL_HOST_DEVICE V uniform(typename IntegerOf<V>::type bits) {
    return to_float(shift_right<8>(bits)) * V(5.9604644775390625e-8f);
}

// In (0, 1): the logarithm exists.
template <class V>
DERL_HOST_DEVICE V uniform_open(typename IntegerOf<V>::type bits) {
    return fma(to_float(shift_right<8>(bits)), V(5.9604644775390625e-8f), V(2.98023223876953125e-8f));
}

// Two independent standard normal numbers (Box and Muller 1958).
template <class V>
DERL_HOST_DEVICE void normal_pair(typename IntegerOf<V>::type first,
                                  typename IntegerOf<V>::type second, V& x, V& y) {
    const V radius = sqrt(log(uniform_open<V>(first)) * V(-2.0f));
    V sine, cosine;
    sine_cosine(uniform<V>(second) * V(6.28318530717958648f), sine, cosine);
    x = radius * cosine;
    y = radius * sine;
}

}  // namespace derl
