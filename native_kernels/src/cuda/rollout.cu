// Rollouts without leaving the device: one thread for each environment, through all the steps.
#include "cuda/environment.cuh"
#include "cuda/network.cuh"

namespace derl::cuda {

namespace {

template <class E>
inline constexpr int kHeads = E::kChoices > 0 ? E::kChoices : E::kActions;

template <class E, Activation kActivation>
struct Walker {
    const ActorCritic& network;
    Columns columns;

    // V of the state's observation, which is written to `observation`
    DERL_DEVICE float value_of(const float* state, float* observation) const {
        see(state, observation);
        return value_of_seen();
    }
    DERL_DEVICE void see(const float* state, float* observation) const {
        E::observe(state, observation);
        for (int o = 0; o < E::kObservations; ++o) {
            columns.x[1][o * columns.stride] = observation[o];
        }
    }
    DERL_DEVICE float value_of_seen() const {
        float value;
        forward<kActivation, 1>(network.value, network.parameters, E::kObservations, columns,
                                &value);
        return value;
    }
    DERL_DEVICE void heads_of_seen(float* heads) const {
        forward<kActivation, kHeads<E>>(network.policy, network.parameters, E::kObservations,
                                        columns, heads);
    }
};

// Draws the action of this step, stores it, and gives it as the dynamics take it.
template <class E>
DERL_DEVICE float draw(const ActorCritic& network, const RolloutOutputs& rollout, std::size_t at,
                       const ActionNumbers& numbers, const float* heads, float* action) {
    float log_prob;
    if constexpr (E::kChoices > 0) {
        const std::int64_t choice = sample_choice<E::kChoices>(heads, numbers, log_prob);
        static_cast<std::int64_t*>(rollout.actions)[at] = choice;
        action[0] = static_cast<float>(choice);
    } else {
        sample_normal<E::kActions>(heads, network.parameters + network.log_std, numbers, action,
                                   log_prob);
        for (int a = 0; a < E::kActions; ++a) {
            static_cast<float*>(rollout.actions)[at * E::kActions + a] = action[a];
            action[a] = action[a] < E::kActionLow ? E::kActionLow : action[a];
            action[a] = E::kActionHigh < action[a] ? E::kActionHigh : action[a];
        }
    }
    return log_prob;
}

template <class E, Activation kActivation>
DERL_KERNEL rollout_kernel(const __grid_constant__ ActorCritic network, Batch batch, Course course,
                           RolloutOutputs rollout, float* last_observations) {
    DERL_SHARED(float, buffers);
    const auto count = static_cast<std::size_t>(batch.count);
    const Walker<E, kActivation> walker{
        network,
        {{buffers + threadIdx.x, buffers + course.units * blockDim.x + threadIdx.x}, blockDim.x}};
    for (std::size_t b = first_of_thread(); b < count; b += grid_stride()) {
        Running<E> environment;
        environment.load(batch, b);
        double sum = course.sums[b];
        bool starts = course.starts[b] != 0;
        float observation[E::kObservations];
        for (std::size_t t = 0; t < course.steps; ++t) {
            const std::size_t at = t * count + b;
            walker.see(environment.state, observation);
            for (int o = 0; o < E::kObservations; ++o) {
                rollout.observations[at * E::kObservations + o] = observation[o];
            }
            rollout.episode_starts[at] = starts;
            float heads[kHeads<E>], action[E::kActions], reward;
            walker.heads_of_seen(heads);
            walker.see(environment.state, observation);  // the policy's layers went over it
            rollout.values[at] = walker.value_of_seen();
            rollout.log_probs[at] =
                draw<E>(network, rollout, at,
                        {course.seed, course.first_step + t, static_cast<std::int32_t>(b)}, heads,
                        action);
            bool truncated;
            const bool terminated = environment.step(action, true, reward, truncated);
            sum += static_cast<double>(reward);
            starts = terminated || truncated;
            rollout.episode_lengths[at] = starts ? environment.elapsed : 0;
            if (starts) {
                rollout.episode_returns[at] = sum;
                sum = 0.0;
                if (!terminated) {
                    reward = reward + course.gamma * walker.value_of(environment.state, observation);
                }
                environment.start(batch.seed, b);
            }
            rollout.rewards[at] = reward;
        }
        rollout.last_values[b] = walker.value_of(environment.state, observation);
        for (int o = 0; o < E::kObservations; ++o) {
            last_observations[b * E::kObservations + o] = observation[o];
        }
        course.sums[b] = sum;
        course.starts[b] = starts;
        environment.store(batch, b);
    }
}

std::size_t bytes_for(int units) { return 2 * sizeof(float) * kRolloutThreads * units; }

}  // namespace

int widest_layer(const ActorCritic& network) {
    int widest = 0;
    for (const Network* part : {&network.policy, &network.value}) {
        widest = part->features > widest ? part->features : widest;
        for (int i = 0; i < part->depth; ++i) {
            widest = part->hidden[i].stride > widest ? part->hidden[i].stride : widest;
        }
    }
    return widest;
}

#define DERL_NAME(E)                                                                              \
    facts_of("rollout " #E " 2x64", rollout_kernel<E, Activation::kTanh>, kRolloutThreads, \
             bytes_for(64)),
std::vector<KernelFacts> rollout_facts() { return {DERL_ENVIRONMENTS(DERL_NAME)}; }
#undef DERL_NAME

void collect(const ActorCritic& network, const Batch& batch, const Course& course,
             const RolloutOutputs& rollout, float* last_observations, cudaStream_t stream) {
    const auto start = [&](auto kernel) {
        launch("rollout", kernel,
               shape_for(static_cast<std::size_t>(batch.count), kRolloutThreads,
                         bytes_for(course.units)),
               stream, network, batch, course, rollout, last_observations);
    };
    const bool is_tanh = network.activation == Activation::kTanh;
    switch (batch.id) {
#define DERL_CASE(E)                                                      \
    case EnvironmentId::k##E:                                             \
        is_tanh ? start(rollout_kernel<E, Activation::kTanh>)             \
                : start(rollout_kernel<E, Activation::kRelu>);            \
        break;
        DERL_ENVIRONMENTS(DERL_CASE)
#undef DERL_CASE
    }
}

}  // namespace derl::cuda
