// The order of an update is that of Stable-Baselines3's PPO.train(), 2.9.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "cpu/ppo.hpp"
#include "cpu/ppo_kernels.hpp"
#include "cpu/ppo_minibatch.hpp"

namespace derl {

namespace {

// Sums over one minibatch.
struct LossSums {
    double objective = 0, entropy = 0, divergence = 0, clipped = 0, squared_error = 0;
};

// Means over one minibatch.
struct Losses {
    double policy, value, entropy, divergence, clip_fraction;
};

constexpr std::size_t kAdamRange = 1 << 14;

// By squaring: the C library's pow() rounds differently from processor to processor.
double power(double base, std::int64_t exponent) {
    double result = 1.0;
    for (; exponent > 0; exponent >>= 1) {
        result = (exponent & 1) != 0 ? result * base : result;
        base *= base;
    }
    return result;
}

}  // namespace

class PpoUpdate {
public:
    PpoUpdate(Ppo& ppo, const RolloutView& rollout, const UpdateSettings& settings,
              const Drift& drift, std::int64_t most_samples);

    UpdateReport run(const SampleOrder& order);
    Losses minibatch_gradient(const std::int32_t* samples, std::int64_t count);
    void add_drift();
    const float* gradient() const { return gradient_.data(); }
    // number environment * steps + step -> step * environments + environment
    std::int32_t place_of(std::int64_t sample) const {
        return static_cast<std::int32_t>(sample % rollout_.steps * rollout_.environments +
                                         sample / rollout_.steps);
    }

private:
    void run_block(int block, int worker, bool is_policy, bool adds, float* gradient,
                   PolicySums* sums, float* squared_error);
    void add_blocks(int first, int count);
    LossSums sum_blocks() const;
    void step();
    bool run_epoch(const std::int32_t* order, UpdateReport& report);
    void fill_order(const SampleOrder& order, int epoch, std::vector<std::int32_t>& places) const;

