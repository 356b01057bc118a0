// Advantages and returns: one thread for each environment, from the last step to the first, so that
// neighbouring threads read neighbouring words.
#include <derl/advantages.hpp>

#include "cuda/kernels.hpp"
#include "cuda/launch.cuh"

namespace derl::cuda {

namespace {

constexpr int kColumnThreads = 64;  // few columns should spread over many multiprocessors

DERL_DEVICE float unset(std::uint8_t flag) { return flag == 0 ? 1.0f : 0.0f; }

DERL_KERNEL generalized_advantages_kernel(RewardTrace trace, const float* values, Discount discount,
                                          float* advantages, float* returns) {
    for (std::size_t b = first_of_thread(); b < trace.environments; b += grid_stride()) {
        AdvantageColumn<float> walk(trace.last_values[b], unset(trace.last_dones[b]));
        for (std::size_t t = trace.steps; t-- > 0;) {
            const std::size_t at = t * trace.environments + b;
            const float value = values[at];
            const float advantage = walk.step_back(discount, trace.rewards[at], value,
                                                   unset(trace.episode_starts[at]));
            advantages[at] = advantage;
            returns[at] = advantage + value;
        }
    }
}

DERL_KERNEL discounted_returns_kernel(RewardTrace trace, float gamma, float* returns) {
    for (std::size_t b = first_of_thread(); b < trace.environments; b += grid_stride()) {
        ReturnColumn<float> walk(trace.last_values[b], unset(trace.last_dones[b]));
        for (std::size_t t = trace.steps; t-- > 0;) {
            const std::size_t at = t * trace.environments + b;
            returns[at] = walk.step_back(gamma, trace.rewards[at], unset(trace.episode_starts[at]));
        }
    }
}

}  // namespace

std::vector<KernelFacts> advantages_facts() {
    return {facts_of("generalized_advantages", generalized_advantages_kernel, kColumnThreads),
            facts_of("discounted_returns", discounted_returns_kernel, kColumnThreads)};
}

void generalized_advantages(const RewardTrace& trace, const float* values, double gamma,
                            double gae_lambda, float* advantages, float* returns,
                            cudaStream_t stream) {
    launch("generalized_advantages", generalized_advantages_kernel,
           shape_for(trace.environments, kColumnThreads), stream, trace, values,
           Discount::of(gamma, gae_lambda), advantages, returns);
}

void discounted_returns(const RewardTrace& trace, double gamma, float* returns,
                        cudaStream_t stream) {
    launch("discounted_returns", discounted_returns_kernel,
           shape_for(trace.environments, kColumnThreads), stream, trace, static_cast<float>(gamma),
           returns);
}

}  // namespace derl::cuda
