// Sixteen lanes in one AVX-512 register.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "cpu/simd/lane.hpp"

namespace derl::avx512 {

struct M16 {
    __mmask16 v;
    friend DERL_LANE M16 operator&(M16 a, M16 b) { return {static_cast<__mmask16>(a.v & b.v)}; }
    friend DERL_LANE M16 operator|(M16 a, M16 b) { return {static_cast<__mmask16>(a.v | b.v)}; }
    friend DERL_LANE M16 operator~(M16 a) { return {static_cast<__mmask16>(~a.v)}; }
};
DERL_LANE std::uint32_t lane_bits(M16 m) { return m.v; }
DERL_LANE bool any(M16 m) { return m.v != 0; }

struct I16 {
    static constexpr int kLanes = 16;
    __m512i v;
    I16() = default;
    DERL_LANE I16(__m512i raw) : v(raw) {}
    DERL_LANE I16(std::int32_t x) : v(_mm512_set1_epi32(x)) {}
    static DERL_LANE I16 load(const std::int32_t* p) { return _mm512_loadu_si512(p); }
    DERL_LANE void store(std::int32_t* p) const { _mm512_storeu_si512(p, v); }
    friend DERL_LANE I16 operator-(I16 a) { return _mm512_sub_epi32(_mm512_setzero_si512(), a.v); }
    friend DERL_LANE I16 operator&(I16 a, I16 b) { return _mm512_and_si512(a.v, b.v); }
    friend DERL_LANE I16 operator|(I16 a, I16 b) { return _mm512_or_si512(a.v, b.v); }
    friend DERL_LANE I16 operator^(I16 a, I16 b) { return _mm512_xor_si512(a.v, b.v); }
    friend DERL_LANE M16 operator==(I16 a, I16 b) { return {_mm512_cmpeq_epi32_mask(a.v, b.v)}; }
    friend DERL_LANE M16 operator<(I16 a, I16 b) { return {_mm512_cmplt_epi32_mask(a.v, b.v)}; }
};
DERL_LANE I16 add_wrapping(I16 a, I16 b) { return _mm512_add_epi32(a.v, b.v); }
DERL_LANE I16 select(M16 m, I16 yes, I16 no) { return _mm512_mask_blend_epi32(m.v, no.v, yes.v); }
template <int kBits>
DERL_LANE I16 shift_left(I16 x) {
    return _mm512_slli_epi32(x.v, kBits);
}
template <int kBits>
DERL_LANE I16 shift_right(I16 x) {
    return _mm512_srli_epi32(x.v, kBits);
}
DERL_LANE void multiply_wide(I16 a, std::uint32_t b, I16& low, I16& high) {
    const __m512i factor = _mm512_set1_epi32(static_cast<std::int32_t>(b));
    const __m512i even = _mm512_mul_epu32(a.v, factor);
    const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(a.v, 32), factor);
    low.v = _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32));
    high.v = _mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(even, 32), odd);
}

