// Batches in double, one environment at a time, and what is known of each environment.
#include <cstddef>
#include <iterator>

#include "cpu/environments.hpp"

namespace derl {

namespace {

constexpr EnvironmentFacts kFacts[] = {
#define DERL_FACTS(E)                                                                           \
    {EnvironmentId::k##E, E::kId,         E::kStates,     E::kObservations, E::kActions,        \
     E::kChoices,         E::kMaxSteps,   E::kActionLow,  E::kActionHigh,   E::kObservationLow, \
     E::kObservationHigh},
    DERL_ENVIRONMENTS(DERL_FACTS)
#undef DERL_FACTS
};

// One environment of a batch, its state side by side.
template <class E>
struct Single {
    double state[E::kStates];

    Single(const Batch& batch, std::size_t environment) {
        for (int s = 0; s < E::kStates; ++s) {
            state[s] = batch.exact_states[s * static_cast<std::size_t>(batch.stride) + environment];
        }
    }
    void store(const Batch& batch, std::size_t environment) const {
        for (int s = 0; s < E::kStates; ++s) {
            batch.exact_states[s * static_cast<std::size_t>(batch.stride) + environment] = state[s];
        }
    }
    void observe(float* observations, std::size_t environment) const {
        double seen[E::kObservations];
        E::observe(state, seen);
        for (int o = 0; o < E::kObservations; ++o) {
            observations[environment * E::kObservations + o] = static_cast<float>(seen[o]);
        }
    }
};

// The same starts as float32 batches have.
template <class E>
void restart(const Batch& batch, int environment, float* observations) {
    batch.elapsed[environment] = 0;
    float start[E::kStates];
    E::template start<float>(
        random_bits_of_lanes(batch.seed, Purpose::kReset, static_cast<std::int32_t>(environment),
                             static_cast<std::int32_t>(batch.episode[environment]++)),
        start);
    Single<E> single(batch, static_cast<std::size_t>(environment));
    for (int s = 0; s < E::kStates; ++s) {
        single.state[s] = start[s];
    }
    single.store(batch, static_cast<std::size_t>(environment));
    single.observe(observations, static_cast<std::size_t>(environment));
}

template <class E>
int step_all(const Batch& batch, const float* actions, int begin, int end,
             const StepOutputs& outputs) {
    int n_finished = 0;
    for (int environment = begin; environment < end; ++environment) {
        const std::size_t row = static_cast<std::size_t>(environment);
        Single<E> single(batch, row);
        double action[E::kActions], reward;
        for (int a = 0; a < E::kActions; ++a) {
            action[a] = actions[row * E::kActions + a];
        }
        const bool terminated = step_exact<E>(single.state, action, reward, batch.elapsed[row] == 0);
        const bool truncated = ++batch.elapsed[row] >= E::kMaxSteps;
        single.store(batch, row);
        single.observe(outputs.observations, row);
        outputs.rewards[row] = static_cast<float>(reward);
        outputs.terminated[row] = terminated;
        outputs.truncated[row] = truncated;
        if (terminated || truncated) {
            batch.finished[begin + n_finished++] = environment;
            single.observe(outputs.final_observations, row);
            restart<E>(batch, environment, outputs.observations);
        }
    }
    return n_finished;
}

template <class E>
void start_all(const Batch& batch, int begin, int end, float* observations) {
    for (int environment = begin; environment < end; ++environment) {
        restart<E>(batch, environment, observations);
    }
}

template <class E>
void observe_all(const Batch& batch, int begin, int end, float* observations) {
    for (int environment = begin; environment < end; ++environment) {
        const std::size_t row = static_cast<std::size_t>(environment);
        Single<E>(batch, row).observe(observations, row);
    }
}

}  // namespace

const EnvironmentFacts* environment_facts(int number) {
    return number >= 0 && number < static_cast<int>(std::size(kFacts)) ? &kFacts[number] : nullptr;
}

int step_exactly(const Batch& batch, const float* actions, int begin, int end,
                 const StepOutputs& outputs) {
    const IeeeFloats modes;
    switch (batch.id) {
#define DERL_CASE(E) \
    case EnvironmentId::k##E: return step_all<E>(batch, actions, begin, end, outputs);
        DERL_ENVIRONMENTS(DERL_CASE)
#undef DERL_CASE
    }
    return 0;
}

void start_exactly(const Batch& batch, int begin, int end, float* observations) {
    const IeeeFloats modes;
    switch (batch.id) {
#define DERL_CASE(E) \
    case EnvironmentId::k##E: return start_all<E>(batch, begin, end, observations);
        DERL_ENVIRONMENTS(DERL_CASE)
#undef DERL_CASE
    }
}

void observe_exactly(const Batch& batch, int begin, int end, float* observations) {
    const IeeeFloats modes;
    switch (batch.id) {
#define DERL_CASE(E) \
    case EnvironmentId::k##E: return observe_all<E>(batch, begin, end, observations);
        DERL_ENVIRONMENTS(DERL_CASE)
#undef DERL_CASE
    }
}

}  // namespace derl
