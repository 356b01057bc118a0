// The parts of a PPO update that run at processor levels; src/cpu/any/ppo_update.cpp puts them
// together. All memory is the caller's, aligned to 64 bytes.
#pragma once

#include <cstdint>

#include <derl/adam.hpp>
#include <derl/ppo_loss.hpp>

#include "cpu/dispatch.hpp"
#include "cpu/network.hpp"

namespace derl {

// Up to kBlockRows samples of a minibatch. Entries past `rows` are finite.
struct SampleBlock {
    int rows;
    const float* observations;  // [rows, padded observation_size], zeros in the padding
    const std::int32_t* discrete;  // [kBlockRows]
    const float* continuous;       // [action_size, kBlockRows]
    const float* advantages;       // [kBlockRows] like all below
    const float* old_log_probs;
    const float* old_values;
    const float* returns;
};

// Sums over the samples of a block.
struct PolicySums {
    float objective, entropy, divergence, clipped;
};

// Gradients are summed over blocks of so many entries for their norm.
constexpr std::size_t kNormBlock = 4096;

// *_gradient: the block's share of the gradient of the loss, which is a mean (1 / samples each),
// written to or added to the entries of that network. `transposed` holds what `transpose` wrote.
// normalise: (x - mean) / (unbiased standard deviation + 1e-8), in place.
// add_differences: y + factor * (x - from), with one rounding after that of the difference.
// squared_norms: one number for each kNormBlock entries.
DERL_DECLARE_AT_LEVELS(
    void policy_gradient(const ActorCritic& network, const ppo::LossSettings& settings,
                         const SampleBlock& block, float share, const float* transposed,
                         float* scratch, bool adds, float* gradient, PolicySums* sums);
    void value_gradient(const ActorCritic& network, const ppo::LossSettings& settings,
                        const SampleBlock& block, float share, const float* transposed,
                        float* scratch, bool adds, float* gradient, float* squared_error);
    void transpose(const Network& network, const float* parameters, float* transposed);
    void normalise(float* x, int count);
    void squared_norms(const float* gradient, std::size_t size, double* norms);
    void add(const float* x, std::size_t size, float* y);
    void add_differences(float factor, const float* x, const float* from, std::size_t size,
                         float* y);
    void adam_steps(const adam::Settings& settings, float scale, const float* gradient,
                    std::size_t size, float* parameters, float* first, float* second);
    bool all_finite(const float* x, std::size_t count);)

// Floats of scratch and of transposed weights that the functions above need for one network.
std::size_t gradient_scratch_size(const Network& part);
std::size_t transposed_size(const Network& network);

}  // namespace derl
