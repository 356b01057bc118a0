// Pendulum-v1 of Gymnasium 1.4 (classic_control/pendulum.py).
#pragma once

#include <derl/environments/real.hpp>

namespace derl {

struct Pendulum {
    static constexpr char kId[] = "Pendulum-v1";
    static constexpr int kStates = 2;  // angle, 0 upright, not wrapped; angular velocity
    static constexpr int kObservations = 3;
    static constexpr int kActions = 1;  // torque
    static constexpr int kChoices = 0;
    static constexpr int kMaxSteps = 200;
    static constexpr float kActionLow = -2.0f;
    static constexpr float kActionHigh = 2.0f;

    static constexpr double kMaxSpeed = 8;
    static constexpr double kMaxTorque = 2;
    static constexpr double kSeconds = 0.05;
    static constexpr double kGravity = 10;
    static constexpr double kMass = 1;
    static constexpr double kLength = 1;
    static constexpr float kStartAngle = 3.14159265358979323846f;
    static constexpr float kStartSpeed = 1.0f;

    static constexpr float kObservationHigh[] = {1.0f, 1.0f, 8.0f};
    static constexpr float kObservationLow[] = {-1.0f, -1.0f, -8.0f};

    template <class V>
    static DERL_HOST_DEVICE MaskOf<V> step(V* state, const V* action, V& reward) {
        const V angle = state[0], speed = state[1];
        const V torque = clip(action[0], real<V>(-kMaxTorque), real<V>(kMaxTorque));
        const V effort = in_float32(real<V>(0.001f) * in_float32(torque * torque));
        reward = -(squared(angle_within_turn(angle)) + real<V>(0.1) * squared(speed) + effort);
        V sine, cosine;
        sine_cosine(angle, sine, cosine);
        const V pull = real<V>(3 * kGravity / (2 * kLength)) * sine;
        const V push = in_float32(real<V>(3.0 / (kMass * kLength * kLength)) * torque);
        const V next = clip(speed + (pull + push) * real<V>(kSeconds), real<V>(-kMaxSpeed),
                            real<V>(kMaxSpeed));
        state[0] = angle + next * real<V>(kSeconds);
        state[1] = next;
        return next < next;  // there is no end but the time limit
    }

    template <class V>
    static DERL_HOST_DEVICE void observe(const V* state, V* observation) {
        sine_cosine(state[0], observation[1], observation[0]);
        observation[2] = state[1];
    }

    template <class V>
    static DERL_HOST_DEVICE void start(const Random4<typename IntegerOf<V>::type>& random,
                                       V* state) {
        state[0] = uniform_between<V>(random.a, -kStartAngle, kStartAngle);
        state[1] = uniform_between<V>(random.b, -kStartSpeed, kStartSpeed);
    }
};

}  // namespace derl
