// A policy with its optimizer: what the bindings hold, and what a fused rollout reads.
#pragma once

#include <cstdint>
#include <mutex>
#include <stdexcept>

#include "cpu/actor_critic.hpp"
#include "cpu/network_layout.hpp"
#include "cpu/threads.hpp"

namespace derl {

// Arrays [steps, environments], further axes behind; of the actions, one pointer is null.
struct RolloutView {
    std::int64_t steps, environments;
    const float* observations;
    const std::int64_t* discrete;
    const float* continuous;
    const float* log_probs;
    const float* values;
    const float* advantages;
    const float* returns;

    std::int64_t samples() const { return steps * environments; }
};

struct UpdateSettings {
    double learning_rate, clip_range;
    double clip_range_vf;  // not positive: none
    double entropy_weight, value_weight, max_gradient_norm;
    bool normalises_advantage;
    double target_divergence;  // not positive: none
    std::int64_t batch_size;
    int epochs;
    double beta1, beta2, epsilon;
};

// What is added to every gradient of a minibatch before its norm is clipped: proximal times what
// the weights are beyond the anchor's, and the correction. Flat arrays or null: nothing of it.
struct Drift {
    double proximal;
    const float* anchor;
    const float* correction;
    bool sums_gradients;  // whether the sum is wanted of what it is added to
};

// Where the order of samples comes from: an array [epochs, samples] of numbers
// environment * steps + step, or, where it is null, the seed.
struct SampleOrder {
    const std::int64_t* given;
    std::uint64_t seed;
    std::uint64_t first_epoch;
};

// Means over minibatches, as Stable-Baselines3 logs them; the divergence over the last epoch's.
struct UpdateReport {
    double policy_loss, value_loss, entropy_loss, divergence, clip_fraction, loss;
    int epochs;            // begun
    std::int64_t updates;  // steps of the optimizer
};

// The gradient is not finite. The object is as it was before the update.
struct Diverged : std::runtime_error {
    using std::runtime_error::runtime_error;
};

class Ppo {
public:
    // flat: float32[parameter_count], Stable-Baselines3's order
    Ppo(const PolicyShape& shape, const float* flat, int threads);

    // Valid until this object goes; an update changes the weights that it points to.
    const ActorCritic& network() const { return network_; }
    int threads() const { return workers_.count(); }
    std::size_t parameter_count() const { return count_; }
    void read_parameters(float* flat) const;
    std::int64_t steps() const { return steps_; }
    void read_moments(float* first, float* second) const;
    void write_moments(std::int64_t steps, const float* first, const float* second);

    // Any number of rows.
    void act(const float* observations, std::int64_t rows, std::uint64_t seed, std::uint64_t step,
             const Actions& actions, float* values, float* log_probs);
    void values(const float* observations, std::int64_t rows, float* values);
    void best_actions(const float* observations, std::int64_t rows, const Actions& actions);

    // Throws Diverged.
    UpdateReport update(const RolloutView& rollout, const UpdateSettings& settings,
                        const Drift& drift, const SampleOrder& order);
    // Of the loss over these samples as one minibatch, with the drift, before clipping; flat.
    void gradient(const RolloutView& rollout, const UpdateSettings& settings, const Drift& drift,
                  const std::int64_t* samples, std::int64_t count, float* flat);
    // Of the last update's steps, without the drift; zeros where it was not asked for. Flat.
    void read_gradient_sum(float* flat) const;

private:
    friend class PpoUpdate;

    std::mutex updates_;  // one at a time, whoever calls
    ActorCritic network_;
    std::size_t count_;
    Workers workers_;
    std::int64_t steps_ = 0;  // of the optimizer
    Floats parameters_, first_, second_, scratch_, gradient_sum_;
};

}  // namespace derl
