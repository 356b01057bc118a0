// A choice among n actions with probabilities proportional to exp(logit), for one lane or sixteen.
#pragma once

#include <derl/elementary.hpp>

namespace derl::categorical {

// The logits shifted so that the largest is 0: exp of none overflows, the sum is at least 1.
template <class V>
struct Normaliser {
    V largest, sum, log_sum;
};

// logits(a): the logit of action a
template <class V, class Logits>
DERL_HOST_DEVICE Normaliser<V> normaliser(const Logits& logits, int actions) {
    V largest = logits(0);
    for (int a = 1; a < actions; ++a) {
        largest = max(logits(a), largest);
    }
    V sum(0.0f);
    for (int a = 0; a < actions; ++a) {
        sum = sum + exp(logits(a) - largest);
    }
    return {largest, sum, log(sum)};
}

template <class V>
DERL_HOST_DEVICE V log_prob(const Normaliser<V>& n, V logit) {
    return (logit - n.largest) - n.log_sum;
}

template <class V>
struct Drawn {
    typename IntegerOf<V>::type action;
    V log_prob;
};

// The first action at which the cumulated weights exceed u of their sum; u in [0, 1).
template <class V, class Logits>
DERL_HOST_DEVICE Drawn<V> sample(const Logits& logits, int actions, V u) {
    using Integer = typename IntegerOf<V>::type;
    const Normaliser<V> n = normaliser<V>(logits, actions);
    const V threshold = u * n.sum;
    Integer action(0);
    V chosen = logits(0);
    V cumulated(0.0f);
    for (int a = 1; a < actions; ++a) {
        cumulated = cumulated + exp(logits(a - 1) - n.largest);
        const auto is_further = cumulated <= threshold;
        action = select(is_further, Integer(a), action);
        chosen = select(is_further, logits(a), chosen);
    }
    return {action, log_prob(n, chosen)};
}

}  // namespace derl::categorical
