// How client updates are merged: one thread for each parameter, clients in order.
#include <derl/weighted_mean.hpp>

#include "cuda/kernels.hpp"
#include "cuda/launch.cuh"

namespace derl::cuda {

namespace {

DERL_KERNEL weighted_mean_kernel(const float* updates, const double* shares, std::size_t clients,
                                 std::size_t parameters, float* mean) {
    for (std::size_t p = first_of_thread(); p < parameters; p += grid_stride()) {
        WeightedMean<float, double> column;
        for (std::size_t n = 0; n < clients; ++n) {
            column.add(updates[n * parameters + p], shares[n]);
        }
        mean[p] = column.result();
    }
}

}  // namespace

std::vector<KernelFacts> aggregation_facts() {
    return {{"weighted_mean", reinterpret_cast<const void*>(&weighted_mean_kernel), kThreads, 0}};
}

void weighted_mean(const float* updates, const double* shares, std::size_t clients,
                   std::size_t parameters, float* mean, cudaStream_t stream) {
    const std::size_t bytes = clients * sizeof(double);
    const Scratch on_device(bytes, stream);
    copy_in(on_device.as<double>(), shares, bytes, stream);
    launch("weighted_mean", weighted_mean_kernel, shape_for(parameters), stream, updates,
           on_device.as<const double>(), clients, parameters, mean);
}

}  // namespace derl::cuda
