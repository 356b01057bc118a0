// Batches of environments in step: what a batch is made of, and the loops over it.
//
// Float32 batches run at each processor level over sixteen environments at a time, exact ones in
// double, one at a time. Episodes that end start anew in the same step, from random numbers that
// depend on seed, environment and number of the episode only; so no result depends on how a batch
// is cut up.
#pragma once

#include <cstdint>

#include <derl/environments/all.hpp>

#include "cpu/dispatch.hpp"

namespace derl {

enum class EnvironmentId : int {
#define DERL_ENVIRONMENT_ID(name) k##name,
    DERL_ENVIRONMENTS(DERL_ENVIRONMENT_ID)
#undef DERL_ENVIRONMENT_ID
};

struct EnvironmentFacts {
    EnvironmentId id;
    const char* name;
    int states, observations, actions, choices, max_steps;  // choices: 0 for continuous actions
    float action_low, action_high;
    const float *observation_low, *observation_high;  // [observations]
};
// In the order of the enumeration; null beyond the last.
const EnvironmentFacts* environment_facts(int number);

// Environment e (0 <= e < count) stands at [s * stride + e]; stride is a multiple of 16, and what
// lies beyond count is zero. One of the two kinds of states is null.
struct Batch {
    EnvironmentId id;
    int count;
    int stride;
    std::uint64_t seed;
    float* states;           // [states, stride]
    double* exact_states;    // [states, stride]
    std::int32_t* elapsed;   // [stride] steps of the episode
    std::uint32_t* episode;  // [stride] number that the next episode will have
    std::int32_t* finished;  // [stride] scratch
};

// Row e of each belongs to environment e.
struct StepOutputs {
    float* observations;        // [count, observations] after the step; of new episodes, the first
    float* rewards;             // [count]
    std::uint8_t* terminated;   // [count]
    std::uint8_t* truncated;    // [count] also where terminated in the last allowed step
    float* final_observations;  // [count, observations] written where an episode ended
};

// The environments from begin (a multiple of 16) to end (another, or count) take one step; actions
// is float[count, actions] with discrete actions as their numbers. Returns how many episodes ended;
// their environments are in batch.finished from index `begin` on, in ascending order.
int step_exactly(const Batch& batch, const float* actions, int begin, int end,
                 const StepOutputs& outputs);
// New episodes in the environments begin to end. observations is float[count, observations].
void start_exactly(const Batch& batch, int begin, int end, float* observations);
void observe_exactly(const Batch& batch, int begin, int end, float* observations);

DERL_DECLARE_AT_LEVELS(
    int step_environments(const Batch& batch, const float* actions, int begin, int end,
                          const StepOutputs& outputs);
    void start_environments(const Batch& batch, int begin, int end, float* observations);
    void observe_environments(const Batch& batch, int begin, int end, float* observations);
    // Discrete actions as floats; returns the index of the first that is not in 0 .. choices - 1,
    // or count.
    int take_choices(const std::int64_t* actions, int count, int choices, float* taken);
    // The index of the first number that is not finite, or count.
    int first_not_finite(const float* x, int count);)

}  // namespace derl
