// Forward pass and sampling of an actor-critic, in blocks of up to kBlockRows observations.
#pragma once

#include <cstdint>

#include "cpu/dispatch.hpp"
#include "cpu/network.hpp"

namespace derl {

// Which random numbers an action takes: those of row r are of environment first_environment + r.
struct ActionStream {
    std::uint64_t seed;
    std::uint64_t step;
    std::int32_t first_environment;
};

// Where actions go; the one that the distribution has no use for may be null.
struct Actions {
    std::int64_t* discrete;  // [rows]
    float* continuous;       // [rows, action_size]
};

// Floats of scratch memory that the functions below need, aligned to 64 bytes; one per thread.
std::size_t scratch_size(const ActorCritic& network);

// observations: [rows, observation_size], rows from 1 to kBlockRows.
// heads: [action_size, kBlockRows], logits or means, one row of memory for each action component.
// values: [kBlockRows]. Entries past `rows` are unspecified in both. Either may be null: not wanted.
// act: evaluate and sample; log_probs and values: [rows]. best_actions: the most probable ones.
DERL_DECLARE_AT_LEVELS(
    void evaluate(const ActorCritic& network, const float* observations, int rows, float* scratch,
                  float* heads, float* values);
    void sample(const ActorCritic& network, const float* heads, int rows,
                const ActionStream& stream, const Actions& actions, float* log_probs);
    void act(const ActorCritic& network, const float* observations, int rows, float* scratch,
             const ActionStream& stream, const Actions& actions, float* values, float* log_probs);
    void best_actions(const ActorCritic& network, const float* observations, int rows,
                      float* scratch, const Actions& actions);)

}  // namespace derl
