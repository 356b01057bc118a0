// Experience from a batch of environments under an actor-critic, without leaving C++.
//
// The environments are cut into tiles of kBlockRows, and each tile goes through all the steps by
// itself; what happens in an environment depends on the weights, the seeds and its index only.
#pragma once

#include <cstdint>
#include <vector>

#include <derl/advantages.hpp>

#include "cpu/batch_environment.hpp"
#include "cpu/ppo.hpp"

namespace derl {

// Where a rollout goes: T steps of B environments, row-major.
struct RolloutArrays {
    std::int64_t steps;
    float* observations;           // [T, B, O] before each step
    Actions actions;               // [T, B] or [T, B, A]; continuous ones as drawn, not clipped
    float* log_probs;              // [T, B]
    float* values;                 // [T, B]
    float* rewards;                // [T, B] with gamma * value where only the time limit ended
    std::uint8_t* episode_starts;  // [T, B]
    float* last_values;            // [B] of the observations after the last step
    float* advantages;             // [T, B]
    float* returns;                // [T, B]
};

struct Episode {
    std::int64_t step;  // of its end, since the collector began
    std::int32_t environment;
    double sum;  // of its rewards
    std::int64_t length;
};

class Collector {
public:
    // The observation and action sizes of both must fit.
    Collector(Ppo& ppo, BatchEnvironment& environment, std::uint64_t seed);

    // Goes on from `outputs.observations`, which the environment's last step or start has left
    // there, and leaves the last ones there.
    void collect(const RolloutArrays& rollout, Discount discount, const StepOutputs& outputs);
    // Those that ended in the last call, in the order of their steps and then environments.
    const std::vector<Episode>& episodes() const { return episodes_; }
    // Steps that each environment has taken.
    std::int64_t steps() const { return steps_; }
    void set_steps(std::int64_t steps) { steps_ = steps; }
    // [B] rewards of the running episodes
    const std::vector<double>& sums() const { return sums_; }
    // Goes on where another collector stopped; the environment was resumed before.
    void resume(std::int64_t steps, const double* sums);

private:
    struct Tile;

    void collect_tile(Tile& tile, const RolloutArrays& rollout, float gamma,
                      const StepOutputs& outputs);
    void after_step(Tile& tile, float* rewards, std::int64_t step, int n_finished, float gamma,
                    const StepOutputs& outputs);
    const float* taken_actions(Tile& tile, const Actions& actions) const;

    Ppo& ppo_;
    BatchEnvironment& environment_;
    std::uint64_t seed_;
    std::int64_t steps_ = 0;
    std::vector<double> sums_;                 // [B] rewards of the running episodes
    std::vector<std::int64_t> first_steps_;    // [B] when the running episodes began
    std::vector<std::uint8_t> starts_;         // [B] whether the next step is an episode's first
    std::vector<Episode> episodes_;
};

}  // namespace derl
