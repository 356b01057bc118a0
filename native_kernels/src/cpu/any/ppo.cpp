#include "cpu/ppo.hpp"

#include <algorithm>

namespace derl {

namespace {

// work(first row, rows) over blocks of rows
template <class Work>
void in_blocks(std::int64_t rows, const Work& work) {
    for (std::int64_t row = 0; row < rows; row += kBlockRows) {
        work(row, static_cast<int>(std::min<std::int64_t>(rows - row, kBlockRows)));
    }
}

Actions moved(const Actions& actions, std::int64_t rows, int action_size) {
    return {actions.discrete != nullptr ? actions.discrete + rows : nullptr,
            actions.continuous != nullptr ? actions.continuous + rows * action_size : nullptr};
}

}  // namespace

Ppo::Ppo(const PolicyShape& shape, const float* flat, int threads)
    : network_(laid_out(shape)),
      count_(derl::parameter_count(network_)),
      workers_(threads),
      parameters_(network_.size),
      first_(network_.size),
      second_(network_.size),
      scratch_(scratch_size(network_)),
      gradient_sum_(network_.size) {
    pack(network_, flat, parameters_.data());
    network_.parameters = parameters_.data();
}

void Ppo::read_parameters(float* flat) const { unpack(network_, parameters_.data(), flat); }

void Ppo::read_moments(float* first, float* second) const {
    unpack(network_, first_.data(), first);
    unpack(network_, second_.data(), second);
}

void Ppo::read_gradient_sum(float* flat) const { unpack(network_, gradient_sum_.data(), flat); }

void Ppo::write_moments(std::int64_t steps, const float* first, const float* second) {
    steps_ = steps;
    pack(network_, first, first_.data());
    pack(network_, second, second_.data());
}

void Ppo::act(const float* observations, std::int64_t rows, std::uint64_t seed, std::uint64_t step,
              const Actions& actions, float* values, float* log_probs) {
    const auto act_block = DERL_AT_LEVEL(act);
    in_blocks(rows, [&](std::int64_t row, int count) {
        act_block(network_, observations + row * network_.observation_size, count, scratch_.data(),
                  {seed, step, static_cast<std::int32_t>(row)},
                  moved(actions, row, network_.action_size), values + row, log_probs + row);
    });
}

void Ppo::values(const float* observations, std::int64_t rows, float* values) {
    const auto evaluate_block = DERL_AT_LEVEL(evaluate);
    alignas(64) float block[kBlockRows];
    in_blocks(rows, [&](std::int64_t row, int count) {
        evaluate_block(network_, observations + row * network_.observation_size, count,
                       scratch_.data(), nullptr, block);
        std::copy_n(block, count, values + row);
    });
}

void Ppo::best_actions(const float* observations, std::int64_t rows, const Actions& actions) {
    const auto best_of_block = DERL_AT_LEVEL(best_actions);
    in_blocks(rows, [&](std::int64_t row, int count) {
        best_of_block(network_, observations + row * network_.observation_size, count,
                      scratch_.data(), moved(actions, row, network_.action_size));
    });
}

}  // namespace derl