    Ppo& ppo_;
    const RolloutView& rollout_;
    const UpdateSettings& settings_;
    const Drift& drift_;
    const ppo::LossSettings loss_;
    const ActorCritic& network_;
    Minibatch minibatch_;
    Floats gradient_, policy_transposed_, value_transposed_;
    Floats anchor_, correction_;  // empty where there is none
    std::vector<Floats> scratch_;         // one per worker
    std::vector<Floats> block_gradients_;  // those of the blocks that wait to be added
    std::vector<PolicySums> policy_sums_;
    std::vector<float> squared_errors_;
    std::vector<double> norms_;
};

PpoUpdate::PpoUpdate(Ppo& ppo, const RolloutView& rollout, const UpdateSettings& settings,
                     const Drift& drift, std::int64_t most_samples)
    : ppo_(ppo),
      rollout_(rollout),
      settings_(settings),
      drift_(drift),
      loss_{static_cast<float>(settings.clip_range), static_cast<float>(settings.clip_range_vf),
            static_cast<float>(settings.entropy_weight),
            static_cast<float>(settings.value_weight)},
      network_(ppo.network_),
      minibatch_(network_, most_samples),
      gradient_(network_.size),
      policy_transposed_(transposed_size(network_.policy)),
      value_transposed_(transposed_size(network_.value)),
      anchor_(drift.anchor != nullptr ? network_.size : 0),
      correction_(drift.correction != nullptr ? network_.size : 0),
      norms_((network_.size + kNormBlock - 1) / kNormBlock) {
    if (drift.anchor != nullptr) {
        pack(network_, drift.anchor, anchor_.data());
    }
    if (drift.correction != nullptr) {
        pack(network_, drift.correction, correction_.data());
    }
    const auto blocks = static_cast<std::size_t>((most_samples + kBlockRows - 1) / kBlockRows);
    policy_sums_.resize(blocks);
    squared_errors_.resize(blocks);
    const int workers = ppo.workers_.count();
    for (int i = 0; i < workers; ++i) {
        scratch_.emplace_back(std::max(gradient_scratch_size(network_.policy),
                                       gradient_scratch_size(network_.value)));
        if (workers > 1 && static_cast<std::size_t>(i) + 1 < blocks) {
            block_gradients_.emplace_back(network_.size);
        }
    }
}

void PpoUpdate::run_block(int block, int worker, bool is_policy, bool adds, float* gradient,
                          PolicySums* sums, float* squared_error) {
    const SampleBlock samples = minibatch_.block(block);
    const float share = 1.0f / static_cast<float>(minibatch_.count());
    float* scratch = scratch_[static_cast<std::size_t>(worker)].data();
    if (is_policy) {
        DERL_AT_LEVEL(policy_gradient)(network_, loss_, samples, share, policy_transposed_.data(),
                                       scratch, adds, gradient, sums);
    } else {
        DERL_AT_LEVEL(value_gradient)(network_, loss_, samples, share, value_transposed_.data(),
                                      scratch, adds, gradient, squared_error);
    }
}

// Blocks are added to the first one's gradient in their order, however many are computed at a time.
Losses PpoUpdate::minibatch_gradient(const std::int32_t* samples, std::int64_t count) {
    minibatch_.gather(rollout_, samples, count);
    if (settings_.normalises_advantage && count > 1) {
        DERL_AT_LEVEL(normalise)(minibatch_.advantages(), static_cast<int>(count));
    }
    DERL_AT_LEVEL(transpose)(network_.policy, network_.parameters, policy_transposed_.data());
    DERL_AT_LEVEL(transpose)(network_.value, network_.parameters, value_transposed_.data());
    const int blocks = minibatch_.blocks();
    const bool adds_at_once = block_gradients_.empty();
    const int wave = adds_at_once ? 1 : static_cast<int>(block_gradients_.size());
    for (int first = 0; first < blocks; first += wave) {
        const int in_wave = std::min(wave, blocks - first);
        ppo_.workers_.run(2 * in_wave, [&](int task, int worker) {
            const int block = first + task / 2;
            // the first block of all needs no memory of its own
            const bool is_direct = block == 0 || adds_at_once;
            float* gradient =
                is_direct ? gradient_.data()
                          : block_gradients_[static_cast<std::size_t>(
                                (block - 1) % static_cast<int>(block_gradients_.size()))].data();
            run_block(block, worker, task % 2 == 0, is_direct && block > 0, gradient,
                      &policy_sums_[static_cast<std::size_t>(block)],
                      &squared_errors_[static_cast<std::size_t>(block)]);
        });
        if (!adds_at_once) {
            add_blocks(std::max(first, 1), first + in_wave);
        }
    }
    const LossSums sums = sum_blocks();
    const auto n = static_cast<double>(count);
    return {-sums.objective / n, sums.squared_error / n, -sums.entropy / n, sums.divergence / n,
            sums.clipped / n};
}

void PpoUpdate::add_blocks(int first, int end) {
    const auto ranges = static_cast<int>((network_.size + kAdamRange - 1) / kAdamRange);
    ppo_.workers_.run(ranges, [&](int range, int) {
        const std::size_t begin = static_cast<std::size_t>(range) * kAdamRange;
        const std::size_t size = std::min(kAdamRange, network_.size - begin);
        for (int block = first; block < end; ++block) {
            const auto place = static_cast<std::size_t>(block - 1) % block_gradients_.size();
            DERL_AT_LEVEL(add)(block_gradients_[place].data() + begin, size,
                               gradient_.data() + begin);
        }
    });
}

LossSums PpoUpdate::sum_blocks() const {
    LossSums total;
    for (std::size_t block = 0; block < static_cast<std::size_t>(minibatch_.blocks()); ++block) {
        const PolicySums& sums = policy_sums_[block];
        total.objective += static_cast<double>(sums.objective);
        total.entropy += static_cast<double>(sums.entropy);
        total.divergence += static_cast<double>(sums.divergence);
        total.clipped += static_cast<double>(sums.clipped);
        total.squared_error += static_cast<double>(squared_errors_[block]);
    }
    return total;
}

// The gradient alone is summed: the drift is not the samples' doing.
void PpoUpdate::add_drift() {
    if (drift_.sums_gradients) {
        DERL_AT_LEVEL(add)(gradient_.data(), network_.size, ppo_.gradient_sum_.data());
    }
    if (drift_.anchor != nullptr) {
        DERL_AT_LEVEL(add_differences)(static_cast<float>(drift_.proximal),
                                       ppo_.parameters_.data(), anchor_.data(), network_.size,
                                       gradient_.data());
    }
    if (drift_.correction != nullptr) {
        DERL_AT_LEVEL(add)(correction_.data(), network_.size, gradient_.data());
    }
}

// Clipping of the gradient's norm and Adam.
void PpoUpdate::step() {
    DERL_AT_LEVEL(squared_norms)(gradient_.data(), network_.size, norms_.data());
    double squared = 0.0;
    for (const double norm : norms_) {
        squared += norm;
    }
    const double norm = std::sqrt(squared);
    if (!std::isfinite(norm)) {
        throw Diverged("the gradient is not finite at step " + std::to_string(ppo_.steps_ + 1) +
                       " of the optimizer");
    }
    const double scale = std::min(1.0, settings_.max_gradient_norm / (norm + 1e-6));
    const std::int64_t step = ++ppo_.steps_;
    const adam::Settings adam{
        static_cast<float>(1.0 - settings_.beta1),
        static_cast<float>(settings_.beta2),
        static_cast<float>(1.0 - settings_.beta2),
        static_cast<float>(settings_.learning_rate / (1.0 - power(settings_.beta1, step))),
        static_cast<float>(1.0 / std::sqrt(1.0 - power(settings_.beta2, step))),
        static_cast<float>(settings_.epsilon)};
    const auto ranges = static_cast<int>((network_.size + kAdamRange - 1) / kAdamRange);
    ppo_.workers_.run(ranges, [&](int range, int) {
        const std::size_t begin = static_cast<std::size_t>(range) * kAdamRange;
        DERL_AT_LEVEL(adam_steps)(adam, static_cast<float>(scale), gradient_.data() + begin,
                                  std::min(kAdamRange, network_.size - begin),
                                  ppo_.parameters_.data() + begin, ppo_.first_.data() + begin,
                                  ppo_.second_.data() + begin);
    });
}

// False where the policy has moved too far for another step.
bool PpoUpdate::run_epoch(const std::int32_t* order, UpdateReport& report) {
    const std::int64_t samples = rollout_.samples();
    double divergence = 0.0;
    std::int64_t minibatches = 0;
    bool goes_on = true;
    for (std::int64_t first = 0; goes_on && first < samples; first += settings_.batch_size) {
        const std::int64_t count = std::min(settings_.batch_size, samples - first);
        const Losses losses = minibatch_gradient(order + first, count);
        report.policy_loss += losses.policy;
        report.value_loss += losses.value;
        report.entropy_loss += losses.entropy;
        report.clip_fraction += losses.clip_fraction;
        report.loss = losses.policy + settings_.entropy_weight * losses.entropy +
                      settings_.value_weight * losses.value;
        divergence += losses.divergence;
        ++minibatches;
        goes_on = !(settings_.target_divergence > 0.0 &&
                    losses.divergence > 1.5 * settings_.target_divergence);
        if (goes_on) {
            add_drift();
            step();
            ++report.updates;
        }
    }
    report.divergence = divergence / static_cast<double>(minibatches);
    ++report.epochs;
    return goes_on;
}

void PpoUpdate::fill_order(const SampleOrder& order, int epoch,
                           std::vector<std::int32_t>& places) const {
    const std::int64_t samples = rollout_.samples();
    if (order.given == nullptr) {
        shuffle(order.seed, order.first_epoch + static_cast<std::uint64_t>(epoch), samples,
                places.data());
    }
    for (std::int64_t i = 0; i < samples; ++i) {
        auto& place = places[static_cast<std::size_t>(i)];
        if (order.given != nullptr) {
            place = place_of(order.given[epoch * samples + i]);
        } else if (rollout_.environments > 1) {
            place = place_of(place);
        }
    }
}

UpdateReport PpoUpdate::run(const SampleOrder& order) {
    UpdateReport report{};
    const std::int64_t samples = rollout_.samples();
    std::vector<std::int32_t> places(static_cast<std::size_t>(samples));
    const auto in_epoch = static_cast<double>((samples - 1) / settings_.batch_size + 1);
    for (int epoch = 0; epoch < settings_.epochs; ++epoch) {
        fill_order(order, epoch, places);
        if (!run_epoch(places.data(), report)) {
            break;
        }
    }
    // the minibatch that stopped the update has no step, but is counted
    const double minibatches =
        static_cast<double>(report.updates) +
        (static_cast<double>(report.updates) < in_epoch * report.epochs ? 1.0 : 0.0);
    report.policy_loss /= minibatches;
    report.value_loss /= minibatches;
    report.entropy_loss /= minibatches;
    report.clip_fraction /= minibatches;
    return report;
}

UpdateReport Ppo::update(const RolloutView& rollout, const UpdateSettings& settings,
                         const Drift& drift, const SampleOrder& order) {
    const std::lock_guard one_at_a_time(updates_);
    const IeeeFloats modes;
    const std::vector<float> parameters(parameters_.data(), parameters_.data() + network_.size);
    const std::vector<float> first(first_.data(), first_.data() + network_.size);
    const std::vector<float> second(second_.data(), second_.data() + network_.size);
    const std::int64_t steps = steps_;
    std::fill_n(gradient_sum_.data(), network_.size, 0.0f);
    try {
        return PpoUpdate(*this, rollout, settings, drift,
                         std::min(settings.batch_size, rollout.samples())).run(order);
    } catch (const Diverged&) {
        std::copy(parameters.begin(), parameters.end(), parameters_.data());
        std::copy(first.begin(), first.end(), first_.data());
        std::copy(second.begin(), second.end(), second_.data());
        steps_ = steps;
        throw;
    }
}

void Ppo::gradient(const RolloutView& rollout, const UpdateSettings& settings,
                   const Drift& drift, const std::int64_t* samples, std::int64_t count,
                   float* flat) {
    const std::lock_guard one_at_a_time(updates_);
    const IeeeFloats modes;
    std::fill_n(gradient_sum_.data(), network_.size, 0.0f);
    PpoUpdate update(*this, rollout, settings, drift, count);
    std::vector<std::int32_t> places(static_cast<std::size_t>(count));
    std::transform(samples, samples + count, places.begin(),
                   [&](std::int64_t sample) { return update.place_of(sample); });
    update.minibatch_gradient(places.data(), count);
    update.add_drift();
    unpack(network_, update.gradient(), flat);
}

}  // namespace derl
