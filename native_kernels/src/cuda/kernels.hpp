// The CUDA launchers over the mathematics in include/derl, as plain functions: device pointers to
// row-major arrays of the current device that the caller owns, unless a comment says host. Each
// starts its work on the stream and returns; none synchronises. @throws KernelError where CUDA
// refuses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/codecs.hpp"
#include "cpu/environments.hpp"
#include "cpu/network.hpp"
#include "cuda/runtime.hpp"

namespace derl::cuda {

// What a compiled kernel takes and how full it can make the current device.
struct KernelFacts {
    const char* name;
    const void* function;
    int threads;
    std::size_t shared_bytes;
};
std::vector<KernelFacts> advantages_facts();
std::vector<KernelFacts> aggregation_facts();
std::vector<KernelFacts> codecs_facts();
std::vector<KernelFacts> distances_facts();
std::vector<KernelFacts> environments_facts();
std::vector<KernelFacts> rollout_facts();
std::vector<KernelFacts> all_facts();

// updates: float32[clients, parameters]; shares (host): float64[clients]; mean: float32[parameters]
void weighted_mean(const float* updates, const double* shares, std::size_t clients,
                   std::size_t parameters, float* mean, cudaStream_t stream);

// The most clients whose order statistics are found on a device.
inline constexpr std::size_t kMostSortedClients = 384;

// The mean of the order statistics first, ..., last - 1 of each column, summed in that order; NaN
// where the column has one. updates: float32[clients, parameters]; mean: float32[parameters].
void mean_of_order_statistics(const float* updates, std::size_t clients, std::size_t parameters,
                              std::size_t first, std::size_t last, float* mean,
                              cudaStream_t stream);

// updates: float32[clients, parameters]; distances: float64[clients, clients]. Not finite where an
// update is not.
void squared_distances(const float* updates, std::size_t clients, std::size_t parameters,
                       double* distances, cudaStream_t stream);

// clipped: float32[clients, parameters], each row times min(1, limit / norm); norms: float64[clients]
void clip_norms(const float* updates, double limit, std::size_t clients, std::size_t parameters,
                float* clipped, double* norms, cudaStream_t stream);

// All float32[steps, environments], bytes where flags; one row of last_values and last_dones.
struct RewardTrace {
    const float* rewards;
    const std::uint8_t* episode_starts;
    const float* last_values;
    const std::uint8_t* last_dones;
    std::size_t steps;
    std::size_t environments;
};
void generalized_advantages(const RewardTrace& trace, const float* values, double gamma,
                            double gae_lambda, float* advantages, float* returns,
                            cudaStream_t stream);
void discounted_returns(const RewardTrace& trace, double gamma, float* returns,
                        cudaStream_t stream);

// x: float32[count]; bytes: as codecs::longest() has it for kHalf, kInt8 or kInt4, the only kinds.
// Elements that cannot be encoded make bytes that decode() of cpu/codecs.hpp refuses.
void encode(CodecKind kind, const float* x, std::size_t count, Rounding rounding,
            std::uint8_t* bytes, cudaStream_t stream);
// The bytes of encode(); elements that no encoder wrote come out as NaN.
void decode(CodecKind kind, const std::uint8_t* bytes, std::size_t count, float* x,
            cudaStream_t stream);

// Float32 batches as cpu/environments.hpp has them, except that everything lies on the device, any
// stride from count on will do and `finished` is not used. first: environment 0's number in the
// streams of random numbers.
void start_environments(const Batch& batch, float* observations, cudaStream_t stream);
void observe_environments(const Batch& batch, float* observations, cudaStream_t stream);
// actions: int64[count] where choices are made, float32[count, actions] else. A choice that there
// is not, or an action that is not finite, ends no program here: its environment's state, reward
// and observation become NaN until it is reset.
void step_environments(const Batch& batch, const void* actions, const StepOutputs& outputs,
                       cudaStream_t stream);

// What goes on from rollout to rollout, and how long this one is.
struct Course {
    std::uint64_t seed;        // of the actions
    std::uint64_t first_step;  // steps that each environment has taken
    std::size_t steps;
    float gamma;
    int units;             // of the widest layer: widest_layer(network)
    double* sums;          // [B] rewards of the running episodes
    std::uint8_t* starts;  // [B] whether the next step is an episode's first
};

// T steps of B environments, as cpu/rollout.hpp has it.
struct RolloutOutputs {
    float* observations;           // [T, B, O]
    void* actions;                 // int64[T, B] or float32[T, B, A]
    float* log_probs;              // [T, B]
    float* values;                 // [T, B]
    float* rewards;                // [T, B]
    std::uint8_t* episode_starts;  // [T, B]
    double* episode_returns;       // [T, B] written where an episode ended
    std::int32_t* episode_lengths; // [T, B] 0 where none ended
    float* last_values;            // [B]
};

inline constexpr int kRolloutThreads = 32;
// What shared memory holds of two buffers for so many threads on every card.
inline constexpr int kWidestRollout = 192;
int widest_layer(const ActorCritic& network);  // padded, in units

// One rollout; the environments must have been started. network.parameters: on the device, on 64
// bytes. last_observations: float32[B, O], of the states that it leaves. Its advantages are
// generalized_advantages' with course.starts for last_dones.
void collect(const ActorCritic& network, const Batch& batch, const Course& course,
             const RolloutOutputs& rollout, float* last_observations, cudaStream_t stream);

}  // namespace derl::cuda
