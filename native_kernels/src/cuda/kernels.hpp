// The CUDA launchers over the mathematics in include/derl, as plain functions: device pointers to
// row-major arrays of the current device that the caller owns, unless a comment says host. Each
// starts its work on the stream and returns; none synchronises. @throws KernelError where CUDA
// refuses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cuda/runtime.hpp"

namespace derl::cuda {

// What a compiled kernel takes and how full it can make the current device.
struct KernelFacts {
    const char* name;
    const void* function;
    int threads;
    std::size_t shared_bytes;
};
std::vector<KernelFacts> aggregation_facts();
std::vector<KernelFacts> all_facts();

// updates: float32[clients, parameters]; shares (host): float64[clients]; mean: float32[parameters]
void weighted_mean(const float* updates, const double* shares, std::size_t clients,
                   std::size_t parameters, float* mean, cudaStream_t stream);

}  // namespace derl::cuda
