#include "cpu/limits.hpp"

#include "cpu/simd/lanes.hpp"

namespace derl::DERL_LEVEL {

namespace {

// As many chains as hide the latency of an operation and still fit the registers.
#if defined(DERL_LEVEL_AVX512)
constexpr int kChains = 12;
#elif defined(DERL_LEVEL_AVX2)
constexpr int kChains = 6;
#else
constexpr int kChains = 3;
#endif

DERL_LANE F multiply_add(F a, F b, F c) {
#if defined(DERL_LEVEL_V2)
    return a * b + c;
#else
    return fma(a, b, c);
#endif
}

// Makes the compiler believe that memory is read and written here, so that no round is left out.
DERL_LANE void observe() { asm volatile("" ::: "memory"); }

}  // namespace

std::size_t multiply_add_chains(std::size_t rounds, float factor, float addend,
                                const float* starts, float* sink) {
    const F b(factor);
    const F c(addend);
    F chains[kChains];
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) {
        chains[i] = F::load(starts + i * kLanes);
    }
    for (std::size_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 16
        for (int i = 0; i < kChains; ++i) {
            chains[i] = multiply_add(chains[i], b, c);
        }
    }
    F sum(0.0f);
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) {
        sum = sum + chains[i];
    }
    *sink = sum_lanes(sum);
    return rounds * kChains * kLanes * 2;
}

void repeat_tanh(const float* x, std::size_t count, std::size_t rounds, float* y) {
    for (std::size_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 4
        for (std::size_t i = 0; i < count; i += kLanes) {
            tanh(F::load(x + i)).store(y + i);
        }
        observe();
    }
}

void repeat_exp(const float* x, std::size_t count, std::size_t rounds, float* y) {
    for (std::size_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 4
        for (std::size_t i = 0; i < count; i += kLanes) {
            exp(F::load(x + i)).store(y + i);
        }
        observe();
    }
}

float repeat_read(const float* x, std::size_t count, std::size_t rounds) {
    constexpr int kSums = 8;
    F sums[kSums];
#pragma GCC unroll 8
    for (int j = 0; j < kSums; ++j) {
        sums[j] = F(0.0f);
    }
    for (std::size_t round = 0; round < rounds; ++round) {
        for (std::size_t i = 0; i < count; i += kSums * kLanes) {
#pragma GCC unroll 8
            for (int j = 0; j < kSums; ++j) {
                sums[j] = sums[j] + F::load(x + i + j * kLanes);
            }
        }
        observe();
    }
    F sum(0.0f);
#pragma GCC unroll 8
    for (int j = 0; j < kSums; ++j) {
        sum = sum + sums[j];
    }
    return sum_lanes(sum);
}

}  // namespace derl::DERL_LEVEL
