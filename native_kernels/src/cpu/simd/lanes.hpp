// The virtual vector: sixteen lanes, whatever the processor. F, I and M (mask) of the level that is
// being compiled, in its namespace; one AVX-512 register, two of AVX2, four of SSE or plain C++.
//
// Every operation on a lane is an IEEE operation rounded once, and sum_lanes adds in one stated
// order, so a kernel written over F gives the same bits at every level.
#pragma once

#include <derl/elementary.hpp>

#if defined(DERL_LEVEL_AVX512)
#define DERL_LEVEL avx512
#include "cpu/simd/avx512.hpp"
namespace derl::avx512 {
using F = F16;
using I = I16;
using M = M16;
using Register = F16;
}  // namespace derl::avx512
#elif defined(DERL_LEVEL_AVX2)
#define DERL_LEVEL avx2
#include "cpu/simd/avx2.hpp"
namespace derl::avx2 {
#include "cpu/simd/pair.hpp"
using F = PairFloat<F8>;
using Register = F8;
}  // namespace derl::avx2
#elif defined(DERL_LEVEL_V2)
#define DERL_LEVEL v2
#include "cpu/simd/v2.hpp"
namespace derl::v2 {
#include "cpu/simd/pair.hpp"
using F = PairFloat<PairFloat<F4>>;
using Register = F4;
}  // namespace derl::v2
#else
#define DERL_LEVEL generic
#include "cpu/simd/generic.hpp"
namespace derl::generic {
#include "cpu/simd/pair.hpp"
using F = PairFloat<PairFloat<PairFloat<PairFloat<F1>>>>;
using Register = F1;
}  // namespace derl::generic
#endif

namespace derl::DERL_LEVEL {
#if !defined(DERL_LEVEL_AVX512)
using I = F::Integer;
using M = F::Mask;
#endif
// Register: the lanes of one processor register, for kernels without sums over lanes that need many.
constexpr int kLanes = 16;
static_assert(F::kLanes == kLanes && I::kLanes == kLanes);

// The first `count` lanes from memory, zeros in the others; 0 <= count <= 16.
DERL_LANE F load_first(const float* p, int count) {
    if (count == kLanes) {
        return F::load(p);
    }
    alignas(64) float lanes[kLanes] = {};
    for (int i = 0; i < count; ++i) {
        lanes[i] = p[i];
    }
    return F::load(lanes);
}
DERL_LANE void store_first(float* p, F x, int count) {
    if (count == kLanes) {
        x.store(p);
        return;
    }
    alignas(64) float lanes[kLanes];
    x.store(lanes);
    for (int i = 0; i < count; ++i) {
        p[i] = lanes[i];
    }
}
// Lane i holds i.
DERL_LANE I lane_numbers() {
    alignas(64) static constexpr std::int32_t kNumbers[kLanes] = {0, 1, 2,  3,  4,  5,  6,  7,
                                                                  8, 9, 10, 11, 12, 13, 14, 15};
    return I::load(kNumbers);
}
}  // namespace derl::DERL_LEVEL