struct F16 {
    using Integer = I16;
    using Mask = M16;
    static constexpr int kLanes = 16;
    __m512 v;
    F16() = default;
    DERL_LANE F16(__m512 raw) : v(raw) {}
    DERL_LANE F16(float x) : v(_mm512_set1_ps(x)) {}
    static DERL_LANE F16 load(const float* p) { return _mm512_loadu_ps(p); }
    DERL_LANE void store(float* p) const { _mm512_storeu_ps(p, v); }
    friend DERL_LANE F16 operator+(F16 a, F16 b) { return _mm512_add_ps(a.v, b.v); }
    friend DERL_LANE F16 operator-(F16 a, F16 b) { return _mm512_sub_ps(a.v, b.v); }
    friend DERL_LANE F16 operator*(F16 a, F16 b) { return _mm512_mul_ps(a.v, b.v); }
    friend DERL_LANE F16 operator/(F16 a, F16 b) { return _mm512_div_ps(a.v, b.v); }
    friend DERL_LANE F16 operator-(F16 a) { return _mm512_xor_ps(a.v, _mm512_set1_ps(-0.0f)); }
    friend DERL_LANE M16 operator<(F16 a, F16 b) {
        return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)};
    }
    friend DERL_LANE M16 operator>(F16 a, F16 b) { return b < a; }
    friend DERL_LANE M16 operator<=(F16 a, F16 b) {
        return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)};
    }
    friend DERL_LANE M16 operator>=(F16 a, F16 b) { return b <= a; }
    friend DERL_LANE M16 operator==(F16 a, F16 b) {
        return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)};
    }
};
DERL_LANE F16 fma(F16 a, F16 b, F16 c) { return _mm512_fmadd_ps(a.v, b.v, c.v); }
DERL_LANE F16 fnma(F16 a, F16 b, F16 c) { return _mm512_fnmadd_ps(a.v, b.v, c.v); }
DERL_LANE F16 sqrt(F16 x) { return _mm512_sqrt_ps(x.v); }
DERL_LANE F16 abs(F16 x) { return _mm512_abs_ps(x.v); }
DERL_LANE F16 min(F16 a, F16 b) { return _mm512_min_ps(a.v, b.v); }
DERL_LANE F16 max(F16 a, F16 b) { return _mm512_max_ps(a.v, b.v); }
DERL_LANE F16 select(M16 m, F16 yes, F16 no) { return _mm512_mask_blend_ps(m.v, no.v, yes.v); }
DERL_LANE I16 bits_of(F16 x) { return _mm512_castps_si512(x.v); }
DERL_LANE F16 float_of_bits(I16 x) { return _mm512_castsi512_ps(x.v); }
DERL_LANE F16 to_float(I16 x) { return _mm512_cvtepi32_ps(x.v); }
DERL_LANE I16 to_int(F16 x) { return _mm512_cvtps_epi32(x.v); }

// ((x0 + x8) + (x4 + x12)) + ...: halves are added until one lane is left
DERL_LANE float sum_lanes(F16 x) {
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(x.v), _mm512_extractf32x8_ps(x.v, 1));
    const __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    const __m128 pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
    return _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
}

// rows[i] lane j becomes rows[j] lane i
DERL_LANE void transpose_square(F16* rows) {
    __m512 a[16], b[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_ps(rows[i].v, rows[i + 1].v);
        a[i + 1] = _mm512_unpackhi_ps(rows[i].v, rows[i + 1].v);
    }
    // b[4 k + j]: in each quarter q, entries 4 q + j of rows 4 k to 4 k + 3
#pragma GCC unroll 16
    for (int i = 0; i < 16; i += 4) {
        b[i] = _mm512_shuffle_ps(a[i], a[i + 2], 0x44);
        b[i + 1] = _mm512_shuffle_ps(a[i], a[i + 2], 0xEE);
        b[i + 2] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0x44);
        b[i + 3] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0xEE);
    }
#pragma GCC unroll 16
    for (int j = 0; j < 4; ++j) {
        const __m512 low02 = _mm512_shuffle_f32x4(b[j], b[4 + j], 0x88);
        const __m512 low13 = _mm512_shuffle_f32x4(b[j], b[4 + j], 0xDD);
        const __m512 high02 = _mm512_shuffle_f32x4(b[8 + j], b[12 + j], 0x88);
        const __m512 high13 = _mm512_shuffle_f32x4(b[8 + j], b[12 + j], 0xDD);
        rows[j].v = _mm512_shuffle_f32x4(low02, high02, 0x88);
        rows[8 + j].v = _mm512_shuffle_f32x4(low02, high02, 0xDD);
        rows[4 + j].v = _mm512_shuffle_f32x4(low13, high13, 0x88);
        rows[12 + j].v = _mm512_shuffle_f32x4(low13, high13, 0xDD);
    }
}

}  // namespace derl::avx512
