// The backward pass of one network over a block of rows whose activations were kept. Derivatives of
// the pre-activations take the place of the activations.
#pragma once

#include "cpu/network_forward.hpp"

namespace derl::DERL_LEVEL {

// of the activation function, from its result
template <Activation kActivation>
DERL_LANE F derivative(F y) {
    if constexpr (kActivation == Activation::kTanh) {
        return fnma(y, y, F(1.0f));
    } else {
        return select(y > F(0.0f), F(1.0f), F(0.0f));
    }
}

DERL_LANE void put(float* place, F x, bool adds) {
    (adds ? F::load(place) + x : x).store(place);
}

// gradient[i, :] = sum over rows of left(row, i) * d[row, :]
DERL_LANE void weight_gradient(Left left, const float* d, int stride, int rows, int inputs,
                               bool adds, float* gradient) {
    product(left, {d, stride}, rows, nullptr, inputs, stride / kLanes,
            [=](int input, int vector, F sum) __attribute__((always_inline)) {
                put(gradient + input * stride + vector * kLanes, sum, adds);
            });
}

// gradient[:] = sum over rows of d[row, :]
DERL_LANE void bias_gradient(const float* d, int stride, int rows, bool adds, float* gradient) {
    for (int i = 0; i < stride; i += kLanes) {
        F sum(0.0f);
        for (int row = 0; row < rows; ++row) {
            sum = sum + F::load(d + row * stride + i);
        }
        put(gradient + i, sum, adds);
    }
}

// y[row, :] = derivative(y[row, :]) * sum over k of left(row, k) * weights[k, :]
template <Activation kActivation>
DERL_LANE void input_gradient(Left left, const float* weights, int depth, int stride, int rows,
                              float* y) {
    product(left, {weights, stride}, depth, nullptr, rows, stride / kLanes,
            [=](int row, int vector, F sum) __attribute__((always_inline)) {
                float* place = y + row * stride + vector * kLanes;
                (sum * derivative<kActivation>(F::load(place))).store(place);
            });
}

// Of a network's head and all its layers. activations[i]: [rows, stride] of hidden layer i, turned
// into derivatives; outputs: [head.outputs, kBlockRows], derivatives by the outputs, zeros past rows.
template <Activation kActivation>
void backward(const Network& network, const float* parameters, const float* transposed,
              const float* x, int x_stride, int rows, const float* outputs,
              float* const* activations, bool adds, float* gradient) {
    const Layer& head = network.head;
    const int depth = network.depth;
    const float* features = depth > 0 ? activations[depth - 1] : x;
    weight_gradient({outputs, kBlockRows, 1}, features, head.stride, rows, head.outputs, adds,
                    gradient + head.weights);
    for (int output = 0; output < head.outputs; ++output) {
        F sum(0.0f);
        for (int row = 0; row < rows; row += kLanes) {
            sum = sum + F::load(outputs + output * kBlockRows + row);
        }
        float& place = gradient[head.bias + output];
        place = adds ? place + sum_lanes(sum) : sum_lanes(sum);
    }
    if (depth == 0) {
        return;
    }
    input_gradient<kActivation>({outputs, 1, kBlockRows}, parameters + head.weights, head.outputs,
                                head.stride, rows, activations[depth - 1]);
    for (int i = depth - 1; i >= 0; --i) {
        const Layer& layer = network.hidden[i];
        const float* inputs = i > 0 ? activations[i - 1] : x;
        const int inputs_stride = i > 0 ? network.hidden[i - 1].stride : x_stride;
        bias_gradient(activations[i], layer.stride, rows, adds, gradient + layer.bias);
        weight_gradient({inputs, 1, inputs_stride}, activations[i], layer.stride, rows,
                        layer.inputs, adds, gradient + layer.weights);
        if (i > 0) {
            input_gradient<kActivation>({activations[i], layer.stride, 1}, transposed,
                                        layer.outputs, inputs_stride, rows, activations[i - 1]);
            transposed += layer.stride * inputs_stride;
        }
    }
}

}  // namespace derl::DERL_LEVEL
