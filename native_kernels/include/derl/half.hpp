// IEEE binary16 in the low 16 bits of an integer, to and from float32, for one lane or sixteen.
//
// Integer arithmetic and one exact addition, so that a processor without conversion instructions
// gives the same bits as one that has them.
#pragma once

#include <derl/scalar.hpp>

namespace derl {

// To nearest, ties to even. Beyond the largest finite half, 65504, the result is +-65504, never
// infinite; a NaN becomes 0x7e00.
template <class V>
DERL_HOST_DEVICE typename IntegerOf<V>::type half_of_float(V x) {
    using Integer = typename IntegerOf<V>::type;
    const V size = min(abs(x), V(65504.0f));
    const Integer bits = bits_of(size);
    // where the last bit of the sum is that of the smallest half
    const Integer subnormal = add_wrapping(bits_of(size + V(0.5f)), Integer(-0x3f000000));
    const Integer is_odd = shift_right<13>(bits) & Integer(1);
    const Integer rounding = add_wrapping(is_odd, Integer(0xfff - 0x38000000));
    const Integer normal = shift_right<13>(add_wrapping(bits, rounding));
    const Integer half = select(size < V(6.103515625e-5f), subnormal, normal);
    const Integer sign = shift_right<16>(bits_of(x)) & Integer(0x8000);
    return select(x == x, half | sign, Integer(0x7e00));
}

// Exact. Infinite and absent numbers stay so; decoders refuse them before.
template <class V>
DERL_HOST_DEVICE V float_of_half(typename IntegerOf<V>::type half) {
    using Integer = typename IntegerOf<V>::type;
    const Integer bits = shift_left<13>(half & Integer(0x7fff));
    const V subnormal =
        float_of_bits(add_wrapping(bits, Integer(0x38800000))) - V(6.103515625e-5f);
    const V finite = float_of_bits(add_wrapping(bits, Integer(0x38000000)));
    const V beyond = float_of_bits(add_wrapping(bits, Integer(0x70000000)));
    const V size = select(bits < Integer(0x00800000), subnormal,
                          select(bits < Integer(0x0f800000), finite, beyond));
    return float_of_bits(bits_of(size) | shift_left<16>(half & Integer(0x8000)));
}

}  // namespace derl
