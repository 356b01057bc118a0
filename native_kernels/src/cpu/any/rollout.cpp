#include "cpu/rollout.hpp"

#include <algorithm>
#include <cstring>

#include "cpu/advantages.hpp"
#include "cpu/any/parallel.hpp"

namespace derl {

// Environments begin to end, and the memory that one thread needs to move them.
struct Collector::Tile {
    int begin, end;
    Floats& scratch;
    Floats& taken;  // [kBlockRows, actions]
    std::vector<Episode> episodes;

    int rows() const { return end - begin; }
};

Collector::Collector(Ppo& ppo, BatchEnvironment& environment, std::uint64_t seed)
    : ppo_(ppo),
      environment_(environment),
      seed_(seed),
      sums_(environment.stride()),
      first_steps_(environment.stride()),
      starts_(environment.stride(), 1) {}

void Collector::collect(const RolloutArrays& rollout, Discount discount,
                        const StepOutputs& outputs) {
    const int count = environment_.count();
    const int n_tiles = (count + kBlockRows - 1) / kBlockRows;
    for (int e = 0; e < count; ++e) {
        first_steps_[static_cast<std::size_t>(e)] = steps_ - environment_.batch().elapsed[e];
    }
    std::vector<std::vector<Episode>> found(static_cast<std::size_t>(n_tiles));
    const auto move_tiles = [&](std::size_t, std::size_t first, std::size_t last) {
        Floats scratch(scratch_size(ppo_.network()));
        Floats taken(static_cast<std::size_t>(kBlockRows * environment_.facts().actions));
        for (std::size_t number = first; number < last; ++number) {
            const int begin = static_cast<int>(number) * kBlockRows;
            Tile tile{begin, std::min(begin + kBlockRows, count), scratch, taken, {}};
            collect_tile(tile, rollout, discount.gamma, outputs);
            found[number] = std::move(tile.episodes);
        }
    };
    cpu::over_ranges(environment_.threads(), static_cast<std::size_t>(n_tiles), 1, move_tiles);
    steps_ += rollout.steps;
    episodes_.clear();
    for (const std::vector<Episode>& some : found) {
        episodes_.insert(episodes_.end(), some.begin(), some.end());
    }
    std::stable_sort(episodes_.begin(), episodes_.end(),
                     [](const Episode& a, const Episode& b) { return a.step < b.step; });
    DERL_AT_LEVEL(generalized_advantages)(
        {rollout.rewards, rollout.episode_starts, rollout.last_values, starts_.data(),
         static_cast<std::size_t>(rollout.steps), static_cast<std::size_t>(count)},
        rollout.values, discount, rollout.advantages, rollout.returns);
}

void Collector::resume(std::int64_t steps, const double* sums) {
    steps_ = steps;
    for (std::size_t e = 0; e < static_cast<std::size_t>(environment_.count()); ++e) {
        sums_[e] = sums[e];
        starts_[e] = environment_.batch().elapsed[e] == 0 ? 1 : 0;
    }
    episodes_.clear();
}

void Collector::collect_tile(Tile& tile, const RolloutArrays& rollout, float gamma,
                             const StepOutputs& outputs) {
    const ActorCritic& network = ppo_.network();
    const auto act_block = DERL_AT_LEVEL(act);
    const std::int64_t count = environment_.count();
    const std::size_t width = static_cast<std::size_t>(network.observation_size);
    const std::size_t row_bytes = static_cast<std::size_t>(tile.rows()) * width * sizeof(float);
    float* current = outputs.observations + static_cast<std::size_t>(tile.begin) * width;
    StepOutputs step = outputs;
    for (std::int64_t t = 0; t < rollout.steps; ++t) {
        const std::size_t first = static_cast<std::size_t>(t * count + tile.begin);
        std::memcpy(rollout.observations + first * width, current, row_bytes);
        std::memcpy(rollout.episode_starts + first, starts_.data() + tile.begin,
                    static_cast<std::size_t>(tile.rows()));
        const Actions actions{
            rollout.actions.discrete != nullptr ? rollout.actions.discrete + first : nullptr,
            rollout.actions.continuous != nullptr
                ? rollout.actions.continuous + first * static_cast<std::size_t>(network.action_size)
                : nullptr};
        act_block(network, current, tile.rows(), tile.scratch.data(),
                  {seed_, static_cast<std::uint64_t>(steps_ + t), tile.begin}, actions,
                  rollout.values + first, rollout.log_probs + first);
        step.rewards = rollout.rewards + t * count;
        const int n_finished = environment_.step_part(taken_actions(tile, actions), tile.begin,
                                                      tile.end, step);
        after_step(tile, step.rewards, steps_ + t, n_finished, gamma, outputs);
    }
    alignas(64) float values[kBlockRows];
    DERL_AT_LEVEL(evaluate)(network, current, tile.rows(), tile.scratch.data(), nullptr, values);
    std::copy_n(values, tile.rows(), rollout.last_values + tile.begin);
}

// As step_part wants them: for all environments, of which it reads the tile's.
const float* Collector::taken_actions(Tile& tile, const Actions& actions) const {
    const EnvironmentFacts& facts = environment_.facts();
    float* taken = tile.taken.data();
    if (facts.choices > 0) {
        DERL_AT_LEVEL(take_choices)(actions.discrete, tile.rows(), facts.choices, taken);
    } else {
        for (int i = 0; i < tile.rows() * facts.actions; ++i) {
            taken[i] = std::min(std::max(actions.continuous[i], facts.action_low),
                                facts.action_high);
        }
    }
    return taken - static_cast<std::ptrdiff_t>(tile.begin) * facts.actions;
}

void Collector::after_step(Tile& tile, float* rewards, std::int64_t step, int n_finished,
                           float gamma, const StepOutputs& outputs) {
    for (int e = tile.begin; e < tile.end; ++e) {
        sums_[static_cast<std::size_t>(e)] += double{rewards[e]};
    }
    std::memset(starts_.data() + tile.begin, 0, static_cast<std::size_t>(tile.rows()));
    const std::size_t width = static_cast<std::size_t>(ppo_.network().observation_size);
    for (int i = 0; i < n_finished; ++i) {
        const std::size_t e = static_cast<std::size_t>(
            environment_.batch().finished[tile.begin + i]);
        tile.episodes.push_back({step, static_cast<std::int32_t>(e), sums_[e],
                                 step + 1 - first_steps_[e]});
        sums_[e] = 0.0;
        first_steps_[e] = step + 1;
        starts_[e] = 1;
        if (outputs.truncated[e] != 0 && outputs.terminated[e] == 0) {
            alignas(64) float value[kBlockRows];
            DERL_AT_LEVEL(evaluate)(ppo_.network(), outputs.final_observations + e * width, 1,
                                    tile.scratch.data(), nullptr, value);
            rewards[e] = rewards[e] + gamma * value[0];
        }
    }
}

}  // namespace derl
