// How kernels are written and started, so that one text runs on a GPU and, in tests, on an emulated
// grid of plain C++ (tests/native_kernels/cuda/emulation):
//
//   DERL_KERNEL name(arguments) { for (grid_stride...) }      a kernel
//   DERL_SHARED(Type, name)                                   the block's dynamic shared memory
//   launch("name", name, shape, stream, arguments...)          starts it, checked
//
// A kernel loops over its work in strides of the grid, so that any grid is right.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/kernels.hpp"

namespace derl::cuda {

struct Shape {
    int blocks = 1;
    int threads = 1;
    std::size_t shared_bytes = 0;
};

inline constexpr int kThreads = 256;
// enough blocks to fill any card several times over; the strides do the rest
inline constexpr std::size_t kMostBlocks = 8192;

inline Shape shape_for(std::size_t count, int threads = kThreads, std::size_t shared_bytes = 0) {
    const std::size_t wanted = (count + threads - 1) / threads;
    return {static_cast<int>(wanted < kMostBlocks ? wanted : kMostBlocks), threads, shared_bytes};
}

template <class... Parameters>
KernelFacts facts_of(const char* name, void (*kernel)(Parameters...), int threads,
                     std::size_t shared_bytes = 0) {
    return {name, reinterpret_cast<const void*>(kernel), threads, shared_bytes};
}

}  // namespace derl::cuda

#ifdef __CUDACC__

#define DERL_KERNEL __global__ void
#define DERL_DEVICE __device__ __forceinline__
#define DERL_DEVICE_CALL __device__ __noinline__  // a call where inlining would copy much code
#define DERL_SHARED(Type, name)                                      \
    extern __shared__ __align__(16) unsigned char derl_shared_bytes[]; \
    Type* name = reinterpret_cast<Type*>(derl_shared_bytes)

namespace derl::cuda {

// more than 48 KiB of shared memory has to be asked for
inline constexpr std::size_t kCommonSharedBytes = 48 * 1024;

template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), const Shape& shape,
            cudaStream_t stream, Arguments... arguments) {
    if (shape.blocks == 0) {
        return;
    }
    if (shape.shared_bytes > kCommonSharedBytes) {
        check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                   cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   static_cast<int>(shape.shared_bytes)),
              name, __FILE__, __LINE__);
    }
    kernel<<<shape.blocks, shape.threads, shape.shared_bytes, stream>>>(
        static_cast<Parameters>(arguments)...);
    check(cudaGetLastError(), name, __FILE__, __LINE__);
}

}  // namespace derl::cuda

#else
#include "emulated_grid.hpp"
#endif

namespace derl::cuda {

DERL_DEVICE std::size_t first_of_thread() {
    return static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
DERL_DEVICE std::size_t grid_stride() { return static_cast<std::size_t>(gridDim.x) * blockDim.x; }

}  // namespace derl::cuda
