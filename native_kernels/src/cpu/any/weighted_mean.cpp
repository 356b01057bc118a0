#include "cpu/aggregation.hpp"

#include <algorithm>
#include <array>

#include <derl/weighted_mean.hpp>

#include "cpu/float_environment.hpp"

namespace derl::cpu {

namespace {
// 8 KiB of accumulators: they stay in the first-level cache while the clients' rows stream by.
constexpr std::size_t kBlock = 1024;
}  // namespace

void weighted_mean(const float* updates, const double* shares, std::size_t clients,
                   std::size_t parameters, float* mean) {
    const IeeeFloats modes;
    for (std::size_t begin = 0; begin < parameters; begin += kBlock) {
        const std::size_t width = std::min(kBlock, parameters - begin);
        std::array<WeightedMean<float, double>, kBlock> columns{};
        for (std::size_t client = 0; client < clients; ++client) {
            const float* row = updates + client * parameters + begin;
            const double share = shares[client];
            for (std::size_t column = 0; column < width; ++column) {
                columns[column].add(row[column], share);
            }
        }
        for (std::size_t column = 0; column < width; ++column) {
            mean[begin + column] = columns[column].result();
        }
    }
}

}  // namespace derl::cpu
