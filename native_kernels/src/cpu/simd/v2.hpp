// Four lanes in one SSE register (x86-64-v2), with a fused multiply-add computed in double.
#pragma once

#include <nmmintrin.h>

#include <cstdint>

#include "cpu/simd/lane.hpp"

namespace derl::v2 {

struct F4;

struct M4 {
    static constexpr int kLanes = 4;
    __m128 v;
    friend DERL_LANE M4 operator&(M4 a, M4 b) { return {_mm_and_ps(a.v, b.v)}; }
    friend DERL_LANE M4 operator|(M4 a, M4 b) { return {_mm_or_ps(a.v, b.v)}; }
    friend DERL_LANE M4 operator~(M4 a) {
        return {_mm_xor_ps(a.v, _mm_castsi128_ps(_mm_set1_epi32(-1)))};
    }
};
DERL_LANE std::uint32_t lane_bits(M4 m) {
    return static_cast<std::uint32_t>(_mm_movemask_ps(m.v));
}
DERL_LANE bool any(M4 m) { return _mm_movemask_ps(m.v) != 0; }

struct I4 {
    using Float = F4;
    static constexpr int kLanes = 4;
    __m128i v;
    I4() = default;
    DERL_LANE I4(__m128i raw) : v(raw) {}
    DERL_LANE I4(std::int32_t x) : v(_mm_set1_epi32(x)) {}
    static DERL_LANE I4 load(const std::int32_t* p) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    }
    DERL_LANE void store(std::int32_t* p) const {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v);
    }
    friend DERL_LANE I4 operator-(I4 a) { return _mm_sub_epi32(_mm_setzero_si128(), a.v); }
    friend DERL_LANE I4 operator&(I4 a, I4 b) { return _mm_and_si128(a.v, b.v); }
    friend DERL_LANE I4 operator|(I4 a, I4 b) { return _mm_or_si128(a.v, b.v); }
    friend DERL_LANE I4 operator^(I4 a, I4 b) { return _mm_xor_si128(a.v, b.v); }
    friend DERL_LANE M4 operator==(I4 a, I4 b) {
        return {_mm_castsi128_ps(_mm_cmpeq_epi32(a.v, b.v))};
    }
    friend DERL_LANE M4 operator<(I4 a, I4 b) {
        return {_mm_castsi128_ps(_mm_cmplt_epi32(a.v, b.v))};
    }
};
DERL_LANE I4 add_wrapping(I4 a, I4 b) { return _mm_add_epi32(a.v, b.v); }
DERL_LANE I4 select(M4 m, I4 yes, I4 no) {
    return _mm_blendv_epi8(no.v, yes.v, _mm_castps_si128(m.v));
}
template <int kBits>
DERL_LANE I4 shift_left(I4 x) {
    return _mm_slli_epi32(x.v, kBits);
}
template <int kBits>
DERL_LANE I4 shift_right(I4 x) {
    return _mm_srli_epi32(x.v, kBits);
}
DERL_LANE void multiply_wide(I4 a, std::uint32_t b, I4& low, I4& high) {
    const __m128i factor = _mm_set1_epi32(static_cast<std::int32_t>(b));
    const __m128i even = _mm_mul_epu32(a.v, factor);
    const __m128i odd = _mm_mul_epu32(_mm_srli_epi64(a.v, 32), factor);
    low.v = _mm_blend_epi16(even, _mm_slli_epi64(odd, 32), 0xCC);
    high.v = _mm_blend_epi16(_mm_srli_epi64(even, 32), odd, 0xCC);
}

struct F4 {
    using Integer = I4;
    using Mask = M4;
    static constexpr int kLanes = 4;
    __m128 v;
    F4() = default;
    DERL_LANE F4(__m128 raw) : v(raw) {}
    DERL_LANE F4(float x) : v(_mm_set1_ps(x)) {}
    static DERL_LANE F4 load(const float* p) { return _mm_loadu_ps(p); }
    DERL_LANE void store(float* p) const { _mm_storeu_ps(p, v); }
    friend DERL_LANE F4 operator+(F4 a, F4 b) { return _mm_add_ps(a.v, b.v); }
    friend DERL_LANE F4 operator-(F4 a, F4 b) { return _mm_sub_ps(a.v, b.v); }
    friend DERL_LANE F4 operator*(F4 a, F4 b) { return _mm_mul_ps(a.v, b.v); }
    friend DERL_LANE F4 operator/(F4 a, F4 b) { return _mm_div_ps(a.v, b.v); }
    friend DERL_LANE F4 operator-(F4 a) { return _mm_xor_ps(a.v, _mm_set1_ps(-0.0f)); }
    friend DERL_LANE M4 operator<(F4 a, F4 b) { return {_mm_cmplt_ps(a.v, b.v)}; }
    friend DERL_LANE M4 operator>(F4 a, F4 b) { return b < a; }
    friend DERL_LANE M4 operator<=(F4 a, F4 b) { return {_mm_cmple_ps(a.v, b.v)}; }
    friend DERL_LANE M4 operator>=(F4 a, F4 b) { return b <= a; }
    friend DERL_LANE M4 operator==(F4 a, F4 b) { return {_mm_cmpeq_ps(a.v, b.v)}; }
};

