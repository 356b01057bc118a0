// MountainCarContinuous-v0 of Gymnasium 1.4 (classic_control/continuous_mountain_car.py).
#pragma once

#include <derl/environments/real.hpp>

namespace derl {

struct MountainCarContinuous {
    static constexpr char kId[] = "MountainCarContinuous-v0";
    static constexpr int kStates = 2;  // position, velocity
    static constexpr int kObservations = 2;
    static constexpr int kActions = 1;  // force
    static constexpr int kChoices = 0;
    static constexpr int kMaxSteps = 999;
    static constexpr float kActionLow = -1.0f;
    static constexpr float kActionHigh = 1.0f;

    static constexpr double kMinPosition = -1.2;
    static constexpr double kMaxPosition = 0.6;
    static constexpr double kMaxSpeed = 0.07;
    static constexpr double kGoalPosition = 0.45;
    static constexpr double kGoalVelocity = 0;
    static constexpr double kPower = 0.0015;
    static constexpr double kGravity = 0.0025;
    static constexpr double kGoalReward = 100;
    static constexpr double kActionCost = 0.1;
    static constexpr float kStartLow = -0.6f;
    static constexpr float kStartHigh = -0.4f;

    static constexpr float kObservationHigh[] = {static_cast<float>(kMaxPosition),
                                                 static_cast<float>(kMaxSpeed)};
    static constexpr float kObservationLow[] = {static_cast<float>(kMinPosition),
                                                -static_cast<float>(kMaxSpeed)};

    template <class V>
    static DERL_HOST_DEVICE MaskOf<V> step(V* state, const V* action, V& reward) {
        const V force = clip(action[0], real<V>(-1), real<V>(1));
        V sine, cosine;
        sine_cosine(real<V>(3) * state[0], sine, cosine);
        const V push = force * real<V>(kPower) - real<V>(kGravity) * cosine;
        return move(state, action[0], state[1] + push, reward);
    }

    // Gymnasium's state is float64 when an episode begins and float32 from its first step on; the
    // action is float32 unless it is clipped, which makes it a Python number. A Python number takes
    // the precision of what it meets. Sums and products of float32 numbers may be computed in
    // double and rounded: with so many digits to spare that gives the same.
    static DERL_HOST_DEVICE bool step_exact(double* state, const double* action, double& reward,
                                            bool is_first) {
        const bool is_clipped = action[0] < -1.0 || action[0] > 1.0;
        const double force = clip(action[0], -1.0, 1.0);
        const double angle = is_first ? 3 * state[0] : in_float32(3 * state[0]);
        const double pull = kGravity * ::cos(angle);
        const double push =
            is_clipped ? force * kPower - pull
                       : in_float32(in_float32(force * in_float32(kPower)) - in_float32(pull));
        if (is_first) {
            const bool is_over = move(state, action[0], state[1] + push, reward);
            state[0] = in_float32(state[0]);
            state[1] = in_float32(state[1]);
            return is_over;
        }
        float narrow[] = {static_cast<float>(state[0]), static_cast<float>(state[1])};
        float ignored;
        const bool is_over = move(narrow, 0.0f, narrow[1] + static_cast<float>(push), ignored);
        state[0] = narrow[0];
        state[1] = narrow[1];
        reward = reward_of(is_over, action[0]);
        return is_over;
    }

    template <class V>
    static DERL_HOST_DEVICE V reward_of(MaskOf<V> is_over, V action) {
        return select(is_over, real<V>(kGoalReward), real<V>(0)) -
               squared(action) * real<V>(kActionCost);
    }

    // What follows once the velocity is known but for its limit.
    template <class V>
    static DERL_HOST_DEVICE MaskOf<V> move(V* state, V action, V velocity, V& reward) {
        velocity = clip(velocity, real<V>(-kMaxSpeed), real<V>(kMaxSpeed));
        const V position =
            clip(state[0] + velocity, real<V>(kMinPosition), real<V>(kMaxPosition));
        const V zero = real<V>(0);
        velocity = select((position == real<V>(kMinPosition)) & (velocity < zero), zero, velocity);
        state[0] = position;
        state[1] = velocity;
        const MaskOf<V> is_over =
            (position >= real<V>(kGoalPosition)) & (velocity >= real<V>(kGoalVelocity));
        reward = reward_of(is_over, action);
        return is_over;
    }

    template <class V>
    static DERL_HOST_DEVICE void observe(const V* state, V* observation) {
        observation[0] = state[0];
        observation[1] = state[1];
    }

    template <class V>
    static DERL_HOST_DEVICE void start(const Random4<typename IntegerOf<V>::type>& random,
                                       V* state) {
        state[0] = uniform_between<V>(random.a, kStartLow, kStartHigh);
        state[1] = real<V>(0);
    }
};

}  // namespace derl
