#include "cpu/kernels.hpp"
#include "cpu/float_environment.hpp"

#include <derl/moments.hpp>

namespace derl::cpu {

double merge_moments(const double* means, const double* variances, const double* counts,
                     std::size_t sets, std::size_t columns, double* mean, double* variance) {
    const IeeeFloats modes;
    double total = 0.0;
    for (std::size_t set = 0; set < sets; ++set) {
        total += counts[set];
    }
    for (std::size_t column = 0; column < columns; ++column) {
        Moments<double> merged;
        for (std::size_t set = 0; set < sets; ++set) {
            const std::size_t index = set * columns + column;
            merged.merge({means[index], variances[index], counts[set]});
        }
        mean[column] = merged.mean;
        variance[column] = merged.variance;
    }
    return total;
}

}  // namespace derl::cpu
