#include "cpu/aggregation.hpp"

#include <algorithm>

#include <derl/weighted_mean.hpp>

#include "cpu/any/parallel.hpp"
#include "cpu/norms.hpp"

namespace derl::cpu {

void weighted_mean(const float* updates, const double* shares, std::size_t clients,
                   std::size_t parameters, int threads, float* mean) {
    const auto centre_of = DERL_AT_LEVEL(weighted_centre);
    over_ranges(threads, parameters, kNormBlock,
                [&](std::size_t, std::size_t begin, std::size_t end) {
                    double centre[kNormBlock];
                    for (; begin < end; begin += kNormBlock) {
                        const std::size_t width = std::min<std::size_t>(kNormBlock, end - begin);
                        centre_of({updates + begin, clients, parameters, width}, shares, centre);
                        std::copy(centre, centre + width, mean + begin);
                    }
                });
}

}  // namespace derl::cpu
