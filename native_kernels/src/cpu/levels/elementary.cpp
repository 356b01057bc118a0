#include "cpu/elementary.hpp"

#include "cpu/simd/lanes.hpp"

namespace derl::DERL_LEVEL {

namespace {

DERL_LANE F apply(Elementary function, F x) {
    F sine, cosine;
    switch (function) {
        case Elementary::kExp: return exp(x);
        case Elementary::kLog: return log(x);
        case Elementary::kTanh: return tanh(x);
        case Elementary::kSine: sine_cosine(x, sine, cosine); return sine;
        case Elementary::kCosine: sine_cosine(x, sine, cosine); return cosine;
    }
    return x;
}

}  // namespace

void elementary(Elementary function, const float* x, std::size_t count, float* y) {
    for (std::size_t i = 0; i < count; i += kLanes) {
        const int left = count - i < kLanes ? static_cast<int>(count - i) : kLanes;
        store_first(y + i, apply(function, load_first(x + i, left)), left);
    }
}

void fused_multiply_add(const float* a, const float* b, const float* c, std::size_t count,
                        float* y) {
    for (std::size_t i = 0; i < count; i += kLanes) {
        const int left = count - i < kLanes ? static_cast<int>(count - i) : kLanes;
        store_first(y + i, fma(load_first(a + i, left), load_first(b + i, left),
                               load_first(c + i, left)), left);
    }
}

}  // namespace derl::DERL_LEVEL
