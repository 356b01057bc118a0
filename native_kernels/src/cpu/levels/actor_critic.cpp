#include "cpu/actor_critic.hpp"

#include <derl/categorical.hpp>
#include <derl/gaussian.hpp>
#include <derl/philox.hpp>

#include "cpu/network_forward.hpp"

namespace derl::DERL_LEVEL {

namespace {

template <Activation kActivation>
void forward(const Network& network, const float* parameters, const float* observations,
             int observation_size, int rows, float* scratch, float* outputs) {
    const float* x = observations;
    int stride = observation_size;
    float* buffers[2] = {scratch, scratch + kBlockRows * kMaxWidth};
    for (int i = 0; i < network.depth; ++i) {
        forward_layer<kActivation>(network.hidden[i], parameters, x, stride, rows, buffers[i % 2]);
        x = buffers[i % 2];
        stride = network.hidden[i].stride;
    }
    if (network.depth == 0) {
        copy_padded(x, observation_size, network.head.stride, rows, scratch);
        x = scratch;
    }
    forward_head(network.head, parameters, x, rows, outputs);
}

void forward(const ActorCritic& network, const Network& part, const float* observations, int rows,
             float* scratch, float* outputs) {
    if (network.activation == Activation::kTanh) {
        forward<Activation::kTanh>(part, network.parameters, observations,
                                   network.observation_size, rows, scratch, outputs);
    } else {
        forward<Activation::kRelu>(part, network.parameters, observations,
                                   network.observation_size, rows, scratch, outputs);
    }
}

void sample_categorical(const ActorCritic& network, const float* heads, int rows,
                        const ActionStream& stream, std::int64_t* actions, float* log_probs) {
    for (int row = 0; row < rows; row += kLanes) {
        const int count = rows - row < kLanes ? rows - row : kLanes;
        const I index = add_wrapping(lane_numbers(), I(stream.first_environment + row));
        const F u = uniform<F>(random_bits(stream.seed, Purpose::kAction, index, stream.step).a);
        const auto logits = [=](int a) { return F::load(heads + a * kBlockRows + row); };
        const auto drawn = categorical::sample<F>(logits, network.action_size, u);
        alignas(64) std::int32_t lanes[kLanes];
        drawn.action.store(lanes);
        for (int i = 0; i < count; ++i) {
            actions[row + i] = lanes[i];
        }
        store_first(log_probs + row, drawn.log_prob, count);
    }
}

// Four normal numbers in one draw; further ones under further purposes.
DERL_LANE void four_normals(const ActionStream& stream, I index, int group, F* normals) {
    const auto purpose =
        static_cast<Purpose>(static_cast<std::int32_t>(Purpose::kAction) | group << 8);
    const auto bits = random_bits(stream.seed, purpose, index, stream.step);
    normal_pair(bits.a, bits.b, normals[0], normals[1]);
    normal_pair(bits.c, bits.d, normals[2], normals[3]);
}

void sample_gaussian(const ActorCritic& network, const float* heads, int rows,
                     const ActionStream& stream, float* actions, float* log_probs) {
    const int size = network.action_size;
    const float* log_std = network.parameters + network.log_std;
    for (int row = 0; row < rows; row += kLanes) {
        const int count = rows - row < kLanes ? rows - row : kLanes;
        const I index = add_wrapping(lane_numbers(), I(stream.first_environment + row));
        F log_prob(0.0f);
        F normals[4];
        for (int a = 0; a < size; ++a) {
            if (a % 4 == 0) {
                four_normals(stream, index, a / 4, normals);
            }
            const F mean = F::load(heads + a * kBlockRows + row);
            const F action = fma(exp(F(log_std[a])), normals[a % 4], mean);
            log_prob = log_prob + gaussian::log_prob<F>(action, mean, F(log_std[a]));
            alignas(64) float lanes[kLanes];
            action.store(lanes);
            for (int i = 0; i < count; ++i) {
                actions[(row + i) * size + a] = lanes[i];
            }
        }
        store_first(log_probs + row, log_prob, count);
    }
}

}  // namespace

void evaluate(const ActorCritic& network, const float* observations, int rows, float* scratch,
              float* heads, float* values) {
    if (heads != nullptr) {
        forward(network, network.policy, observations, rows, scratch, heads);
    }
    if (values != nullptr) {
        forward(network, network.value, observations, rows, scratch, values);
    }
}

void sample(const ActorCritic& network, const float* heads, int rows, const ActionStream& stream,
            const Actions& actions, float* log_probs) {
    if (network.distribution == Distribution::kCategorical) {
        sample_categorical(network, heads, rows, stream, actions.discrete, log_probs);
    } else {
        sample_gaussian(network, heads, rows, stream, actions.continuous, log_probs);
    }
}

void act(const ActorCritic& network, const float* observations, int rows, float* scratch,
         const ActionStream& stream, const Actions& actions, float* values, float* log_probs) {
    float* heads = scratch;
    float* block_values = heads + network.action_size * kBlockRows;
    evaluate(network, observations, rows, block_values + kBlockRows, heads, block_values);
    for (int row = 0; row < rows; ++row) {
        values[row] = block_values[row];
    }
    sample(network, heads, rows, stream, actions, log_probs);
}

void best_actions(const ActorCritic& network, const float* observations, int rows, float* scratch,
                  const Actions& actions) {
    float* heads = scratch;
    evaluate(network, observations, rows, heads + network.action_size * kBlockRows, heads, nullptr);
    for (int row = 0; row < rows; ++row) {
        if (network.distribution == Distribution::kGaussian) {
            for (int a = 0; a < network.action_size; ++a) {
                actions.continuous[row * network.action_size + a] = heads[a * kBlockRows + row];
            }
            continue;
        }
        int best = 0;
        for (int a = 1; a < network.action_size; ++a) {
            best = heads[a * kBlockRows + row] > heads[best * kBlockRows + row] ? a : best;
        }
        actions.discrete[row] = best;
    }
}

}  // namespace derl::DERL_LEVEL
