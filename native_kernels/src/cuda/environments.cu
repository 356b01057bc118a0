// A batch of environments: one thread for each.
#include "cuda/environment.cuh"

namespace derl::cuda {

namespace {

constexpr int kEnvironmentThreads = 128;

template <class E>
DERL_KERNEL step_kernel(Batch batch, const void* actions, StepOutputs outputs) {
    const auto count = static_cast<std::size_t>(batch.count);
    for (std::size_t b = first_of_thread(); b < count; b += grid_stride()) {
        Running<E> environment;
        environment.load(batch, b);
        float action[E::kActions], reward;
        bool truncated;
        const bool is_sound = take_actions<E>(actions, b, action);
        const bool terminated = environment.step(action, is_sound, reward, truncated);
        outputs.rewards[b] = reward;
        outputs.terminated[b] = terminated;
        outputs.truncated[b] = truncated;
        if (terminated || truncated) {
            E::observe(environment.state, outputs.final_observations + b * E::kObservations);
            environment.start(batch.seed, b);
        }
        E::observe(environment.state, outputs.observations + b * E::kObservations);
        environment.store(batch, b);
    }
}

template <class E>
DERL_KERNEL start_kernel(Batch batch, float* observations) {
    const auto count = static_cast<std::size_t>(batch.count);
    for (std::size_t b = first_of_thread(); b < count; b += grid_stride()) {
        Running<E> environment;
        environment.episode = batch.episode[b];
        environment.start(batch.seed, b);
        E::observe(environment.state, observations + b * E::kObservations);
        environment.store(batch, b);
    }
}

template <class E>
DERL_KERNEL observe_kernel(Batch batch, float* observations) {
    const auto count = static_cast<std::size_t>(batch.count);
    for (std::size_t b = first_of_thread(); b < count; b += grid_stride()) {
        Running<E> environment;
        environment.load(batch, b);
        E::observe(environment.state, observations + b * E::kObservations);
    }
}

Shape shape_of(const Batch& batch) {
    return shape_for(static_cast<std::size_t>(batch.count), kEnvironmentThreads);
}

}  // namespace

#define DERL_NAME(E) facts_of("step " #E, step_kernel<E>, kEnvironmentThreads),
std::vector<KernelFacts> environments_facts() { return {DERL_ENVIRONMENTS(DERL_NAME)}; }
#undef DERL_NAME

void step_environments(const Batch& batch, const void* actions, const StepOutputs& outputs,
                       cudaStream_t stream) {
    switch (batch.id) {
#define DERL_CASE(E)                                                                            \
    case EnvironmentId::k##E:                                                                   \
        return launch("step_environments", step_kernel<E>, shape_of(batch), stream, batch, actions, \
                      outputs);
        DERL_ENVIRONMENTS(DERL_CASE)
#undef DERL_CASE
    }
}

void start_environments(const Batch& batch, float* observations, cudaStream_t stream) {
    switch (batch.id) {
#define DERL_CASE(E)                                                                           \
    case EnvironmentId::k##E:                                                                  \
        return launch("start_environments", start_kernel<E>, shape_of(batch), stream, batch,   \
                      observations);
        DERL_ENVIRONMENTS(DERL_CASE)
#undef DERL_CASE
    }
}

void observe_environments(const Batch& batch, float* observations, cudaStream_t stream) {
    switch (batch.id) {
#define DERL_CASE(E)                                                                             \
    case EnvironmentId::k##E:                                                                    \
        return launch("observe_environments", observe_kernel<E>, shape_of(batch), stream, batch, \
                      observations);
        DERL_ENVIRONMENTS(DERL_CASE)
#undef DERL_CASE
    }
}

}  // namespace derl::cuda
