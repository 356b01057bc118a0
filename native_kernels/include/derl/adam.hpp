// One step of Adam (Kingma and Ba 2015) as PyTorch 2 takes it.
#pragma once

#include <derl/elementary.hpp>

namespace derl::adam {

struct Settings {
    float first_weight;    // 1 - beta1
    float second_decay;    // beta2
    float second_weight;   // 1 - beta2
    float step_size;       // learning rate / (1 - beta1^step)
    float inverse_root;    // 1 / sqrt(1 - beta2^step)
    float epsilon;
};

template <class V>
DERL_HOST_DEVICE V step(V parameter, V gradient, V& first, V& second, const Settings& s) {
    first = fma(gradient - first, V(s.first_weight), first);
    second = fma(gradient * gradient, V(s.second_weight), second * V(s.second_decay));
    const V denominator = fma(sqrt(second), V(s.inverse_root), V(s.epsilon));
    return fnma(V(s.step_size), first / denominator, parameter);
}

}  // namespace derl::adam
