// A policy with its optimizer: what the bindings hold, and what a fused rollout reads.
#pragma once

#include <cstdint>

#include "cpu/actor_critic.hpp"
#include "cpu/network_layout.hpp"

namespace derl {

class Ppo {
public:
    // flat: float32[parameter_count], Stable-Baselines3's order
    Ppo(const PolicyShape& shape, const float* flat, int threads);

    // Valid until this object goes; an update changes the weights that it points to.
    const ActorCritic& network() const { return network_; }
    int threads() const { return threads_; }
    std::size_t parameter_count() const { return count_; }
    void read_parameters(float* flat) const;

    // Any number of rows.
    void act(const float* observations, std::int64_t rows, std::uint64_t seed, std::uint64_t step,
             const Actions& actions, float* values, float* log_probs);
    void values(const float* observations, std::int64_t rows, float* values);
    void best_actions(const float* observations, std::int64_t rows, const Actions& actions);

private:
    ActorCritic network_;
    std::size_t count_;
    int threads_;
    Floats parameters_, scratch_;
};

}  // namespace derl
