// CartPole-v1 of Gymnasium 1.4 (classic_control/cartpole.py; Barto, Sutton and Anderson 1983).
#pragma once

#include <derl/environments/real.hpp>

namespace derl {

struct CartPole {
    static constexpr char kId[] = "CartPole-v1";
    static constexpr int kStates = 4;  // position, velocity, angle, angular velocity
    static constexpr int kObservations = 4;
    static constexpr int kActions = 1;
    static constexpr int kChoices = 2;  // push left, push right
    static constexpr int kMaxSteps = 500;
    static constexpr float kActionLow = 0.0f;
    static constexpr float kActionHigh = 1.0f;

    static constexpr double kPi = 3.14159265358979323846;
    static constexpr double kGravity = 9.8;
    static constexpr double kMassPole = 0.1;
    static constexpr double kTotalMass = kMassPole + 1.0;
    static constexpr double kLength = 0.5;  // half the pole's
    static constexpr double kPoleMassLength = kMassPole * kLength;
    static constexpr double kForce = 10.0;
    static constexpr double kSeconds = 0.02;
    static constexpr double kAngleLimit = 12 * 2 * kPi / 360;
    static constexpr double kPositionLimit = 2.4;
    static constexpr float kStart = 0.05f;

    static constexpr float kInfinity = __builtin_inff();
    static constexpr float kObservationHigh[] = {static_cast<float>(kPositionLimit * 2), kInfinity,
                                                 static_cast<float>(kAngleLimit * 2), kInfinity};
    static constexpr float kObservationLow[] = {-kObservationHigh[0], -kInfinity,
                                                -kObservationHigh[2], -kInfinity};

    template <class V>
    static DERL_HOST_DEVICE MaskOf<V> step(V* state, const V* action, V& reward) {
        V x = state[0], x_dot = state[1], theta = state[2], theta_dot = state[3];
        const V force = select(action[0] == real<V>(1), real<V>(kForce), real<V>(-kForce));
        V sine, cosine;
        sine_cosine(theta, sine, cosine);
        const V temp = quotient(
            force + real<V>(kPoleMassLength) * (theta_dot * theta_dot) * sine, kTotalMass);
        const V denominator =
            real<V>(kLength) * (real<V>(4.0 / 3.0) -
                                quotient(real<V>(kMassPole) * (cosine * cosine), kTotalMass));
        const V theta_acceleration = (real<V>(kGravity) * sine - cosine * temp) / denominator;
        const V acceleration = temp - quotient(real<V>(kPoleMassLength) * theta_acceleration * cosine,
                                               kTotalMass);
        const V seconds = real<V>(kSeconds);
        state[0] = x = x + seconds * x_dot;
        state[1] = x_dot + seconds * acceleration;
        state[2] = theta = theta + seconds * theta_dot;
        state[3] = theta_dot + seconds * theta_acceleration;
        reward = real<V>(1);
        const V position = real<V>(kPositionLimit), angle = real<V>(kAngleLimit);
        return (x < -position) | (x > position) | (theta < -angle) | (theta > angle);
    }

    template <class V>
    static DERL_HOST_DEVICE void observe(const V* state, V* observation) {
        for (int i = 0; i < kStates; ++i) {
            observation[i] = state[i];
        }
    }

    template <class V>
    static DERL_HOST_DEVICE void start(const Random4<typename IntegerOf<V>::type>& random,
                                       V* state) {
        state[0] = uniform_between<V>(random.a, -kStart, kStart);
        state[1] = uniform_between<V>(random.b, -kStart, kStart);
        state[2] = uniform_between<V>(random.c, -kStart, kStart);
        state[3] = uniform_between<V>(random.d, -kStart, kStart);
    }
};

}  // namespace derl