// The product of two floats is exact in double. Their sum with c is rounded to odd there (Boldo and
// Melquiond 2008), so that the second rounding, to float, is right however near a tie it falls.
DERL_LANE __m128d sum_rounded_to_odd(__m128d product, __m128d c) {
    const __m128d sum = _mm_add_pd(product, c);
    const __m128d back = _mm_sub_pd(sum, product);
    const __m128d error =
        _mm_add_pd(_mm_sub_pd(product, _mm_sub_pd(sum, back)), _mm_sub_pd(c, back));
    const __m128d zero = _mm_setzero_pd();
    // ordered comparisons: an infinite or absent number has no error
    const __m128d is_inexact = _mm_or_pd(_mm_cmplt_pd(error, zero), _mm_cmpgt_pd(error, zero));
    const __m128i bits = _mm_castpd_si128(sum);
    const __m128i one = _mm_set1_epi64x(1);
    const __m128i is_even = _mm_cmpeq_epi64(_mm_and_si128(bits, one), _mm_setzero_si128());
    const __m128i must_move = _mm_and_si128(is_even, _mm_castpd_si128(is_inexact));
    // towards the error: away from zero where both have the same sign
    const __m128i differ = _mm_xor_si128(bits, _mm_castpd_si128(error));
    const __m128i is_inward = _mm_shuffle_epi32(_mm_srai_epi32(differ, 31), _MM_SHUFFLE(3, 3, 1, 1));
    const __m128i step = _mm_or_si128(is_inward, one);  // -1 or 1
    return _mm_castsi128_pd(_mm_add_epi64(bits, _mm_and_si128(step, must_move)));
}
DERL_LANE F4 fma(F4 a, F4 b, F4 c) {
    const auto upper = [](F4 x) { return _mm_cvtps_pd(_mm_movehl_ps(x.v, x.v)); };
    const __m128d low = sum_rounded_to_odd(_mm_mul_pd(_mm_cvtps_pd(a.v), _mm_cvtps_pd(b.v)),
                                           _mm_cvtps_pd(c.v));
    const __m128d high = sum_rounded_to_odd(_mm_mul_pd(upper(a), upper(b)), upper(c));
    return _mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high));
}
DERL_LANE F4 fnma(F4 a, F4 b, F4 c) { return fma(-a, b, c); }
DERL_LANE F4 sqrt(F4 x) { return _mm_sqrt_ps(x.v); }
DERL_LANE F4 abs(F4 x) { return _mm_andnot_ps(_mm_set1_ps(-0.0f), x.v); }
DERL_LANE F4 min(F4 a, F4 b) { return _mm_min_ps(a.v, b.v); }
DERL_LANE F4 max(F4 a, F4 b) { return _mm_max_ps(a.v, b.v); }
DERL_LANE F4 select(M4 m, F4 yes, F4 no) { return _mm_blendv_ps(no.v, yes.v, m.v); }
DERL_LANE I4 bits_of(F4 x) { return _mm_castps_si128(x.v); }
DERL_LANE F4 float_of_bits(I4 x) { return _mm_castsi128_ps(x.v); }
DERL_LANE F4 to_float(I4 x) { return _mm_cvtepi32_ps(x.v); }
DERL_LANE I4 to_int(F4 x) { return _mm_cvtps_epi32(x.v); }

DERL_LANE float sum_lanes(F4 x) {
    const __m128 pair = _mm_add_ps(x.v, _mm_movehl_ps(x.v, x.v));
    return _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
}

// rows[i] lane j becomes rows[j] lane i
DERL_LANE void transpose_square(F4* rows) {
    _MM_TRANSPOSE4_PS(rows[0].v, rows[1].v, rows[2].v, rows[3].v);
}

}  // namespace derl::v2
