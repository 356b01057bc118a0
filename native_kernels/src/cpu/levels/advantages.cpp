#include "cpu/advantages.hpp"

#include "cpu/simd/lanes.hpp"

namespace derl::DERL_LEVEL {

namespace {

// 1 where the flag is zero
DERL_LANE F unset(const std::uint8_t* flags) {
    alignas(64) float lanes[kLanes];
    for (int i = 0; i < kLanes; ++i) {
        lanes[i] = flags[i] == 0 ? 1.0f : 0.0f;
    }
    return F::load(lanes);
}
DERL_LANE float unset_one(const std::uint8_t* flag) { return *flag == 0 ? 1.0f : 0.0f; }

struct Lanes {
    using V = F;
    static DERL_LANE V load(const float* p) { return F::load(p); }
    static DERL_LANE void store(float* p, V x) { x.store(p); }
    static DERL_LANE V goes_on(const std::uint8_t* flags) { return unset(flags); }
};
struct One {
    using V = float;
    static DERL_LANE V load(const float* p) { return *p; }
    static DERL_LANE void store(float* p, V x) { *p = x; }
    static DERL_LANE V goes_on(const std::uint8_t* flag) { return unset_one(flag); }
};

template <class Width>
DERL_LANE void advantages_of_column(const RewardTrace& trace, const float* values, Discount discount,
                                    std::size_t column, float* advantages, float* returns) {
    AdvantageColumn<typename Width::V> walk(Width::load(trace.last_values + column),
                                            Width::goes_on(trace.last_dones + column));
    for (std::size_t step = trace.steps; step-- > 0;) {
        const std::size_t at = step * trace.environments + column;
        const auto value = Width::load(values + at);
        const auto advantage = walk.step_back(discount, Width::load(trace.rewards + at), value,
                                              Width::goes_on(trace.episode_starts + at));
        Width::store(advantages + at, advantage);
        Width::store(returns + at, advantage + value);
    }
}

template <class Width>
DERL_LANE void returns_of_column(const RewardTrace& trace, float gamma, std::size_t column,
                                 float* returns) {
    ReturnColumn<typename Width::V> walk(Width::load(trace.last_values + column),
                                         Width::goes_on(trace.last_dones + column));
    for (std::size_t step = trace.steps; step-- > 0;) {
        const std::size_t at = step * trace.environments + column;
        Width::store(returns + at, walk.step_back(gamma, Width::load(trace.rewards + at),
                                                  Width::goes_on(trace.episode_starts + at)));
    }
}

// Sixteen columns at a time, the last sixteen overlapping those before where the count is no
// multiple (each column's result stays what it is); one at a time below sixteen.
template <class Wide, class Narrow>
DERL_LANE void over_columns(std::size_t count, Wide wide, Narrow narrow) {
    if (count < kLanes) {
        for (std::size_t column = 0; column < count; ++column) {
            narrow(column);
        }
        return;
    }
    std::size_t column = 0;
    for (; column + kLanes <= count; column += kLanes) {
        wide(column);
    }
    if (column < count) {
        wide(count - kLanes);
    }
}

}  // namespace

void generalized_advantages(const RewardTrace& trace, const float* values, Discount discount,
                            float* advantages, float* returns) {
    over_columns(
        trace.environments,
        [&](std::size_t column) {
            advantages_of_column<Lanes>(trace, values, discount, column, advantages, returns);
        },
        [&](std::size_t column) {
            advantages_of_column<One>(trace, values, discount, column, advantages, returns);
        });
}

void discounted_returns(const RewardTrace& trace, float gamma, float* returns) {
    over_columns(
        trace.environments,
        [&](std::size_t column) { returns_of_column<Lanes>(trace, gamma, column, returns); },
        [&](std::size_t column) { returns_of_column<One>(trace, gamma, column, returns); });
}

}  // namespace derl::DERL_LEVEL
