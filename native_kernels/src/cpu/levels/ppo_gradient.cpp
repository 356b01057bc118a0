#include <derl/categorical.hpp>
#include <derl/gaussian.hpp>

#include "cpu/network_backward.hpp"
#include "cpu/ppo_kernels.hpp"

namespace derl::DERL_LEVEL {

namespace {

// The lanes of group `row` that hold samples.
DERL_LANE M is_sample(int row, int rows) { return lane_numbers() < I(rows - row); }

DERL_LANE F kept(M mask, F x) { return select(mask, x, F(0.0f)); }

struct PolicyTotals {
    F objective = F(0.0f), entropy = F(0.0f), divergence = F(0.0f), clipped = F(0.0f);

    DERL_LANE void count(M mask, const ppo::PolicyTerm<F>& term) {
        objective = objective + kept(mask, term.objective);
        divergence = divergence + kept(mask, term.divergence);
        clipped = clipped + kept(mask, term.is_clipped);
    }
    DERL_LANE PolicySums summed() const {
        return {sum_lanes(objective), sum_lanes(entropy), sum_lanes(divergence),
                sum_lanes(clipped)};
    }
};

DERL_LANE ppo::PolicyTerm<F> term_of(const SampleBlock& block, int row, F log_prob,
                                     const ppo::LossSettings& settings) {
    return ppo::policy_term(log_prob, F::load(block.old_log_probs + row),
                            F::load(block.advantages + row), settings);
}

// heads: logits on entry, derivatives of the loss on return
void categorical_loss(const ActorCritic& network, const ppo::LossSettings& settings,
                      const SampleBlock& block, float share, float* heads, PolicySums* sums) {
    const int actions = network.action_size;
    PolicyTotals totals;
    for (int row = 0; row < block.rows; row += kLanes) {
        const M mask = is_sample(row, block.rows);
        const I chosen = I::load(block.discrete + row);
        float* const column = heads + row;
        const auto logits = [=](int a) __attribute__((always_inline)) {
            return F::load(column + a * kBlockRows);
        };
        const auto n = categorical::normaliser<F>(logits, actions);
        F chosen_logit = logits(0);
        F entropy(0.0f);
        for (int a = 0; a < actions; ++a) {
            chosen_logit = select(chosen == I(a), logits(a), chosen_logit);
            const F log_prob = categorical::log_prob(n, logits(a));
            entropy = fnma(exp(logits(a) - n.largest) / n.sum, log_prob, entropy);
        }
        const auto term = term_of(block, row, categorical::log_prob(n, chosen_logit), settings);
        totals.count(mask, term);
        totals.entropy = totals.entropy + kept(mask, entropy);
        const F by_log_prob = kept(mask, term.gradient * F(-share));
        const F by_entropy = kept(mask, F(settings.entropy_weight * share));
        for (int a = 0; a < actions; ++a) {
            const F log_prob = categorical::log_prob(n, logits(a));
            const F probability = exp(logits(a) - n.largest) / n.sum;
            const F indicator = select(chosen == I(a), F(1.0f), F(0.0f));
            const F by_policy = kept(mask, by_log_prob * (indicator - probability));
            fma(by_entropy, kept(mask, probability * (log_prob + entropy)), by_policy)
                .store(column + a * kBlockRows);
        }
    }
    *sums = totals.summed();
}

// heads: means on entry, derivatives of the loss on return
void gaussian_loss(const ActorCritic& network, const ppo::LossSettings& settings,
                   const SampleBlock& block, float share, float* heads, bool adds,
                   float* gradient, PolicySums* sums) {
    const float* log_std = network.parameters + network.log_std;
    const int size = network.action_size;
    PolicyTotals totals;
    F entropy(0.0f);
    for (int a = 0; a < size; ++a) {
        entropy = entropy + gaussian::entropy(F(log_std[a]));
    }
    F by_log_prob[kBlockRows / kLanes];
    for (int row = 0; row < block.rows; row += kLanes) {
        const M mask = is_sample(row, block.rows);
        F log_prob(0.0f);
        for (int a = 0; a < size; ++a) {
            log_prob = log_prob +
                       gaussian::log_prob(F::load(block.continuous + a * kBlockRows + row),
                                          F::load(heads + a * kBlockRows + row), F(log_std[a]));
        }
        const auto term = term_of(block, row, log_prob, settings);
        totals.count(mask, term);
        totals.entropy = totals.entropy + kept(mask, entropy);
        by_log_prob[row / kLanes] = kept(mask, term.gradient * F(-share));
    }
    for (int a = 0; a < size; ++a) {
        const F deviation_log(log_std[a]);
        const F inverse = exp(-deviation_log);
        F by_log_std(0.0f);
        for (int row = 0; row < block.rows; row += kLanes) {
            const M mask = is_sample(row, block.rows);
            float* const place = heads + a * kBlockRows + row;
            const F action = F::load(block.continuous + a * kBlockRows + row);
            const F z = gaussian::standardised(action, F::load(place), deviation_log);
            const F by_policy = by_log_prob[row / kLanes];
            const F by_scale = by_policy * fma(z, z, F(-1.0f)) - F(settings.entropy_weight * share);
            by_log_std = by_log_std + kept(mask, by_scale);
            kept(mask, by_policy * (z * inverse)).store(place);
        }
        float& place = gradient[network.log_std + a];
        place = adds ? place + sum_lanes(by_log_std) : sum_lanes(by_log_std);
    }
    *sums = totals.summed();
}

// values: on return, derivatives of the loss
float value_loss(const ppo::LossSettings& settings, const SampleBlock& block, float share,
                 float* values) {
    F squared_error(0.0f);
    for (int row = 0; row < block.rows; row += kLanes) {
        const M mask = is_sample(row, block.rows);
        const auto term = ppo::value_term(F::load(values + row), F::load(block.old_values + row),
                                          F::load(block.returns + row), settings);
        squared_error = squared_error + kept(mask, term.squared_error);
        kept(mask, term.gradient * F(settings.value_weight * share)).store(values + row);
    }
    return sum_lanes(squared_error);
}

// Forward, `loss` on the outputs in place, backward.
template <Activation kActivation, class Loss>
DERL_LANE void network_gradient(const ActorCritic& network, const Network& part,
                                const SampleBlock& block, const float* transposed, float* scratch,
                                bool adds, float* gradient, const Loss& loss) {
    const int x_stride = (network.observation_size + kLanes - 1) / kLanes * kLanes;
    float* outputs = scratch;
    float* next = outputs + part.head.outputs * kBlockRows;
    float* activations[kMaxHidden] = {};
    const float* x = block.observations;
    int stride = x_stride;
    for (int i = 0; i < part.depth; ++i) {
        activations[i] = next;
        forward_layer<kActivation>(part.hidden[i], network.parameters, x, stride, block.rows, next);
        x = next;
        stride = part.hidden[i].stride;
        next += kBlockRows * stride;
    }
    forward_head(part.head, network.parameters, x, block.rows, outputs);
    loss(outputs);
    backward<kActivation>(part, network.parameters, transposed, block.observations, x_stride,
                          block.rows, outputs, activations, adds, gradient);
}

template <Activation kActivation>
void policy_gradient(const ActorCritic& network, const ppo::LossSettings& settings,
                     const SampleBlock& block, float share, const float* transposed,
                     float* scratch, bool adds, float* gradient, PolicySums* sums) {
    network_gradient<kActivation>(
        network, network.policy, block, transposed, scratch, adds, gradient, [&](float* heads) {
            if (network.distribution == Distribution::kCategorical) {
                categorical_loss(network, settings, block, share, heads, sums);
            } else {
                gaussian_loss(network, settings, block, share, heads, adds, gradient, sums);
            }
        });
}

template <Activation kActivation>
void value_gradient(const ActorCritic& network, const ppo::LossSettings& settings,
                    const SampleBlock& block, float share, const float* transposed, float* scratch,
                    bool adds, float* gradient, float* squared_error) {
    network_gradient<kActivation>(
        network, network.value, block, transposed, scratch, adds, gradient,
        [&](float* values) { *squared_error = value_loss(settings, block, share, values); });
}

}  // namespace

void policy_gradient(const ActorCritic& network, const ppo::LossSettings& settings,
                     const SampleBlock& block, float share, const float* transposed,
                     float* scratch, bool adds, float* gradient, PolicySums* sums) {
    const auto run = network.activation == Activation::kTanh ? &policy_gradient<Activation::kTanh>
                                                             : &policy_gradient<Activation::kRelu>;
    run(network, settings, block, share, transposed, scratch, adds, gradient, sums);
}

void value_gradient(const ActorCritic& network, const ppo::LossSettings& settings,
                    const SampleBlock& block, float share, const float* transposed, float* scratch,
                    bool adds, float* gradient, float* squared_error) {
    const auto run = network.activation == Activation::kTanh ? &value_gradient<Activation::kTanh>
                                                             : &value_gradient<Activation::kRelu>;
    run(network, settings, block, share, transposed, scratch, adds, gradient, squared_error);
}

}  // namespace derl::DERL_LEVEL
