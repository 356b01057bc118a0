#include "cpu/ppo_kernels.hpp"
#include "cpu/simd/lanes.hpp"

namespace derl::DERL_LEVEL {

namespace {

DERL_LANE int lanes_left(std::size_t i, std::size_t count) {
    return count - i < kLanes ? static_cast<int>(count - i) : kLanes;
}

// weights: [inputs, stride]; transposed: [padded outputs, to_stride]; whole squares of 16
void transpose_layer(const float* weights, int inputs, int outputs, int stride, int to_stride,
                     float* transposed) {
    for (int input = 0; input < inputs; input += kLanes) {
        const int rows = inputs - input < kLanes ? inputs - input : kLanes;
        for (int output = 0; output < outputs; output += kLanes) {
            F square[kLanes];
#pragma GCC unroll 16
            for (int i = 0; i < kLanes; ++i) {
                // rows that lie behind a layer's last input are its bias, or another layer's
                square[i] = i < rows ? F::load(weights + (input + i) * stride + output) : F(0.0f);
            }
            transpose_square(square);
#pragma GCC unroll 16
            for (int i = 0; i < kLanes; ++i) {
                square[i].store(transposed + (output + i) * to_stride + input);
            }
        }
    }
}

}  // namespace

// In the order in which the backward pass wants them: from the last layer down to the second.
void transpose(const Network& network, const float* parameters, float* transposed) {
    for (int i = network.depth - 1; i > 0; --i) {
        const Layer& layer = network.hidden[i];
        const int to_stride = network.hidden[i - 1].stride;
        transpose_layer(parameters + layer.weights, layer.inputs, layer.outputs, layer.stride,
                        to_stride, transposed);
        transposed += layer.stride * to_stride;
    }
}

void normalise(float* x, int count) {
    const auto size = static_cast<std::size_t>(count);
    F sum(0.0f);
    for (std::size_t i = 0; i < size; i += kLanes) {
        sum = sum + load_first(x + i, lanes_left(i, size));
    }
    const float mean = sum_lanes(sum) / static_cast<float>(count);
    F squares(0.0f);
    for (std::size_t i = 0; i < size; i += kLanes) {
        const int left = lanes_left(i, size);
        const F d = load_first(x + i, left) - F(mean);
        squares = squares + select(lane_numbers() < I(left), d * d, F(0.0f));
    }
    const float variance = sum_lanes(squares) / static_cast<float>(count - 1);
    const float divisor = derl::sqrt(variance) + 1e-8f;
    for (std::size_t i = 0; i < size; i += kLanes) {
        const int left = lanes_left(i, size);
        store_first(x + i, (load_first(x + i, left) - F(mean)) / F(divisor), left);
    }
}

void squared_norms(const float* gradient, std::size_t size, double* norms) {
    for (std::size_t begin = 0; begin < size; begin += kNormBlock) {
        const std::size_t end = size - begin < kNormBlock ? size : begin + kNormBlock;
        F sums[4] = {F(0.0f), F(0.0f), F(0.0f), F(0.0f)};
        std::size_t i = begin;
        for (; i + 4 * kLanes <= end; i += 4 * kLanes) {
            for (int j = 0; j < 4; ++j) {
                const F x = F::load(gradient + i + static_cast<std::size_t>(j * kLanes));
                sums[j] = fma(x, x, sums[j]);
            }
        }
        for (; i < end; i += kLanes) {  // sizes are multiples of kLanes
            const F x = F::load(gradient + i);
            sums[0] = fma(x, x, sums[0]);
        }
        *norms++ = static_cast<double>(sum_lanes((sums[0] + sums[1]) + (sums[2] + sums[3])));
    }
}

void add(const float* x, std::size_t size, float* y) {
    for (std::size_t i = 0; i < size; i += kLanes) {
        (F::load(y + i) + F::load(x + i)).store(y + i);
    }
}

void add_differences(float factor, const float* x, const float* from, std::size_t size, float* y) {
    for (std::size_t i = 0; i < size; i += kLanes) {
        fma(F(factor), F::load(x + i) - F::load(from + i), F::load(y + i)).store(y + i);
    }
}

void adam_steps(const adam::Settings& settings, float scale, const float* gradient,
                std::size_t size, float* parameters, float* first, float* second) {
    for (std::size_t i = 0; i < size; i += kLanes) {
        F m = F::load(first + i);
        F v = F::load(second + i);
        adam::step(F::load(parameters + i), F::load(gradient + i) * F(scale), m, v, settings)
            .store(parameters + i);
        m.store(first + i);
        v.store(second + i);
    }
}

bool all_finite(const float* x, std::size_t count) {
    // the difference of a finite number with itself is zero, of any other one a NaN
    F sum(0.0f);
    for (std::size_t i = 0; i < count; i += kLanes) {
        const F lanes = load_first(x + i, lanes_left(i, count));
        sum = sum + (lanes - lanes);
    }
    return sum_lanes(sum) == 0.0f;
}

}  // namespace derl::DERL_LEVEL
