// exp, log, tanh, sine and cosine in float32, for one lane or sixteen, the same bits everywhere:
// nothing but additions, multiplications, divisions and fused operations in a stated order.
//
// Errors against the exact value, checked by tests over the ranges given; a NaN gives a NaN.
//   exp   relative 1.2e-7 (results below 2^-126 lose bits; above 3.4e38 infinite)
//   log   absolute 1e-7 near 1, relative 1.2e-7 elsewhere; x > 0 and normal
//   tanh  absolute 3e-7
//   sine, cosine  absolute 1.2e-7 for |x| <= 1000
#pragma once

#include <derl/scalar.hpp>

namespace derl {

// 2^n for whole n from -126 to 127
template <class V>
DERL_HOST_DEVICE V power_of_two(typename IntegerOf<V>::type n) {
    return float_of_bits(shift_left<23>(add_wrapping(n, 127)));
}

// Cephes expf: x = n ln 2 + r, |r| <= ln 2 / 2, and a polynomial for exp(r).
template <class V>
DERL_HOST_DEVICE V exp(V x) {
    x = min(V(89.0f), max(V(-104.0f), x));
    const auto n = to_int(x * V(1.44269504088896341f));
    const V whole = to_float(n);
    V r = fma(whole, V(-0.693359375f), x);
    r = fma(whole, V(2.12194440e-4f), r);
    V p(1.9875691500e-4f);
    p = fma(p, r, V(1.3981999507e-3f));
    p = fma(p, r, V(8.3334519073e-3f));
    p = fma(p, r, V(4.1665795894e-2f));
    p = fma(p, r, V(1.6666665459e-1f));
    p = fma(p, r, V(5.0000001201e-1f));
    p = fma(p, r * r, r) + V(1.0f);
    // in two steps, so that 2^128 and 2^-150 are within reach
    const auto half = to_int(whole * V(0.5f));
    return p * power_of_two<V>(half) * power_of_two<V>(add_wrapping(n, -half));
}

// Cephes logf: x = m 2^e with m from sqrt(1/2) to sqrt(2), and a polynomial for log(m).
template <class V>
DERL_HOST_DEVICE V log(V x) {
    using Integer = typename IntegerOf<V>::type;
    const Integer bits = bits_of(x);
    V exponent = to_float(add_wrapping(shift_right<23>(bits), Integer(-126)));
    V m = float_of_bits((bits & Integer(0x007fffff)) | Integer(0x3f000000));
    const auto is_small = m < V(0.707106781186547524f);
    exponent = select(is_small, exponent - V(1.0f), exponent);
    m = select(is_small, m + m, m) - V(1.0f);
    const V square = m * m;
    V p(7.0376836292e-2f);
    p = fma(p, m, V(-1.1514610310e-1f));
    p = fma(p, m, V(1.1676998740e-1f));
    p = fma(p, m, V(-1.2420140846e-1f));
    p = fma(p, m, V(1.4249322787e-1f));
    p = fma(p, m, V(-1.6668057665e-1f));
    p = fma(p, m, V(2.0000714765e-1f));
    p = fma(p, m, V(-2.4999993993e-1f));
    p = fma(p, m, V(3.3333331174e-1f));
    V y = p * m * square;
    y = fma(exponent, V(-2.12194440e-4f), y);
    y = fma(square, V(-0.5f), y);
    return select(x == x, fma(exponent, V(0.693359375f), m + y), x);
}

// A quotient of odd and even polynomials, degrees 13 and 6; beyond +-7.905 the result is +-1.
template <class V>
DERL_HOST_DEVICE V tanh(V x) {
    x = min(V(7.90531110763549805f), max(V(-7.90531110763549805f), x));
    const V s = x * x;
    V p(-2.76076847742355e-16f);
    p = fma(p, s, V(2.00018790482477e-13f));
    p = fma(p, s, V(-8.60467152213735e-11f));
    p = fma(p, s, V(5.12229709037114e-08f));
    p = fma(p, s, V(1.48572235717979e-05f));
    p = fma(p, s, V(6.37261928875436e-04f));
    p = fma(p, s, V(4.89352455891786e-03f));
    V q(1.19825839466702e-06f);
    q = fma(q, s, V(1.18534705686654e-04f));
    q = fma(q, s, V(2.26843463243900e-03f));
    q = fma(q, s, V(4.89352518554385e-03f));
    return x * p / q;
}

// Cephes sinf and cosf: x = n pi/2 + r with |r| <= pi/4, pi/2 in three pieces.
template <class V>
DERL_HOST_DEVICE void sine_cosine(V x, V& sine, V& cosine) {
    using Integer = typename IntegerOf<V>::type;
    const auto n = to_int(x * V(0.636619772367581343f));
    const V whole = to_float(n);
    V r = fma(whole, V(-1.5703125f), x);
    r = fma(whole, V(-4.837512969970703125e-4f), r);
    r = fma(whole, V(-7.54978995489188216e-8f), r);
    const V s = r * r;
    V odd(-1.9515295891e-4f);
    odd = fma(odd, s, V(8.3321608736e-3f));
    odd = fma(odd, s, V(-1.6666654611e-1f));
    odd = fma(odd * s, r, r);
    V even(2.443315711809948e-5f);
    even = fma(even, s, V(-1.388731625493765e-3f));
    even = fma(even, s, V(4.166664568298827e-2f));
    even = fma(even * s, s, fma(s, V(-0.5f), V(1.0f)));
    const auto is_odd = (n & Integer(1)) == Integer(1);
    const Integer sine_sign = shift_left<30>(n & Integer(2));
    const Integer cosine_sign = shift_left<30>(add_wrapping(n, Integer(1)) & Integer(2));
    sine = float_of_bits(bits_of(select(is_odd, even, odd)) ^ sine_sign);
    cosine = float_of_bits(bits_of(select(is_odd, odd, even)) ^ cosine_sign);
}

}  // namespace derl
