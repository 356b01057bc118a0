// The forward pass of one network over a block of rows, with or without keeping the activations.
#pragma once

#include "cpu/network.hpp"
#include "cpu/network_tiles.hpp"

namespace derl::DERL_LEVEL {

template <Activation kActivation>
DERL_LANE F activated(F x) {
    return kActivation == Activation::kTanh ? tanh(x) : max(x, F(0.0f));
}

// y: [rows, layer.stride]; x: [rows, x_stride]
template <Activation kActivation>
void forward_layer(const Layer& layer, const float* parameters, const float* x, int x_stride,
                   int rows, float* y) {
    const int stride = layer.stride;
    product({x, x_stride, 1}, {parameters + layer.weights, stride}, layer.inputs,
            parameters + layer.bias, rows, stride / kLanes,
            [=](int row, int vector, F sum) __attribute__((always_inline)) {
                activated<kActivation>(sum).store(y + row * stride + vector * kLanes);
            });
}

// outputs: [head.outputs, kBlockRows]; x: [rows, head.stride], zeros in the padding
DERL_LANE void forward_head(const Layer& head, const float* parameters, const float* x, int rows,
                            float* outputs) {
    for (int output = 0; output < head.outputs; ++output) {
        const float* weights = parameters + head.weights + output * head.stride;
        const float bias = parameters[head.bias + output];
        for (int row = 0; row < rows; ++row) {
            F sum(0.0f);
            for (int i = 0; i < head.stride; i += kLanes) {
                sum = fma(F::load(x + row * head.stride + i), F::load(weights + i), sum);
            }
            outputs[output * kBlockRows + row] = sum_lanes(sum) + bias;
        }
    }
}

DERL_LANE void copy_padded(const float* x, int width, int stride, int rows, float* y) {
    for (int row = 0; row < rows; ++row) {
        for (int i = 0; i < stride; i += kLanes) {
            const int left = width - i < kLanes ? width - i : kLanes;
            load_first(x + row * width + i, left).store(y + row * stride + i);
        }
    }
}

}  // namespace derl::DERL_LEVEL
