#include "cpu/ppo_orthogonal.hpp"

#include <derl/philox.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "cpu/network_layout.hpp"

namespace derl {

namespace {

std::vector<double> normals(std::size_t count, std::uint64_t seed, std::uint64_t tensor) {
    std::vector<double> numbers(count);
    for (std::size_t i = 0; i < count; i += 4) {
        const auto bits = random_bits<std::int32_t>(seed, Purpose::kWeights,
                                                    static_cast<std::int32_t>(i / 4), tensor);
        float four[4];
        normal_pair(bits.a, bits.b, four[0], four[1]);
        normal_pair(bits.c, bits.d, four[2], four[3]);
        std::copy_n(four, std::min<std::size_t>(4, count - i), &numbers[i]);
    }
    return numbers;
}

double dot(const double* x, const double* y, std::size_t count) {
    double sum = 0.0;
    for (std::size_t i = 0; i < count; ++i) {
        sum += x[i] * y[i];
    }
    return sum;
}

// Gram and Schmidt on normal vectors: any orthogonal matrix is as likely as any other (what a QR
// decomposition with a positive diagonal gives). Twice, for orthogonality to the last digits.
void make_orthonormal(std::vector<double>& rows, std::size_t count, std::size_t length) {
    for (std::size_t i = 0; i < count; ++i) {
        double* const row = &rows[i * length];
        for (std::size_t pass = 0; pass < 2 * i; ++pass) {
            const double* const other = &rows[pass % i * length];
            const double share = dot(row, other, length);
            for (std::size_t k = 0; k < length; ++k) {
                row[k] -= share * other[k];
            }
        }
        const double norm = std::sqrt(dot(row, row, length));
        for (std::size_t k = 0; k < length; ++k) {
            row[k] /= norm;
        }
    }
}

}  // namespace

void orthogonal_parameters(const ActorCritic& network, std::uint64_t seed, float log_std,
                           float* flat) {
    const std::vector<TensorPlace> places = tensor_places(network);
    std::size_t tensor = 0;
    if (network.distribution == Distribution::kGaussian) {
        std::fill_n(flat, places[0].rows, log_std);
        flat += places[tensor++].rows;
    }
    for (; tensor < places.size(); tensor += 2) {  // a weight and its bias
        const bool is_value_head = tensor + 2 == places.size();
        const bool is_action_head = tensor + 4 == places.size();
        const double gain = is_value_head ? 1.0 : is_action_head ? 0.01 : 1.4142135623730951;
        const auto outputs = static_cast<std::size_t>(places[tensor].rows);
        const auto inputs = static_cast<std::size_t>(places[tensor].columns);
        const std::size_t count = std::min(outputs, inputs);
        const std::size_t length = std::max(outputs, inputs);
        std::vector<double> rows = normals(count * length, seed, tensor);
        make_orthonormal(rows, count, length);
        for (std::size_t output = 0; output < outputs; ++output) {
            for (std::size_t input = 0; input < inputs; ++input) {
                const std::size_t entry =
                    outputs <= inputs ? output * length + input : input * length + output;
                *flat++ = static_cast<float>(gain * rows[entry]);
            }
        }
        flat = std::fill_n(flat, outputs, 0.0f);
    }
}

}  // namespace derl
