// MountainCar-v0 of Gymnasium 1.4 (classic_control/mountain_car.py; Moore 1990).
#pragma once

#include <derl/environments/real.hpp>

namespace derl {

struct MountainCar {
    static constexpr char kId[] = "MountainCar-v0";
    static constexpr int kStates = 2;  // position, velocity
    static constexpr int kObservations = 2;
    static constexpr int kActions = 1;
    static constexpr int kChoices = 3;  // left, none, right
    static constexpr int kMaxSteps = 200;
    static constexpr float kActionLow = 0.0f;
    static constexpr float kActionHigh = 2.0f;

    static constexpr double kMinPosition = -1.2;
    static constexpr double kMaxPosition = 0.6;
    static constexpr double kMaxSpeed = 0.07;
    static constexpr double kGoalPosition = 0.5;
    static constexpr double kGoalVelocity = 0;
    static constexpr double kForce = 0.001;
    static constexpr double kGravity = 0.0025;
    static constexpr float kStartLow = -0.6f;
    static constexpr float kStartHigh = -0.4f;

    static constexpr float kObservationHigh[] = {static_cast<float>(kMaxPosition),
                                                 static_cast<float>(kMaxSpeed)};
    static constexpr float kObservationLow[] = {static_cast<float>(kMinPosition),
                                                -static_cast<float>(kMaxSpeed)};

    template <class V>
    static DERL_HOST_DEVICE MaskOf<V> step(V* state, const V* action, V& reward) {
        V position = state[0], velocity = state[1];
        V sine, cosine;
        sine_cosine(real<V>(3) * position, sine, cosine);
        velocity = velocity + ((action[0] - real<V>(1)) * real<V>(kForce) +
                               cosine * real<V>(-kGravity));
        velocity = clip(velocity, real<V>(-kMaxSpeed), real<V>(kMaxSpeed));
        position = clip(position + velocity, real<V>(kMinPosition), real<V>(kMaxPosition));
        const V zero = real<V>(0);
        velocity = select((position == real<V>(kMinPosition)) & (velocity < zero), zero, velocity);
        state[0] = position;
        state[1] = velocity;
        reward = real<V>(-1);
        return (position >= real<V>(kGoalPosition)) & (velocity >= real<V>(kGoalVelocity));
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
