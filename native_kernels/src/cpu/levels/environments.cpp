#include "cpu/environments.hpp"

#include "cpu/simd/lanes.hpp"
#include "cpu/simd/rows.hpp"

namespace derl::DERL_LEVEL {

namespace {

DERL_LANE int smaller(int a, int b) { return a < b ? a : b; }

// Starts new episodes in `count` environments; finals, unless null, is given what their last
// observations were.
template <class E>
DERL_LANE void restart(const Batch& batch, const std::int32_t* environments, int count,
                       float* observations, float* finals) {
    for (int done = 0; done < count; done += kLanes) {
        const int left = smaller(count - done, kLanes);
        alignas(64) std::int32_t index[kLanes] = {}, episode[kLanes] = {};
        for (int i = 0; i < left; ++i) {
            index[i] = environments[done + i];
            episode[i] = static_cast<std::int32_t>(batch.episode[index[i]]++);
            batch.elapsed[index[i]] = 0;
        }
        F state[E::kStates], observation[E::kObservations];
        E::template start<F>(random_bits_of_lanes(batch.seed, Purpose::kReset, I::load(index),
                                                  I::load(episode)), state);
        E::observe(state, observation);
        alignas(64) float states[E::kStates][kLanes], first[E::kObservations][kLanes];
        for (int s = 0; s < E::kStates; ++s) {
            state[s].store(states[s]);
        }
        for (int o = 0; o < E::kObservations; ++o) {
            observation[o].store(first[o]);
        }
        for (int i = 0; i < left; ++i) {
            const std::int64_t row = index[i];
            for (int s = 0; s < E::kStates; ++s) {
                batch.states[static_cast<std::int64_t>(s) * batch.stride + row] = states[s][i];
            }
            float* seen = observations + row * E::kObservations;
            for (int o = 0; o < E::kObservations; ++o) {
                if (finals != nullptr) {
                    finals[row * E::kObservations + o] = seen[o];
                }
                seen[o] = first[o][i];
            }
        }
    }
}

template <class E>
DERL_LANE void load_states(const Batch& batch, int first, F* state) {
    for (int s = 0; s < E::kStates; ++s) {
        state[s] = F::load(batch.states + static_cast<std::int64_t>(s) * batch.stride + first);
    }
}

template <class E>
DERL_LANE void load_actions(const float* actions, int left, F* action) {
    if constexpr (E::kActions == 1) {
        action[0] = load_first(actions, left);
    } else {
        alignas(64) float columns[E::kActions][kLanes] = {};
        for (int i = 0; i < left; ++i) {
            for (int a = 0; a < E::kActions; ++a) {
                columns[a][i] = actions[i * E::kActions + a];
            }
        }
        for (int a = 0; a < E::kActions; ++a) {
            action[a] = F::load(columns[a]);
        }
    }
}

template <class E>
int step_all(const Batch& batch, const float* actions, int begin, int end,
             const StepOutputs& outputs) {
    int n_finished = 0;
    for (int first = begin; first < end; first += kLanes) {
        const int left = smaller(end - first, kLanes);
        F state[E::kStates], action[E::kActions], observation[E::kObservations], reward;
        load_states<E>(batch, first, state);
        load_actions<E>(actions + static_cast<std::int64_t>(first) * E::kActions, left, action);
        const M terminated = E::step(state, action, reward);
        const I elapsed = add_wrapping(I::load(batch.elapsed + first), I(1));
        const M truncated = I(E::kMaxSteps - 1) < elapsed;
        for (int s = 0; s < E::kStates; ++s) {
            store_first(batch.states + static_cast<std::int64_t>(s) * batch.stride + first,
                        state[s], left);
        }
        elapsed.store(batch.elapsed + first);
        E::observe(state, observation);
        store_rows(outputs.observations + static_cast<std::int64_t>(first) * E::kObservations,
                   observation, left);
        store_first(outputs.rewards + first, reward, left);
        store_flags(outputs.terminated + first, terminated, left);
        store_flags(outputs.truncated + first, truncated, left);
        std::uint32_t ended = lane_bits(terminated | truncated) & ((2u << (left - 1)) - 1);
        for (; ended != 0; ended &= ended - 1) {
            batch.finished[begin + n_finished++] = first + __builtin_ctz(ended);
        }
    }
    restart<E>(batch, batch.finished + begin, n_finished, outputs.observations,
               outputs.final_observations);
    return n_finished;
}

template <class E>
void start_all(const Batch& batch, int begin, int end, float* observations) {
    for (int first = begin; first < end; first += kLanes) {
        alignas(64) std::int32_t numbers[kLanes];
        add_wrapping(lane_numbers(), I(first)).store(numbers);
        restart<E>(batch, numbers, smaller(end - first, kLanes), observations, nullptr);
    }
}

template <class E>
void observe_all(const Batch& batch, int begin, int end, float* observations) {
    for (int first = begin; first < end; first += kLanes) {
        F state[E::kStates], observation[E::kObservations];
        load_states<E>(batch, first, state);
        E::observe(state, observation);
        store_rows(observations + static_cast<std::int64_t>(first) * E::kObservations, observation,
                   smaller(end - first, kLanes));
    }
}

}  // namespace

int step_environments(const Batch& batch, const float* actions, int begin, int end,
                      const StepOutputs& outputs) {
    switch (batch.id) {
#define DERL_CASE(E) \
    case EnvironmentId::k##E: return step_all<E>(batch, actions, begin, end, outputs);
        DERL_ENVIRONMENTS(DERL_CASE)
#undef DERL_CASE
    }
    return 0;
}

void start_environments(const Batch& batch, int begin, int end, float* observations) {
    switch (batch.id) {
#define DERL_CASE(E) \
    case EnvironmentId::k##E: return start_all<E>(batch, begin, end, observations);
        DERL_ENVIRONMENTS(DERL_CASE)
#undef DERL_CASE
    }
}

void observe_environments(const Batch& batch, int begin, int end, float* observations) {
    switch (batch.id) {
#define DERL_CASE(E) \
    case EnvironmentId::k##E: return observe_all<E>(batch, begin, end, observations);
        DERL_ENVIRONMENTS(DERL_CASE)
#undef DERL_CASE
    }
}

int take_choices(const std::int64_t* actions, int count, int choices, float* taken) {
    std::uint64_t is_wrong = 0;
    const std::uint64_t limit = static_cast<std::uint64_t>(choices);
    for (int i = 0; i < count; ++i) {
        is_wrong |= static_cast<std::uint64_t>(actions[i]) >= limit;
        taken[i] = static_cast<float>(static_cast<std::int32_t>(actions[i]));
    }
    if (is_wrong == 0) {
        return count;
    }
    int i = 0;
    while (static_cast<std::uint64_t>(actions[i]) < limit) {
        ++i;
    }
    return i;
}

int first_not_finite(const float* x, int count) {
    const F largest(3.40282346638528860e38f);
    int first = 0;
    for (; first < count; first += kLanes) {
        const M is_wrong = ~(abs(load_first(x + first, smaller(count - first, kLanes))) <= largest);
        if (any(is_wrong)) {
            return first + __builtin_ctz(lane_bits(is_wrong));
        }
    }
    return count;
}

}  // namespace derl::DERL_LEVEL
