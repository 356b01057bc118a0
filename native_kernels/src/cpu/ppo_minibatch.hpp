// The samples of one minibatch side by side, in blocks of kBlockRows.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/ppo.hpp"
#include "cpu/ppo_kernels.hpp"

namespace derl {

class Minibatch {
public:
    Minibatch(const ActorCritic& network, std::int64_t most_samples);

    // samples: numbers step * environments + environment
    void gather(const RolloutView& rollout, const std::int32_t* samples, std::int64_t count);
    std::int64_t count() const { return count_; }
    int blocks() const { return static_cast<int>((count_ + kBlockRows - 1) / kBlockRows); }
    SampleBlock block(int number) const;
    float* advantages() { return advantages_.data(); }

private:
    void gather_actions(const RolloutView& rollout, const std::int32_t* samples);

    int width_, stride_, action_size_;
    std::int64_t count_ = 0;
    Floats observations_, continuous_, advantages_, log_probs_, values_, returns_;
    std::vector<std::int32_t> discrete_;
};

// order[i] for a whole epoch: a permutation of 0 .. samples - 1 (Fisher and Yates).
void shuffle(std::uint64_t seed, std::uint64_t epoch, std::int64_t samples, std::int32_t* order);

}  // namespace derl
