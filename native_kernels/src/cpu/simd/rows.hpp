// Sixteen lanes of several columns, stored as sixteen rows.
#pragma once

#include "cpu/simd/lanes.hpp"

namespace derl::DERL_LEVEL {

#if defined(DERL_LEVEL_AVX512)
// Lane numbers for a shuffle of two registers: element k of the result is table[k].
DERL_LANE F shuffle(F a, const std::int32_t (&table)[kLanes], F b) {
    return _mm512_permutex2var_ps(a.v, _mm512_loadu_si512(table), b.v);
}

constexpr std::int32_t kLowPairs[] = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
constexpr std::int32_t kHighPairs[] = {8,  24, 9,  25, 10, 26, 11, 27,
                                       12, 28, 13, 29, 14, 30, 15, 31};
constexpr std::int32_t kLowQuads[] = {0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23};
constexpr std::int32_t kHighQuads[] = {8,  9,  24, 25, 10, 11, 26, 27,
                                       12, 13, 28, 29, 14, 15, 30, 31};

DERL_LANE void store_sixteen_flags(std::uint8_t* p, M mask) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_maskz_set1_epi8(mask.v, 1));
}

DERL_LANE void store_sixteen_rows(float* p, const F (&x)[1]) { x[0].store(p); }
DERL_LANE void store_sixteen_rows(float* p, const F (&x)[2]) {
    shuffle(x[0], kLowPairs, x[1]).store(p);
    shuffle(x[0], kHighPairs, x[1]).store(p + 16);
}
// Numbers below 16 take from the pairs, 16 and above from the third column.
constexpr std::int32_t kTriples0[] = {0, 1, 16, 2, 3, 17, 4, 5, 18, 6, 7, 19, 8, 9, 20, 10};
constexpr std::int32_t kTriples1Low[] = {11, 21, 12, 13, 22, 14, 15, 23, 0, 0, 24, 0, 0, 25, 0, 0};
constexpr std::int32_t kTriples1[] = {0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 10, 18, 19, 13, 20, 21};
constexpr std::int32_t kTriples2[] = {26, 6,  7,  27, 8,  9,  28, 10,
                                      11, 29, 12, 13, 30, 14, 15, 31};
DERL_LANE void store_sixteen_rows(float* p, const F (&x)[3]) {
    const F low = shuffle(x[0], kLowPairs, x[1]), high = shuffle(x[0], kHighPairs, x[1]);
    shuffle(low, kTriples0, x[2]).store(p);
    shuffle(shuffle(low, kTriples1Low, x[2]), kTriples1, high).store(p + 16);
    shuffle(high, kTriples2, x[2]).store(p + 32);
}
DERL_LANE void store_sixteen_rows(float* p, const F (&x)[4]) {
    const F a = shuffle(x[0], kLowPairs, x[1]), b = shuffle(x[0], kHighPairs, x[1]);
    const F c = shuffle(x[2], kLowPairs, x[3]), d = shuffle(x[2], kHighPairs, x[3]);
    shuffle(a, kLowQuads, c).store(p);
    shuffle(a, kHighQuads, c).store(p + 16);
    shuffle(b, kLowQuads, d).store(p + 32);
    shuffle(b, kHighQuads, d).store(p + 48);
}
#else
DERL_LANE void store_sixteen_flags(std::uint8_t* p, M mask) {
    const std::uint32_t bits = lane_bits(mask);
    for (int i = 0; i < kLanes; ++i) {
        p[i] = static_cast<std::uint8_t>(bits >> i & 1);
    }
}
#endif

// A byte for each of the first `count` lanes, 1 where the mask is set.
DERL_LANE void store_flags(std::uint8_t* p, M mask, int count) {
    if (count == kLanes) {
        store_sixteen_flags(p, mask);
        return;
    }
    const std::uint32_t bits = lane_bits(mask);
    for (int i = 0; i < count; ++i) {
        p[i] = static_cast<std::uint8_t>(bits >> i & 1);
    }
}

template <int kColumns>
DERL_LANE void store_sixteen_rows(float* p, const F (&x)[kColumns]) {
    alignas(64) float columns[kColumns][kLanes];
    for (int c = 0; c < kColumns; ++c) {
        x[c].store(columns[c]);
    }
    for (int row = 0; row < kLanes; ++row) {
        for (int c = 0; c < kColumns; ++c) {
            p[row * kColumns + c] = columns[c][row];
        }
    }
}

// Rows 0 to count - 1 of [16, kColumns]; 0 <= count <= 16.
template <int kColumns>
DERL_LANE void store_rows(float* p, const F (&x)[kColumns], int count) {
    if (count == kLanes) {
        store_sixteen_rows(p, x);
        return;
    }
    alignas(64) float rows[kLanes * kColumns];
    store_sixteen_rows(rows, x);
    for (int i = 0; i < count * kColumns; ++i) {
        p[i] = rows[i];
    }
}

}  // namespace derl::DERL_LEVEL
