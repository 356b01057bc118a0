// One lane: the vocabulary of src/cpu/simd for a plain float, so that the same text computes one
// element on a GPU and sixteen in a vector register. Every operation is rounded once, to nearest.
//
// min(a, b) is a < b ? a : b and max(a, b) is a > b ? a : b, as x86 has them: with a NaN on either
// side the second operand comes back, so min(limit, max(limit, x)) lets a NaN in x through.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include <derl/host_device.hpp>

namespace derl {

DERL_HOST_DEVICE float fma(float a, float b, float c) {
#ifdef __CUDA_ARCH__
    return __fmaf_rn(a, b, c);
#else
    return __builtin_fmaf(a, b, c);
#endif
}
DERL_HOST_DEVICE double fma(double a, double b, double c) {
#ifdef __CUDA_ARCH__
    return __fma_rn(a, b, c);
#else
    return __builtin_fma(a, b, c);
#endif
}
// c - a * b, rounded once
template <class V>
DERL_HOST_DEVICE V fnma(V a, V b, V c) {
    return fma(-a, b, c);
}
DERL_HOST_DEVICE float sqrt(float x) {
#ifdef __CUDA_ARCH__
    return __fsqrt_rn(x);
#else
    return __builtin_sqrtf(x);
#endif
}
DERL_HOST_DEVICE double sqrt(double x) { return ::sqrt(x); }
DERL_HOST_DEVICE float abs(float x) { return __builtin_fabsf(x); }
DERL_HOST_DEVICE double abs(double x) { return __builtin_fabs(x); }
DERL_HOST_DEVICE float min(float a, float b) { return a < b ? a : b; }
DERL_HOST_DEVICE float max(float a, float b) { return a > b ? a : b; }
DERL_HOST_DEVICE double min(double a, double b) { return a < b ? a : b; }
DERL_HOST_DEVICE double max(double a, double b) { return a > b ? a : b; }
DERL_HOST_DEVICE float select(bool mask, float yes, float no) { return mask ? yes : no; }
DERL_HOST_DEVICE double select(bool mask, double yes, double no) { return mask ? yes : no; }
DERL_HOST_DEVICE std::int32_t select(bool mask, std::int32_t yes, std::int32_t no) {
    return mask ? yes : no;
}
DERL_HOST_DEVICE bool any(bool mask) { return mask; }
DERL_HOST_DEVICE std::int32_t bits_of(float x) {
#ifdef __CUDA_ARCH__
    return __float_as_int(x);
#else
    std::int32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
#endif
}
DERL_HOST_DEVICE float float_of_bits(std::int32_t bits) {
#ifdef __CUDA_ARCH__
    return __int_as_float(bits);
#else
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
#endif
}
DERL_HOST_DEVICE float to_float(std::int32_t x) { return static_cast<float>(x); }
// to the nearest integer, ties to even; -2^31 for NaN and all that is out of range, as x86 has it
DERL_HOST_DEVICE std::int32_t to_int(float x) {
    if (!(x >= -2147483648.0f && x < 2147483648.0f)) {
        return INT32_MIN;
    }
#ifdef __CUDA_ARCH__
    return __float2int_rn(x);
#else
    return static_cast<std::int32_t>(__builtin_rintf(x));
#endif
}
template <int kBits>
DERL_HOST_DEVICE std::int32_t shift_left(std::int32_t x) {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(x) << kBits);
}
// zeros come in from above
template <int kBits>
DERL_HOST_DEVICE std::int32_t shift_right(std::int32_t x) {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(x) >> kBits);
}
// the 64-bit product of unsigned numbers as two halves
DERL_HOST_DEVICE void multiply_wide(std::int32_t a, std::uint32_t b, std::int32_t& low,
                                    std::int32_t& high) {
    const std::uint64_t product = static_cast<std::uint64_t>(static_cast<std::uint32_t>(a)) * b;
    low = static_cast<std::int32_t>(static_cast<std::uint32_t>(product));
    high = static_cast<std::int32_t>(static_cast<std::uint32_t>(product >> 32));
}
// modulo 2^32, as the vector registers add; a signed + would be undefined where it overflows
DERL_HOST_DEVICE std::int32_t add_wrapping(std::int32_t a, std::int32_t b) {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(a) + static_cast<std::uint32_t>(b));
}

// The integer type beside a real type: int32_t beside float, sixteen of them beside sixteen floats.
template <class Real>
struct IntegerOf {
    using type = typename Real::Integer;
};
template <>
struct IntegerOf<float> {
    using type = std::int32_t;
};
template <>
struct IntegerOf<double> {
    using type = std::int32_t;
};

}  // namespace derl
