// One lane in plain C++, for processors other than x86; the compiler vectorises what it can.
#pragma once

#include <cstdint>

#include <derl/scalar.hpp>

#include "cpu/simd/lane.hpp"

namespace derl::generic {

struct F1;

struct M1 {
    static constexpr int kLanes = 1;
    bool v;
    friend DERL_LANE M1 operator&(M1 a, M1 b) { return {a.v && b.v}; }
    friend DERL_LANE M1 operator|(M1 a, M1 b) { return {a.v || b.v}; }
    friend DERL_LANE M1 operator~(M1 a) { return {!a.v}; }
};
DERL_LANE std::uint32_t lane_bits(M1 m) { return m.v; }
DERL_LANE bool any(M1 m) { return m.v; }

struct I1 {
    using Float = F1;
    static constexpr int kLanes = 1;
    std::int32_t v;
    I1() = default;
    DERL_LANE I1(std::int32_t x) : v(x) {}
    static DERL_LANE I1 load(const std::int32_t* p) { return *p; }
    DERL_LANE void store(std::int32_t* p) const { *p = v; }
    friend DERL_LANE I1 operator-(I1 a) {
        return static_cast<std::int32_t>(0u - static_cast<std::uint32_t>(a.v));
    }
    friend DERL_LANE I1 operator&(I1 a, I1 b) { return a.v & b.v; }
    friend DERL_LANE I1 operator|(I1 a, I1 b) { return a.v | b.v; }
    friend DERL_LANE I1 operator^(I1 a, I1 b) { return a.v ^ b.v; }
    friend DERL_LANE M1 operator==(I1 a, I1 b) { return {a.v == b.v}; }
    friend DERL_LANE M1 operator<(I1 a, I1 b) { return {a.v < b.v}; }
};
DERL_LANE I1 add_wrapping(I1 a, I1 b) { return derl::add_wrapping(a.v, b.v); }
DERL_LANE I1 select(M1 m, I1 yes, I1 no) { return m.v ? yes : no; }
template <int kBits>
DERL_LANE I1 shift_left(I1 x) {
    return derl::shift_left<kBits>(x.v);
}
template <int kBits>
DERL_LANE I1 shift_right(I1 x) {
    return derl::shift_right<kBits>(x.v);
}
DERL_LANE void multiply_wide(I1 a, std::uint32_t b, I1& low, I1& high) {
    derl::multiply_wide(a.v, b, low.v, high.v);
}

struct F1 {
    using Integer = I1;
    using Mask = M1;
    static constexpr int kLanes = 1;
    float v;
    F1() = default;
    DERL_LANE F1(float x) : v(x) {}
    static DERL_LANE F1 load(const float* p) { return *p; }
    DERL_LANE void store(float* p) const { *p = v; }
    friend DERL_LANE F1 operator+(F1 a, F1 b) { return a.v + b.v; }
    friend DERL_LANE F1 operator-(F1 a, F1 b) { return a.v - b.v; }
    friend DERL_LANE F1 operator*(F1 a, F1 b) { return a.v * b.v; }
    friend DERL_LANE F1 operator/(F1 a, F1 b) { return a.v / b.v; }
    friend DERL_LANE F1 operator-(F1 a) { return -a.v; }
    friend DERL_LANE M1 operator<(F1 a, F1 b) { return {a.v < b.v}; }
    friend DERL_LANE M1 operator>(F1 a, F1 b) { return {a.v > b.v}; }
    friend DERL_LANE M1 operator<=(F1 a, F1 b) { return {a.v <= b.v}; }
    friend DERL_LANE M1 operator>=(F1 a, F1 b) { return {a.v >= b.v}; }
    friend DERL_LANE M1 operator==(F1 a, F1 b) { return {a.v == b.v}; }
};
DERL_LANE F1 fma(F1 a, F1 b, F1 c) { return derl::fma(a.v, b.v, c.v); }
DERL_LANE F1 fnma(F1 a, F1 b, F1 c) { return derl::fma(-a.v, b.v, c.v); }
DERL_LANE F1 sqrt(F1 x) { return derl::sqrt(x.v); }
DERL_LANE F1 abs(F1 x) { return derl::abs(x.v); }
DERL_LANE F1 min(F1 a, F1 b) { return derl::min(a.v, b.v); }
DERL_LANE F1 max(F1 a, F1 b) { return derl::max(a.v, b.v); }
DERL_LANE F1 select(M1 m, F1 yes, F1 no) { return m.v ? yes : no; }
DERL_LANE I1 bits_of(F1 x) { return derl::bits_of(x.v); }
DERL_LANE F1 float_of_bits(I1 x) { return derl::float_of_bits(x.v); }
DERL_LANE F1 to_float(I1 x) { return derl::to_float(x.v); }
DERL_LANE I1 to_int(F1 x) { return derl::to_int(x.v); }
DERL_LANE float sum_lanes(F1 x) { return x.v; }
DERL_LANE void transpose_square(F1*) {}

}  // namespace derl::generic
