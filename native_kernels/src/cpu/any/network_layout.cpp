#include "cpu/network_layout.hpp"

#include <algorithm>
#include <new>

#include "cpu/actor_critic.hpp"
#include "cpu/ppo_kernels.hpp"

namespace derl {

namespace {

constexpr std::size_t kCacheLine = 64;
constexpr int kVector = 16;

int padded(int width) { return (width + kVector - 1) / kVector * kVector; }

Network laid_out_network(int inputs, const std::vector<int>& widths, int outputs,
                         std::size_t& end) {
    Network network{};
    network.depth = static_cast<int>(widths.size());
    for (int i = 0; i < network.depth; ++i) {
        const int stride = padded(widths[static_cast<std::size_t>(i)]);
        network.hidden[i] = {inputs, widths[static_cast<std::size_t>(i)], stride, end, 0};
        end += static_cast<std::size_t>(inputs) * static_cast<std::size_t>(stride);
        network.hidden[i].bias = end;
        end += static_cast<std::size_t>(stride);
        inputs = network.hidden[i].outputs;
    }
    network.features = padded(inputs);
    network.head = {inputs, outputs, network.features, end, 0};
    end += static_cast<std::size_t>(outputs) * static_cast<std::size_t>(network.features);
    network.head.bias = end;
    end += static_cast<std::size_t>(padded(outputs));
    return network;
}

void add_hidden(const Network& network, std::vector<TensorPlace>& places) {
    for (int i = 0; i < network.depth; ++i) {
        const Layer& layer = network.hidden[i];
        places.push_back({layer.weights, layer.outputs, layer.inputs, 1,
                          static_cast<std::size_t>(layer.stride)});
        places.push_back({layer.bias, layer.outputs, 1, 1, 1});
    }
}

void add_head(const Layer& head, std::vector<TensorPlace>& places) {
    places.push_back({head.weights, head.outputs, head.inputs,
                      static_cast<std::size_t>(head.stride), 1});
    places.push_back({head.bias, head.outputs, 1, 1, 1});
}

template <class Visit>
void for_each_entry(const ActorCritic& network, const Visit& visit) {
    std::size_t flat = 0;
    for (const TensorPlace& place : tensor_places(network)) {
        for (int row = 0; row < place.rows; ++row) {
            for (int column = 0; column < place.columns; ++column) {
                visit(flat++, place.start + static_cast<std::size_t>(row) * place.row_step +
                                  static_cast<std::size_t>(column) * place.column_step);
            }
        }
    }
}

}  // namespace

Floats::Floats(std::size_t size)
    : size_(size),
      data_(static_cast<float*>(::operator new[](std::max<std::size_t>(size, 1) * sizeof(float),
                                                 std::align_val_t{kCacheLine}))) {
    std::fill_n(data(), size, 0.0f);
}

void Floats::Free::operator()(float* data) const {
    ::operator delete[](data, std::align_val_t{kCacheLine});
}

ActorCritic laid_out(const PolicyShape& shape) {
    ActorCritic network{};
    network.observation_size = shape.observation_size;
    network.action_size = shape.action_size;
    network.distribution = shape.distribution;
    network.activation = shape.activation;
    std::size_t end = 0;
    if (shape.distribution == Distribution::kGaussian) {
        end += static_cast<std::size_t>(padded(shape.action_size));
    }
    network.policy =
        laid_out_network(shape.observation_size, shape.policy, shape.action_size, end);
    network.value = laid_out_network(shape.observation_size, shape.value, 1, end);
    network.size = end;
    return network;
}

std::vector<TensorPlace> tensor_places(const ActorCritic& network) {
    std::vector<TensorPlace> places;
    if (network.distribution == Distribution::kGaussian) {
        places.push_back({network.log_std, network.action_size, 1, 1, 1});
    }
    add_hidden(network.policy, places);
    add_hidden(network.value, places);
    add_head(network.policy.head, places);
    add_head(network.value.head, places);
    return places;
}

std::size_t parameter_count(const ActorCritic& network) {
    std::size_t count = 0;
    for_each_entry(network, [&](std::size_t, std::size_t) { ++count; });
    return count;
}

void pack(const ActorCritic& network, const float* flat, float* packed) {
    std::fill_n(packed, network.size, 0.0f);
    for_each_entry(network, [=](std::size_t from, std::size_t to) { packed[to] = flat[from]; });
}

void unpack(const ActorCritic& network, const float* packed, float* flat) {
    for_each_entry(network, [=](std::size_t to, std::size_t from) { flat[to] = packed[from]; });
}

std::size_t scratch_size(const ActorCritic& network) {
    const std::size_t heads = static_cast<std::size_t>(network.action_size) + 1;
    const std::size_t widest = static_cast<std::size_t>(
        std::max({2 * kMaxWidth, network.policy.features, network.value.features}));
    return (heads + widest) * kBlockRows;
}

std::size_t gradient_scratch_size(const Network& part) {
    std::size_t columns = static_cast<std::size_t>(part.head.outputs);
    for (int i = 0; i < part.depth; ++i) {
        columns += static_cast<std::size_t>(part.hidden[i].stride);
    }
    return columns * kBlockRows;
}

std::size_t transposed_size(const Network& network) {
    std::size_t size = 0;
    for (int i = 1; i < network.depth; ++i) {
        size += static_cast<std::size_t>(network.hidden[i].stride) *
                static_cast<std::size_t>(network.hidden[i - 1].stride);
    }
    return size;
}

}  // namespace derl
