// The terms of PPO's loss for one sample or sixteen (Schulman et al. 2017), each with its gradient,
// as Stable-Baselines3 2.9 has them: clipped surrogate, squared error of the value with or without
// clipping, and the estimate of the KL divergence by which it stops early.
#pragma once

#include <derl/elementary.hpp>

namespace derl::ppo {

struct LossSettings {
    float clip_range;
    float clip_range_vf;  // not positive: the value is not clipped
    float entropy_weight, value_weight;
};

template <class V>
struct PolicyTerm {
    V objective;     // to be maximised
    V gradient;      // of the objective with respect to the log-probability
    V divergence;    // (ratio - 1) - log(ratio), Schulman's estimate
    V is_clipped;    // 1 where the ratio is further than clip_range from 1
};

template <class V>
DERL_HOST_DEVICE PolicyTerm<V> policy_term(V log_prob, V old_log_prob, V advantage,
                                           const LossSettings& settings) {
    const V one(1.0f);
    const V low(1.0f - settings.clip_range);
    const V high(1.0f + settings.clip_range);
    const V log_ratio = log_prob - old_log_prob;
    const V ratio = exp(log_ratio);
    const V plain = advantage * ratio;
    const V clipped = advantage * min(high, max(low, ratio));
    // where clipping lowers the objective, it does not depend on the policy
    const auto has_gradient = plain <= clipped;
    return {min(plain, clipped), select(has_gradient, plain, V(0.0f)), (ratio - one) - log_ratio,
            select(abs(ratio - one) > V(settings.clip_range), one, V(0.0f))};
}

template <class V>
struct ValueTerm {
    V squared_error;
    V gradient;  // of the squared error with respect to the value
};

template <class V>
DERL_HOST_DEVICE ValueTerm<V> value_term(V value, V old_value, V target,
                                         const LossSettings& settings) {
    if (settings.clip_range_vf > 0.0f) {
        const V limit(settings.clip_range_vf);
        const V change = value - old_value;
        const V error = (old_value + min(limit, max(-limit, change))) - target;
        return {error * error, select(abs(change) <= limit, error + error, V(0.0f))};
    }
    const V error = value - target;
    return {error * error, error + error};
}

}  // namespace derl::ppo
