// An actor-critic in one thread: the operations of src/cpu for one row, in their order, so that the
// bits are the CPU's. Weights are packed as cpu/network_layout.hpp has it and the same for all
// threads of a warp, hence one load for all; unit u of a layer's result is at column[u * stride] of
// shared memory, where neighbouring threads have neighbouring words.
#pragma once

#include <derl/categorical.hpp>
#include <derl/gaussian.hpp>
#include <derl/philox.hpp>

#include "cpu/network.hpp"
#include "cuda/launch.cuh"

namespace derl::cuda {

constexpr int kUnits = 16;  // results of a layer that are summed at a time

struct alignas(16) Four {
    float x[4];
};

// One thread's two buffers of activations.
struct Columns {
    float* x[2];
    unsigned stride;
};

// sums[u] = fma(input, weights[u], sums[u]); weights on 64 bytes
DERL_DEVICE void add_products(float input, const float* weights, float* sums) {
    for (int u = 0; u < kUnits; u += 4) {
        const Four four = *reinterpret_cast<const Four*>(weights + u);
        for (int i = 0; i < 4; ++i) {
            sums[u + i] = fma(input, four.x[i], sums[u + i]);
        }
    }
}

DERL_DEVICE void set_to_four(const float* from, float* sums) {
    for (int u = 0; u < kUnits; u += 4) {
        const Four four = *reinterpret_cast<const Four*>(from + u);
        for (int i = 0; i < 4; ++i) {
            sums[u + i] = four.x[i];
        }
    }
}

template <Activation kActivation>
DERL_DEVICE void forward_layer(const Layer& layer, const float* parameters, const float* x,
                               float* y, unsigned stride) {
    for (int first = 0; first < layer.stride; first += kUnits) {
        float sums[kUnits];
        set_to_four(parameters + layer.bias + first, sums);
        const float* weights = parameters + layer.weights + first;
        for (int i = 0; i < layer.inputs; ++i) {
            add_products(x[i * stride], weights + static_cast<std::size_t>(i) * layer.stride, sums);
        }
        for (int u = 0; u < kUnits; ++u) {
            y[(first + u) * stride] =
                kActivation == Activation::kTanh ? tanh(sums[u]) : max(sums[u], 0.0f);
        }
    }
}

// As sum_lanes of cpu/simd: halves, quarters, pairs.
DERL_DEVICE float sum_of_sixteen(float* sums) {
    for (int apart = 8; apart >= 1; apart /= 2) {
        for (int i = 0; i < apart; ++i) {
            sums[i] = sums[i] + sums[i + apart];
        }
    }
    return sums[0];
}

// The results of a network for the observation in columns.x[1]; kOutputs: of its head.
template <Activation kActivation, int kOutputs>
DERL_DEVICE_CALL void forward(const Network& network, const float* parameters, int observation_size,
                              const Columns& columns, float* outputs) {
    const float* x = columns.x[1];
    for (int i = 0; i < network.depth; ++i) {
        forward_layer<kActivation>(network.hidden[i], parameters, x, columns.x[i % 2],
                                   columns.stride);
        x = columns.x[i % 2];
    }
    if (network.depth == 0) {
        for (int i = observation_size; i < network.head.stride; ++i) {
            columns.x[1][i * columns.stride] = 0.0f;
        }
    }
    for (int output = 0; output < kOutputs; ++output) {
        const float* weights =
            parameters + network.head.weights + static_cast<std::size_t>(output) * network.head.stride;
        float sums[kUnits] = {};
        for (int first = 0; first < network.head.stride; first += kUnits) {
            float line[kUnits];
            set_to_four(weights + first, line);
            for (int u = 0; u < kUnits; ++u) {
                sums[u] = fma(x[(first + u) * columns.stride], line[u], sums[u]);
            }
        }
        outputs[output] = sum_of_sixteen(sums) + parameters[network.head.bias + output];
    }
}

// Where the random numbers of one action come from.
struct ActionNumbers {
    std::uint64_t seed, step;
    std::int32_t environment;
};

template <int kChoices>
DERL_DEVICE std::int64_t sample_choice(const float* logits, const ActionNumbers& numbers,
                                       float& log_prob) {
    const auto bits =
        random_bits(numbers.seed, Purpose::kAction, numbers.environment, numbers.step);
    const auto drawn = categorical::sample<float>([=](int a) { return logits[a]; }, kChoices,
                                                  uniform<float>(bits.a));
    log_prob = drawn.log_prob;
    return drawn.action;
}

template <int kActions>
DERL_DEVICE void sample_normal(const float* means, const float* log_std,
                               const ActionNumbers& numbers, float* actions, float& log_prob) {
    float normals[4];
    log_prob = 0.0f;
    for (int a = 0; a < kActions; ++a) {
        if (a % 4 == 0) {
            const auto purpose =
                static_cast<Purpose>(static_cast<std::int32_t>(Purpose::kAction) | (a / 4) << 8);
            const auto bits = random_bits(numbers.seed, purpose, numbers.environment, numbers.step);
            normal_pair(bits.a, bits.b, normals[0], normals[1]);
            normal_pair(bits.c, bits.d, normals[2], normals[3]);
        }
        actions[a] = fma(exp(log_std[a]), normals[a % 4], means[a]);
        log_prob = log_prob + gaussian::log_prob<float>(actions[a], means[a], log_std[a]);
    }
}

}  // namespace derl::cuda
