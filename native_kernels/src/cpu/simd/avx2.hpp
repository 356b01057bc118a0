// Eight lanes in one AVX2 register; two of them make sixteen (pair.hpp).
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "cpu/simd/lane.hpp"

namespace derl::avx2 {

struct F8;

struct M8 {
    static constexpr int kLanes = 8;
    __m256 v;
    friend DERL_LANE M8 operator&(M8 a, M8 b) { return {_mm256_and_ps(a.v, b.v)}; }
    friend DERL_LANE M8 operator|(M8 a, M8 b) { return {_mm256_or_ps(a.v, b.v)}; }
    friend DERL_LANE M8 operator~(M8 a) {
        return {_mm256_xor_ps(a.v, _mm256_castsi256_ps(_mm256_set1_epi32(-1)))};
    }
};
DERL_LANE std::uint32_t lane_bits(M8 m) {
    return static_cast<std::uint32_t>(_mm256_movemask_ps(m.v));
}
DERL_LANE bool any(M8 m) { return _mm256_movemask_ps(m.v) != 0; }

struct I8 {
    using Float = F8;
    static constexpr int kLanes = 8;
    __m256i v;
    I8() = default;
    DERL_LANE I8(__m256i raw) : v(raw) {}
    DERL_LANE I8(std::int32_t x) : v(_mm256_set1_epi32(x)) {}
    static DERL_LANE I8 load(const std::int32_t* p) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    }
    DERL_LANE void store(std::int32_t* p) const {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
    }
    friend DERL_LANE I8 operator-(I8 a) { return _mm256_sub_epi32(_mm256_setzero_si256(), a.v); }
    friend DERL_LANE I8 operator&(I8 a, I8 b) { return _mm256_and_si256(a.v, b.v); }
    friend DERL_LANE I8 operator|(I8 a, I8 b) { return _mm256_or_si256(a.v, b.v); }
    friend DERL_LANE I8 operator^(I8 a, I8 b) { return _mm256_xor_si256(a.v, b.v); }
    friend DERL_LANE M8 operator==(I8 a, I8 b) {
        return {_mm256_castsi256_ps(_mm256_cmpeq_epi32(a.v, b.v))};
    }
    friend DERL_LANE M8 operator<(I8 a, I8 b) {
        return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(b.v, a.v))};
    }
};
DERL_LANE I8 add_wrapping(I8 a, I8 b) { return _mm256_add_epi32(a.v, b.v); }
DERL_LANE I8 select(M8 m, I8 yes, I8 no) {
    return _mm256_blendv_epi8(no.v, yes.v, _mm256_castps_si256(m.v));
}
template <int kBits>
DERL_LANE I8 shift_left(I8 x) {
    return _mm256_slli_epi32(x.v, kBits);
}
template <int kBits>
DERL_LANE I8 shift_right(I8 x) {
    return _mm256_srli_epi32(x.v, kBits);
}
DERL_LANE void multiply_wide(I8 a, std::uint32_t b, I8& low, I8& high) {
    const __m256i factor = _mm256_set1_epi32(static_cast<std::int32_t>(b));
    const __m256i even = _mm256_mul_epu32(a.v, factor);
    const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(a.v, 32), factor);
    low.v = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
    high.v = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
}

struct F8 {
    using Integer = I8;
    using Mask = M8;
    static constexpr int kLanes = 8;
    __m256 v;
    F8() = default;
    DERL_LANE F8(__m256 raw) : v(raw) {}
    DERL_LANE F8(float x) : v(_mm256_set1_ps(x)) {}
    static DERL_LANE F8 load(const float* p) { return _mm256_loadu_ps(p); }
    DERL_LANE void store(float* p) const { _mm256_storeu_ps(p, v); }
    friend DERL_LANE F8 operator+(F8 a, F8 b) { return _mm256_add_ps(a.v, b.v); }
    friend DERL_LANE F8 operator-(F8 a, F8 b) { return _mm256_sub_ps(a.v, b.v); }
    friend DERL_LANE F8 operator*(F8 a, F8 b) { return _mm256_mul_ps(a.v, b.v); }
    friend DERL_LANE F8 operator/(F8 a, F8 b) { return _mm256_div_ps(a.v, b.v); }
    friend DERL_LANE F8 operator-(F8 a) { return _mm256_xor_ps(a.v, _mm256_set1_ps(-0.0f)); }
    friend DERL_LANE M8 operator<(F8 a, F8 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)}; }
    friend DERL_LANE M8 operator>(F8 a, F8 b) { return b < a; }
    friend DERL_LANE M8 operator<=(F8 a, F8 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LE_OQ)}; }
    friend DERL_LANE M8 operator>=(F8 a, F8 b) { return b <= a; }
    friend DERL_LANE M8 operator==(F8 a, F8 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ)}; }
};
DERL_LANE F8 fma(F8 a, F8 b, F8 c) { return _mm256_fmadd_ps(a.v, b.v, c.v); }
DERL_LANE F8 fnma(F8 a, F8 b, F8 c) { return _mm256_fnmadd_ps(a.v, b.v, c.v); }
DERL_LANE F8 sqrt(F8 x) { return _mm256_sqrt_ps(x.v); }
DERL_LANE F8 abs(F8 x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x.v); }
DERL_LANE F8 min(F8 a, F8 b) { return _mm256_min_ps(a.v, b.v); }
DERL_LANE F8 max(F8 a, F8 b) { return _mm256_max_ps(a.v, b.v); }
DERL_LANE F8 select(M8 m, F8 yes, F8 no) { return _mm256_blendv_ps(no.v, yes.v, m.v); }
DERL_LANE I8 bits_of(F8 x) { return _mm256_castps_si256(x.v); }
DERL_LANE F8 float_of_bits(I8 x) { return _mm256_castsi256_ps(x.v); }
DERL_LANE F8 to_float(I8 x) { return _mm256_cvtepi32_ps(x.v); }
DERL_LANE I8 to_int(F8 x) { return _mm256_cvtps_epi32(x.v); }

DERL_LANE float sum_lanes(F8 x) {
    const __m128 half = _mm_add_ps(_mm256_castps256_ps128(x.v), _mm256_extractf128_ps(x.v, 1));
    const __m128 pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
}

// rows[i] lane j becomes rows[j] lane i
DERL_LANE void transpose_square(F8* rows) {
    __m256 a[8], b[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_ps(rows[i].v, rows[i + 1].v);
        a[i + 1] = _mm256_unpackhi_ps(rows[i].v, rows[i + 1].v);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i += 4) {
        b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
        b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xEE);
        b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
        b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xEE);
    }
#pragma GCC unroll 8
    for (int j = 0; j < 4; ++j) {
        rows[j].v = _mm256_permute2f128_ps(b[j], b[4 + j], 0x20);
        rows[4 + j].v = _mm256_permute2f128_ps(b[j], b[4 + j], 0x31);
    }
}

}  // namespace derl::avx2
