// One environment of a float32 batch in one thread: the same text for single steps and for rollouts.
#pragma once

#include <derl/environments/all.hpp>

#include "cuda/kernels.hpp"
#include "cuda/launch.cuh"

namespace derl::cuda {

// What a thread holds of its environment between memory and memory.
template <class E>
struct Running {
    float state[E::kStates];
    std::int32_t elapsed;
    std::uint32_t episode;  // number that the next episode will have

    DERL_DEVICE void load(const Batch& batch, std::size_t b) {
        for (int s = 0; s < E::kStates; ++s) {
            state[s] = batch.states[static_cast<std::size_t>(s) * batch.stride + b];
        }
        elapsed = batch.elapsed[b];
        episode = batch.episode[b];
    }

    DERL_DEVICE void store(const Batch& batch, std::size_t b) const {
        for (int s = 0; s < E::kStates; ++s) {
            batch.states[static_cast<std::size_t>(s) * batch.stride + b] = state[s];
        }
        batch.elapsed[b] = elapsed;
        batch.episode[b] = episode;
    }

    DERL_DEVICE void start(std::uint64_t seed, std::size_t b) {
        const auto random = random_bits_of_lanes(seed, Purpose::kReset, static_cast<std::int32_t>(b),
                                                 static_cast<std::int32_t>(episode));
        E::template start<float>(random, state);
        ++episode;
        elapsed = 0;
    }

    // Returns whether the state is terminal; `reward` and `truncated` are written.
    DERL_DEVICE bool step(const float* action, bool is_sound, float& reward, bool& truncated) {
        bool terminated = E::step(state, action, reward);
        if (!is_sound) {
            terminated = false;
            reward = float_of_bits(0x7fc00000);
            for (int s = 0; s < E::kStates; ++s) {
                state[s] = reward;
            }
        }
        ++elapsed;
        truncated = elapsed >= E::kMaxSteps;
        return terminated;
    }
};

// The actions of environment b as the dynamics take them. Returns whether they are sound.
template <class E>
DERL_DEVICE bool take_actions(const void* actions, std::size_t b, float* action) {
    if constexpr (E::kChoices > 0) {
        const std::int64_t choice = static_cast<const std::int64_t*>(actions)[b];
        action[0] = static_cast<float>(static_cast<std::int32_t>(choice));
        return choice >= 0 && choice < E::kChoices;
    } else {
        bool is_sound = true;
        for (int a = 0; a < E::kActions; ++a) {
            action[a] = static_cast<const float*>(actions)[b * E::kActions + a];
            is_sound = is_sound && action[a] - action[a] == 0.0f;
        }
        return is_sound;
    }
}

}  // namespace derl::cuda
