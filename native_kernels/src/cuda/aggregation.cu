// How client updates are merged: one thread for each parameter, so that neighbouring threads read
// neighbouring words of each client's row.
#include <derl/scalar.hpp>
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

// Batcher's odd-even merge sort (sorting_network.hpp) of one column in shared memory, entry n at
// column[n * stride]: the same comparators for all threads, which therefore never part ways, and
// neighbouring threads in neighbouring banks.
DERL_DEVICE void sort_column(float* column, unsigned count, unsigned stride) {
    for (unsigned run = 1; run < count; run *= 2) {
        for (unsigned apart = run; apart >= 1; apart /= 2) {
            for (unsigned begin = apart % run; begin + apart < count; begin += 2 * apart) {
                for (unsigned n = begin; n < begin + apart && n + apart < count; ++n) {
                    if (n / (2 * run) == (n + apart) / (2 * run)) {
                        float* low = column + n * stride;
                        float* high = column + (n + apart) * stride;
                        const float a = *low, b = *high;
                        *low = min(a, b);
                        *high = max(a, b);
                    }
                }
            }
        }
    }
}

DERL_KERNEL order_statistics_kernel(const float* updates, unsigned clients, std::size_t parameters,
                                    unsigned first, unsigned last, float* mean) {
    DERL_SHARED(float, columns);
    float* column = columns + threadIdx.x;
    for (std::size_t p = first_of_thread(); p < parameters; p += grid_stride()) {
        bool is_ordered = true;
        for (unsigned n = 0; n < clients; ++n) {
            const float x = updates[n * parameters + p];
            is_ordered = is_ordered && x == x;
            column[n * blockDim.x] = x;
        }
        sort_column(column, clients, blockDim.x);
        float sum = 0.0f;
        for (unsigned n = first; n < last; ++n) {
            sum += column[n * blockDim.x];
        }
        const float result = sum / static_cast<float>(last - first);
        mean[p] = is_ordered ? result : float_of_bits(0x7fc00000);
    }
}

// as many columns to a block as fit what every card gives without asking
int threads_for(std::size_t clients) { return clients <= 96 ? 128 : clients <= 192 ? 64 : 32; }

std::size_t bytes_for(std::size_t clients) {
    return clients * static_cast<std::size_t>(threads_for(clients)) * sizeof(float);
}

}  // namespace

std::vector<KernelFacts> aggregation_facts() {
    constexpr std::size_t kUsualClients = 50;
    return {facts_of("weighted_mean", weighted_mean_kernel, kThreads),
            facts_of("mean_of_order_statistics", order_statistics_kernel,
                     threads_for(kUsualClients), bytes_for(kUsualClients))};
}

void weighted_mean(const float* updates, const double* shares, std::size_t clients,
                   std::size_t parameters, float* mean, cudaStream_t stream) {
    const std::size_t bytes = clients * sizeof(double);
    const Scratch on_device(bytes, stream);
    copy_in(on_device.as<double>(), shares, bytes, stream);
    launch("weighted_mean", weighted_mean_kernel, shape_for(parameters), stream, updates,
           on_device.as<const double>(), clients, parameters, mean);
}

void mean_of_order_statistics(const float* updates, std::size_t clients, std::size_t parameters,
                              std::size_t first, std::size_t last, float* mean,
                              cudaStream_t stream) {
    launch("mean_of_order_statistics", order_statistics_kernel,
           shape_for(parameters, threads_for(clients), bytes_for(clients)), stream, updates,
           static_cast<unsigned>(clients), parameters, static_cast<unsigned>(first),
           static_cast<unsigned>(last), mean);
}

}  // namespace derl::cuda
