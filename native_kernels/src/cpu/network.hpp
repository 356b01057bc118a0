// How the weights of an actor-critic lie in memory, and what its kernels need to know of its shape.
//
// Widths are padded with zeros to whole vectors of 16; a padded unit has zero weights on both sides,
// hence no gradient, and stays zero under Adam. Plain data: read by kernels at every level.
#pragma once

#include <cstddef>

namespace derl {

constexpr int kMaxHidden = 4;
constexpr int kMaxWidth = 512;
// Rows that one call of a kernel works on at most; gradients are summed over blocks of so many.
constexpr int kBlockRows = 64;

enum class Activation { kTanh, kRelu };
enum class Distribution { kCategorical, kGaussian };

// y = activation(x W + b). A hidden layer's weights lie [inputs][stride] with stride >= outputs, so
// that a vector holds neighbouring outputs; a head's lie [outputs][stride] with stride >= inputs.
struct Layer {
    int inputs, outputs, stride;
    std::size_t weights, bias;  // where they begin, counted in floats
};

struct Network {
    int depth;  // number of hidden layers
    Layer hidden[kMaxHidden];
    Layer head;
    int features;  // width of what the head reads, padded
};

struct ActorCritic {
    int observation_size, action_size;
    Distribution distribution;
    Activation activation;
    Network policy, value;
    std::size_t log_std;  // where it begins; gaussian only
    std::size_t size;     // of the packed parameters, in floats
    const float* parameters;
};

}  // namespace derl
