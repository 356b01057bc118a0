#include "cpu/ppo_minibatch.hpp"

#include <derl/philox.hpp>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

namespace derl {

namespace {

constexpr int kVector = 16;

std::size_t whole_blocks(std::int64_t samples) {
    return static_cast<std::size_t>((samples + kBlockRows - 1) / kBlockRows * kBlockRows);
}

}  // namespace

Minibatch::Minibatch(const ActorCritic& network, std::int64_t most_samples)
    : width_(network.observation_size),
      stride_((network.observation_size + kVector - 1) / kVector * kVector),
      action_size_(network.action_size),
      observations_(whole_blocks(most_samples) * static_cast<std::size_t>(stride_)),
      continuous_(network.distribution == Distribution::kGaussian
                      ? whole_blocks(most_samples) * static_cast<std::size_t>(action_size_)
                      : 0),
      advantages_(whole_blocks(most_samples)),
      log_probs_(whole_blocks(most_samples)),
      values_(whole_blocks(most_samples)),
      returns_(whole_blocks(most_samples)),
      discrete_(whole_blocks(most_samples)) {}

void Minibatch::gather(const RolloutView& rollout, const std::int32_t* samples,
                       std::int64_t count) {
    count_ = count;
    const std::size_t bytes = static_cast<std::size_t>(width_) * sizeof(float);
    for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t from = samples[i];
        std::memcpy(observations_.data() + i * stride_, rollout.observations + from * width_,
                    bytes);
        advantages_.data()[i] = rollout.advantages[from];
        log_probs_.data()[i] = rollout.log_probs[from];
        values_.data()[i] = rollout.values[from];
        returns_.data()[i] = rollout.returns[from];
    }
    gather_actions(rollout, samples);
}

void Minibatch::gather_actions(const RolloutView& rollout, const std::int32_t* samples) {
    if (rollout.discrete != nullptr) {
        for (std::int64_t i = 0; i < count_; ++i) {
            discrete_[static_cast<std::size_t>(i)] =
                static_cast<std::int32_t>(rollout.discrete[samples[i]]);
        }
        return;
    }
    for (std::int64_t i = 0; i < count_; ++i) {
        const float* from = rollout.continuous + std::int64_t{samples[i]} * action_size_;
        float* block = continuous_.data() + i / kBlockRows * kBlockRows * action_size_;
        for (int a = 0; a < action_size_; ++a) {
            block[a * kBlockRows + i % kBlockRows] = from[a];
        }
    }
}

SampleBlock Minibatch::block(int number) const {
    const std::int64_t first = std::int64_t{number} * kBlockRows;
    return {static_cast<int>(std::min<std::int64_t>(kBlockRows, count_ - first)),
            observations_.data() + first * stride_,
            discrete_.data() + first,
            continuous_.data() + (continuous_.size() > 0 ? first * action_size_ : 0),
            advantages_.data() + first,
            log_probs_.data() + first,
            values_.data() + first,
            returns_.data() + first};
}

void shuffle(std::uint64_t seed, std::uint64_t epoch, std::int64_t samples, std::int32_t* order) {
    std::iota(order, order + samples, 0);
    std::uint32_t words[4] = {};
    std::int64_t group = -1;
    for (std::int64_t i = samples - 1; i > 0; --i) {
        if (i / 4 != group) {
            group = i / 4;
            const auto bits = random_bits<std::int32_t>(seed, Purpose::kMinibatch,
                                                        static_cast<std::int32_t>(group), epoch);
            const std::int32_t drawn[4] = {bits.a, bits.b, bits.c, bits.d};
            std::memcpy(words, drawn, sizeof words);
        }
        // biased by less than 2^-32 per choice times the number of samples
        const auto choice = std::uint64_t{words[i % 4]} * static_cast<std::uint64_t>(i + 1) >> 32;
        std::swap(order[i], order[choice]);
    }
}

}  // namespace derl
