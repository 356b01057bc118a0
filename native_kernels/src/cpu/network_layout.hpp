// Where each weight of an actor-critic lies, and its way between Stable-Baselines3's order of
// parameters and the packed one.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "cpu/network.hpp"

namespace derl {

struct PolicyShape {
    int observation_size, action_size;
    Distribution distribution;
    Activation activation;
    std::vector<int> policy, value;  // widths of the hidden layers
};

// float32 memory on a cache line's boundary, zero at first.
class Floats {
public:
    explicit Floats(std::size_t size);
    float* data() { return data_.get(); }
    const float* data() const { return data_.get(); }
    std::size_t size() const { return size_; }

private:
    struct Free {
        void operator()(float* data) const;
    };
    std::size_t size_;
    std::unique_ptr<float[], Free> data_;
};

// Entry (row, column) of a tensor at packed[start + row * row_step + column * column_step].
struct TensorPlace {
    std::size_t start;
    int rows, columns;
    std::size_t row_step, column_step;
};

// No parameters in it yet.
ActorCritic laid_out(const PolicyShape& shape);
// In the order of Stable-Baselines3's policy.parameters(): log_std, the policy's hidden layers, the
// value's, the action head, the value head; weight [outputs, inputs] before bias.
std::vector<TensorPlace> tensor_places(const ActorCritic& network);
std::size_t parameter_count(const ActorCritic& network);
void pack(const ActorCritic& network, const float* flat, float* packed);
void unpack(const ActorCritic& network, const float* packed, float* flat);

}  // namespace derl
