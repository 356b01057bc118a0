// Acrobot-v1 of Gymnasium 1.4 (classic_control/acrobot.py; the equations of Sutton and Barto's book).
#pragma once

#include <derl/environments/real.hpp>

namespace derl {

struct Acrobot {
    static constexpr char kId[] = "Acrobot-v1";
    static constexpr int kStates = 4;  // two angles, 0 hanging, within [-pi, pi]; their velocities
    static constexpr int kObservations = 6;
    static constexpr int kActions = 1;
    static constexpr int kChoices = 3;  // torque -1, 0, 1 on the joint between the links
    static constexpr int kMaxSteps = 500;
    static constexpr float kActionLow = 0.0f;
    static constexpr float kActionHigh = 2.0f;

    static constexpr double kPi = 3.14159265358979323846;
    static constexpr double kSeconds = 0.2;
    static constexpr double kMass1 = 1, kMass2 = 1;
    static constexpr double kLength1 = 1;
    static constexpr double kCentre1 = 0.5, kCentre2 = 0.5;  // centres of mass along the links
    static constexpr double kInertia = 1;
    static constexpr double kGravity = 9.8;
    static constexpr double kMaxSpeed1 = 4 * kPi, kMaxSpeed2 = 9 * kPi;
    static constexpr float kStart = 0.1f;

    static constexpr float kObservationHigh[] = {
        1.0f, 1.0f, 1.0f, 1.0f, static_cast<float>(kMaxSpeed1), static_cast<float>(kMaxSpeed2)};
    static constexpr float kObservationLow[] = {-1.0f, -1.0f, -1.0f, -1.0f, -kObservationHigh[4],
                                                -kObservationHigh[5]};

    // The sines of angle 1, angle 2 and their sum, and the cosine of angle 2. Gymnasium writes
    // the first and last as cosines of angles less pi / 2, which rounds differently.
    static DERL_HOST_DEVICE void sines(double angle1, double angle2, double& sine1, double& sine2,
                                       double& cosine2, double& sine_of_sum) {
        sine1 = ::cos(angle1 - kPi / 2.0);
        sine2 = ::sin(angle2);
        cosine2 = ::cos(angle2);
        sine_of_sum = ::cos(angle1 + angle2 - kPi / 2.0);
    }
    template <class V>
    static DERL_HOST_DEVICE void sines(V angle1, V angle2, V& sine1, V& sine2, V& cosine2,
                                       V& sine_of_sum) {
        V cosine1;
        sine_cosine(angle1, sine1, cosine1);
        sine_cosine(angle2, sine2, cosine2);
        sine_of_sum = fma(sine1, cosine2, cosine1 * sine2);
    }

    template <class V>
    static DERL_HOST_DEVICE void derivative(const V* state, V torque, V* slope) {
        const V angle1 = state[0], angle2 = state[1], speed1 = state[2], speed2 = state[3];
        V sine1, sine2, cosine2, sine_of_sum;
        sines(angle1, angle2, sine1, sine2, cosine2, sine_of_sum);
        constexpr double kCoupling = kMass2 * kLength1 * kCentre2;
        const V d1 = real<V>(kMass1 * (kCentre1 * kCentre1)) +
                     real<V>(kMass2) *
                         (real<V>(kLength1 * kLength1 + kCentre2 * kCentre2) +
                          real<V>(2 * kLength1 * kCentre2) * cosine2) +
                     real<V>(kInertia) + real<V>(kInertia);
        const V d2 = real<V>(kMass2) * (real<V>(kCentre2 * kCentre2) +
                                        real<V>(kLength1 * kCentre2) * cosine2) +
                     real<V>(kInertia);
        const V phi2 = real<V>(kMass2 * kCentre2 * kGravity) * sine_of_sum;
        const V phi1 = real<V>(-kCoupling) * squared(speed2) * sine2 -
                       real<V>(2 * kCoupling) * speed2 * speed1 * sine2 +
                       real<V>((kMass1 * kCentre1 + kMass2 * kLength1) * kGravity) * sine1 + phi2;
        const V acceleration2 =
            (torque + d2 / d1 * phi1 - real<V>(kCoupling) * squared(speed1) * sine2 - phi2) /
            (real<V>(kMass2 * (kCentre2 * kCentre2) + kInertia) - squared(d2) / d1);
        slope[0] = speed1;
        slope[1] = speed2;
        slope[2] = -(d2 * acceleration2 + phi1) / d1;
        slope[3] = acceleration2;
    }

    static DERL_HOST_DEVICE double wrap(double x) {
        constexpr double kTurn = kPi - -kPi;
        if (!(x > -1000.0 && x < 1000.0)) {
            return ::remainder(x, kTurn);  // no step leads here, a given state can; x may be infinite
        }
        while (x > kPi) {
            x = x - kTurn;
        }
        while (x < -kPi) {
            x = x + kTurn;
        }
        return x;
    }
    template <class V>
    static DERL_HOST_DEVICE V wrap(V x) {
        return angle_within_turn(x);
    }

    template <class V>
    static DERL_HOST_DEVICE MaskOf<V> step(V* state, const V* action, V& reward) {
        const V torque = action[0] - real<V>(1);
        const V half = real<V>(kSeconds / 2.0), whole = real<V>(kSeconds);
        V k1[kStates], k2[kStates], k3[kStates], k4[kStates], moved[kStates];
        derivative(state, torque, k1);
        for (int i = 0; i < kStates; ++i) {
            moved[i] = state[i] + half * k1[i];
        }
        derivative(moved, torque, k2);
        for (int i = 0; i < kStates; ++i) {
            moved[i] = state[i] + half * k2[i];
        }
        derivative(moved, torque, k3);
        for (int i = 0; i < kStates; ++i) {
            moved[i] = state[i] + whole * k3[i];
        }
        derivative(moved, torque, k4);
        for (int i = 0; i < kStates; ++i) {
            const V two = real<V>(2);
            moved[i] = state[i] +
                       real<V>(kSeconds / 6.0) * (k1[i] + two * k2[i] + two * k3[i] + k4[i]);
        }
        state[0] = wrap(moved[0]);
        state[1] = wrap(moved[1]);
        state[2] = clip(moved[2], real<V>(-kMaxSpeed1), real<V>(kMaxSpeed1));
        state[3] = clip(moved[3], real<V>(-kMaxSpeed2), real<V>(kMaxSpeed2));
        V sine, cosine1, cosine_of_sum;
        sine_cosine(state[0], sine, cosine1);
        sine_cosine(state[1] + state[0], sine, cosine_of_sum);
        const auto is_up = -cosine1 - cosine_of_sum > real<V>(1);
        reward = select(is_up, real<V>(0), real<V>(-1));
        return is_up;
    }

    template <class V>
    static DERL_HOST_DEVICE void observe(const V* state, V* observation) {
        sine_cosine(state[0], observation[1], observation[0]);
        sine_cosine(state[1], observation[3], observation[2]);
        observation[4] = state[2];
        observation[5] = state[3];
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
